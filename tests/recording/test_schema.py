"""What each field of a recording may be, value by value."""

from __future__ import annotations

from typing import Any

import pytest

from kvmsve.recording import schema

TABLE: list[tuple[Any, list[Any], list[Any]]] = [
    (schema.is_text, ["", "a", "\ud800"], [None, 1, b"a", ["a"]]),
    (schema.is_object, [{}, {"a": 1}], [None, [], "{}"]),
    (schema.is_flag, [True, False], [None, 0, 1, "true"]),
    (schema.is_int, [0, -1, 7, -(1 << 31), (1 << 31) - 1], [None, True, 1.0, "1", -(1 << 31) - 1, 1 << 31]),
    (schema.is_count, [0, 1, (1 << 64) - 1], [-1, 1 << 64, True, None, 1.0, "1"]),
    (
        schema.is_number,
        ["0", "f", "FFFFffff00000000"],
        ["", "0x1", "-1", "g", "0" * 17, 1, None, " 1", "1_0", "\u0661"],
    ),
    (schema.is_bytes, ["", "00", "aBcD"], ["0", "0g", "00 11", "0x00", None, 0, b"00", "\u0661\u0661"]),
    (schema.is_reg_id, ["6080000000150000", "ABCDEF0123456789"], ["", "608000000015000", "0x60800000001500", 1, None]),
    (schema.is_errno, ["EINVAL", "ENOENT", "E2BIG", "EINTR"], ["", "E", "EOOPS", "INVAL", "errorcode", "22", 22, None]),
    (schema.is_words, [[0] * 7, [(1 << 32) - 1] * 7], [[0] * 6, [0] * 8, [1 << 32, *[0] * 6], [-1] * 7, ["0"] * 7, 7]),
    (schema.is_lengths, [[], [1], [1, 2, 16], [2, 1]], [[0], [17], ["1"], [True], [1.0], 1, None, {"1": 1}]),
    (schema.is_bit, [0, 31], [-1, 32, 1 << 63, "0", True, 1.0, None, [1]]),
    (schema.is_bits, [[], [0], [31, 4]], [[32], [-1], ["0"], [False], 0, None]),
    (
        schema.is_id_regs,
        [{}, {"603000000013c020": "1100000000000000"}],
        [[], None, {"603000000013c020": "11"}, {"c020": "1100000000000000"}, {"603000000013c020": 17}],
    ),
    (schema.is_ids, [[], ["603000000013c020"]], [["c020"], [1], "603000000013c020", None, {"603000000013c020": 1}]),
    (schema.is_steps, [[], [{}], [{"rdvl": 16}]], [[1], [[]], {}, None, "rdvl"]),
    (schema.is_mode, ["sm", "za"], ["", "smza", 1, None, ["sm"], {}]),
]


@pytest.mark.parametrize(("check", "right", "wrong"), TABLE, ids=[check.__name__ for check, *_ in TABLE])
def test_check_accepts_and_refuses(check: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [value for value in right if check(value) is not True] == []
    assert [value for value in wrong if check(value) is not False] == []


def test_every_check_is_in_the_table_and_says_what_is_wrong() -> None:
    fields = [schema.HOST_FIELDS, schema.OPTIONAL_HOST_FIELDS, schema.OPTIONAL_STEP_FIELDS]
    fields += [*schema.OP_FIELDS.values(), *schema.OPTIONAL_OP_FIELDS.values(), *schema.STEP_FIELDS.values()]
    used = {check for names in fields for check in names.values()}
    assert used <= {check for check, *_ in TABLE}
    assert all(str(check.__doc__).startswith(("not ", "neither ")) for check in used)


def test_operations_and_steps_are_those_of_the_format() -> None:
    """FORMAT.md."""
    assert set(schema.OP_FIELDS) == {
        "case", "note", "check_extension", "create_vm", "create_vcpu", "enable_cap", "close", "vcpu_init", "finalize",
        "get", "set", "get_short", "set_short", "reg_list", "run", "fail_allocations", "held",
    }  # fmt: skip
    assert set(schema.STEP_FIELDS) == {
        "msr",
        "mrs",
        "smstart",
        "smstop",
        "rdvl",
        "rdsvl",
        "write",
        "read",
        "narrow",
        "undef",
    }
