"""What differs between two revisions for a userspace program, as a table.

The probes tell what each revision does in every setting; here the texts are compared, and settings in which the same
two texts stand against each other become one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..facts import Abi
from ..report import Row as TableRow
from .probes import PROBES, Probe
from .settings import AFTER, BEFORE, BOTH, NO_VECTORS, SME, SVE, Bench, Lengths, Setting, Unavailable, settings

Texts = tuple[str, str]
Box = dict[str, list[Any]]  # by part of a setting, its values
Aspect = tuple[str, str]  # a text, and what {} in it stands for
Seen = dict[Setting, dict[Aspect, str]]  # by one probe
Portrait = list[Seen]  # one for each probe


class Row(NamedTuple):
    """What differs, where, and what each of the two revisions does."""

    heading: str
    aspect: str
    condition: str
    first: str
    second: str


def differences(first: Abi, second: Abi, lengths: Lengths) -> list[Row]:
    """The rows that differ, in the order of the probes; ValueError for lengths that no host has."""
    return compare(portrait(first, lengths), portrait(second, lengths))


def portrait(abi: Abi, lengths: Lengths) -> Portrait:
    """All that the probes tell of a revision."""
    bench = Bench(abi, lengths)
    return [{setting: _look(probe, bench, setting) for setting in probe.settings()} for probe in PROBES]


def compare(first: Portrait, second: Portrait) -> list[Row]:
    """The rows in which two portraits differ."""
    return [row for probe, *seen in zip(PROBES, first, second, strict=True) for row in _rows(probe, *seen)]


def table(rows: Sequence[Row]) -> Iterator[TableRow]:
    """The rows of a table for people, under their headings."""
    heading = None
    for row in rows:
        if row.heading != heading:
            heading = row.heading
            yield heading
        yield f"  {row.aspect}{', ' if row.condition else ''}{row.condition}", row.first, row.second


def _look(probe: Probe, bench: Bench, setting: Setting) -> dict[Aspect, str]:
    try:
        return {(text, register): seen for text, register, seen in probe.look(bench, setting)}
    except Unavailable:
        return {}


def _rows(probe: Probe, first: Seen, second: Seen) -> Iterator[Row]:
    """The rows of one probe; aspects that are the same text of several registers are one row."""
    alike: dict[tuple[str, str, Texts], list[str]] = {}
    for (text, register), cells in _cells(first, second).items():
        impossible = first.keys() - cells.keys()
        for texts in dict.fromkeys(cells.values()):
            if texts[0] != texts[1]:
                where = [setting for setting in cells if cells[setting] == texts]
                for box in _boxes(probe, where, impossible):
                    alike.setdefault((text, _condition(probe, box, where), texts), []).append(register)
    for (text, condition, texts), registers in alike.items():
        yield Row(probe.heading, text.format(", ".join(registers)), condition, *texts)


def _cells(first: Seen, second: Seen) -> dict[Aspect, dict[Setting, Texts]]:
    """What both revisions do, by aspect, in the settings that both have."""
    cells: dict[Aspect, dict[Setting, Texts]] = {}
    for setting, ours in first.items():
        theirs = second[setting]
        for aspect, text in ours.items():
            if aspect in theirs:
                cells.setdefault(aspect, {})[setting] = text, theirs[aspect]
    return cells


def _boxes(probe: Probe, where: Sequence[Setting], impossible: set[Setting]) -> Iterator[Box]:
    """Few boxes that cover these settings, and of the others at most impossible ones."""
    allowed, left = impossible.union(where), list(where)
    while left:
        grown = [
            _grow(probe, left[0], allowed, [*probe.dimensions][turn:]) for turn in range(len(probe.dimensions) or 1)
        ]
        box = max(grown, key=lambda box: len(_inside(box).intersection(left)))
        yield box
        covered = _inside(box)
        left = [setting for setting in left if setting not in covered]


def _grow(probe: Probe, seed: Setting, allowed: set[Setting], order: Sequence[str]) -> Box:
    """The box around the seed that is as large as can be, in the parts of `order` first."""
    box: Box = {part: [getattr(seed, part)] for part in probe.dimensions}
    for part in dict.fromkeys([*order, *box]):
        for value in probe.dimensions[part]:
            if value not in box[part] and _inside({**box, part: [value]}) <= allowed:
                box[part].append(value)
    return box


def _inside(box: Box) -> set[Setting]:
    return {*settings(box)}


def _condition(probe: Probe, box: Box, where: Sequence[Setting]) -> str:
    """In which settings, where not in all that can be."""
    met = _inside(box).intersection(where)
    return ", ".join(
        _WORDS[part]([value for value in values if any(getattr(setting, part) == value for setting in met)])
        for part, values in box.items()
        if len(values) < len(probe.dimensions[part])
    )


def _feature_words(values: list[Any]) -> str:
    return _FEATURE_WORDS.get(frozenset(values)) or " or ".join(values)


def _stage_words(values: list[Any]) -> str:
    return "after INIT" if values == [BEFORE, AFTER] else " or ".join(values)


_FEATURE_WORDS: dict[frozenset[str], str] = {
    frozenset({SME, BOTH}): "with SME",
    frozenset({SVE, BOTH}): "with SVE",
    frozenset({SVE, SME, BOTH}): "with vectors",
    frozenset({NO_VECTORS, SVE}): "without SME",
    frozenset({NO_VECTORS, SME}): "without SVE",
    frozenset({SVE}): "SVE alone",
    frozenset({SME}): "SME alone",
}
_WORDS: dict[str, Callable[[list[Any]], str]] = {
    "features": _feature_words,
    "stage": _stage_words,
    "sm": lambda values: f"SM={values[0]:d}",
    "za": lambda values: f"ZA={values[0]:d}",
    "sme2": lambda values: "SME2" if values[0] else "no SME2",
    "fa64": lambda values: "FA64" if values[0] else "no FA64",
}
