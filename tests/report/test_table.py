"""Tables as text: what is under what."""

from __future__ import annotations

from kvmsve.report import lines_of_table


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    rows = [("Z0", "EPERM", "success"), "a heading that is longer than a column", ("SVCR of the vCPU", "0x1", "0x3")]
    assert list(lines_of_table(("register", "v9", "v10"), rows)) == [
        "register         | v9    | v10",
        "Z0               | EPERM | success",
        "a heading that is longer than a column",
        "SVCR of the vCPU | 0x1   | 0x3",
    ]


def test_a_table_without_rows_is_its_title() -> None:
    assert list(lines_of_table(("register", "v9", "v10"), [])) == ["register | v9 | v10"]
