"""The list of deliberate faults: what an entry is, which entries are refused, and which are asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COMPILED = (".c", ".h")


class BadList(Exception):
    """The list, or what is asked of it, cannot be used; one line that says what to do."""


@dataclass(frozen=True)
class Fault:
    """One text of one file that another takes the place of.

    `breaks` is the rule that is broken, in a line. `tests` are the files of tests/ that are likely to notice, which run
    first: they decide how soon the fault is caught, never whether.
    """

    number: int
    file: str
    breaks: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def is_compiled(self) -> bool:
        return self.file.endswith(COMPILED)

    def check(self, root: Path) -> None:
        """BadList unless the fault can be applied to the project at `root`, and changes something there."""
        path = root / self.file
        if not path.is_file():
            raise self._stale("there is no such file")
        count = path.read_text().count(self.old)
        if count != 1:
            raise self._stale(f"the old text is there {count} times, not once; bring the entry up to date")
        if self.old == self.new:
            raise self._stale("the old text and the new are the same")

    def apply(self, root: Path) -> None:
        """The fault is in the project at `root`."""
        path = root / self.file
        path.write_text(path.read_text().replace(self.old, self.new))

    def __str__(self) -> str:
        return f"{self.number:3}  {self.file}: {self.breaks}"

    def _stale(self, reason: str) -> BadList:
        return BadList(f"fault {self.number}, {self.file} ({self.breaks}): {reason}")


def read_faults(path: Path, root: Path) -> list[Fault]:
    """The faults of a list for the project at `root`, numbered from 1. BadList for one that is incomplete or stale."""
    try:
        entries = tomllib.loads(path.read_text())["fault"]
    except tomllib.TOMLDecodeError as error:
        raise BadList(f"{path}: {error}") from None
    faults = [_read_entry(number, entry) for number, entry in enumerate(entries, start=1)]
    for fault in faults:
        fault.check(root)
    return faults


def _read_entry(number: int, entry: dict[str, object]) -> Fault:
    texts = {name: entry.get(name) for name in ("file", "breaks", "old", "new")}
    missing = [name for name, text in texts.items() if not isinstance(text, str)]
    unknown = entry.keys() - {*texts, "tests"}
    if missing or unknown:
        what = f"no {missing[0]}" if missing else f"an unknown key {min(unknown)}"
        raise BadList(f"fault {number}: the entry has {what}")
    tests = entry.get("tests", [tests_of(str(texts["file"]))])
    if not isinstance(tests, list):
        raise BadList(f"fault {number}: tests is a list of file names")
    return Fault(number, **{name: str(text) for name, text in texts.items()}, tests=tuple(map(str, tests)))


def tests_of(file: str) -> str:
    """Where the tests of a file are, below tests/: under its name, and for a module of a folder in that folder."""
    path = Path(file)
    return str(Path(*path.parent.parts[1:], f"test_{path.stem}.py"))


def select(faults: Sequence[Fault], words: Sequence[str], part: tuple[int, int]) -> list[Fault]:
    """The faults that the words name by number or file, all if there are none, and of those part k of n.

    BadList where that is none.
    """
    for word in words:
        if not any(_is_named(fault, word) for fault in faults):
            raise BadList(f"no fault has the number or file {word}; --list shows them")
    named = [fault for fault in faults if not words or any(_is_named(fault, word) for word in words)]
    k, n = part
    if k > len(named):
        raise BadList(f"part {k}/{n} has none of the {len(named)} faults: K is at most {len(named)} here")
    return named[k - 1 :: n]


def _is_named(fault: Fault, word: str) -> bool:
    return word in (str(fault.number), fault.file, Path(fault.file).name)
