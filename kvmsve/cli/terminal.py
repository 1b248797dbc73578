"""What a terminal shows beyond plain text: how far a command is, tables, colours.

Anywhere else (a pipe, NO_COLOR, TERM=dumb, 40 columns or fewer) the output is plain and the same every time. rich is
imported only where it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TextIO, TypeVar

from ..report import Cells, Row, lines_of_table

PLAIN_COLUMNS = 40
PATIENCE_SECONDS = 1.0
REFRESH_SECONDS = 0.1
ITEMS_BETWEEN_LOOKS = 64  # at the clock

Item = TypeVar("Item")


def is_rich(stream: TextIO) -> bool:
    """The stream is a terminal that shows more than plain text, and is wanted to."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > PLAIN_COLUMNS
    except (OSError, ValueError, AttributeError):  # closed, or no file of the system's
        return False


def with_progress(items: Iterable[Item], what: str, share: Callable[[], float]) -> Iterator[Item]:
    """The items; from the first second on standard error shows which share of the work is done, and the time left."""
    if not is_rich(sys.stderr):
        yield from items
        return
    start = monotonic()
    rest = iter(items)
    for count, item in enumerate(rest, start=1):
        yield item
        if count % ITEMS_BETWEEN_LOOKS == 0 and monotonic() - start > PATIENCE_SECONDS:
            yield from _shown(rest, what, share)


def _shown(items: Iterator[Item], what: str, share: Callable[[], float]) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    parts = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task, shown_at = progress.add_task(what, total=1.0), 0.0
        for count, item in enumerate(items, start=1):
            yield item
            if count % ITEMS_BETWEEN_LOOKS == 0 and monotonic() - shown_at > REFRESH_SECONDS:
                shown_at = monotonic()
                progress.update(task, completed=share(), refresh=True)


def print_styled(line: str, styles: Mapping[str, str]) -> None:
    """The line is on standard output; on a terminal, what matches a pattern has its style."""
    if not is_rich(sys.stdout):
        print(line)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text(line)
    for pattern, style in styles.items():
        text.highlight_regex(pattern, style)
    Console().print(text, soft_wrap=True)


def print_table(title: Cells, rows: Sequence[Row]) -> None:
    """Three columns under their titles are on standard output; a row that is a string is a heading."""
    if is_rich(sys.stdout):
        _print_rich_table(title, rows)
        return
    print(*lines_of_table(title, rows), sep="\n")


def _print_rich_table(title: Cells, rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, style in zip(title, ("", "cyan", "magenta"), strict=True):
        table.add_column(Text(name), style=style, overflow="fold")
    for row in rows:
        table.add_row(*([Text(row, "bold")] if isinstance(row, str) else map(Text, row)))
    Console().print(table)
