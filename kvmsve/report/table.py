"""A table of three columns as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Cells = tuple[str, str, str]
Row = Cells | str  # a string is a heading


def lines_of_table(title: Cells, rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table, the title first; columns are as wide as what is in them."""
    cells = [title, *(row for row in rows if not isinstance(row, str))]
    first, second, _ = (max(map(len, column)) for column in zip(*cells, strict=True))
    for row in (title, *rows):
        yield row if isinstance(row, str) else f"{row[0]:{first}} | {row[1]:{second}} | {row[2]}"
