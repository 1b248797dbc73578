"""Timing on a machine that does other things as well: what is compared takes turns, and the least of many counts.

The rounds are in five parts, one after the other. A figure is computed from each part; it is the median of the five,
and how far they lie apart says how much to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from timeit import Timer
from typing import Any, TypeVar

Name = TypeVar("Name", bound=Hashable)

ROUNDS = 40
PARTS = 5


def least(timers: dict[Name, Callable[[], float]], rounds: int = ROUNDS) -> list[dict[Name, float]]:
    """For each part the least that each timer says, over rounds in which they take turns."""
    parts = []
    for _ in range(PARTS):
        best = dict.fromkeys(timers, math.inf)
        for _ in range(rounds // PARTS):
            for name, timer in timers.items():
                best[name] = min(best[name], timer())
        parts.append(best)
    return parts


def overall(parts: list[dict[Name, float]]) -> dict[Name, float]:
    """The least of all parts."""
    return {name: min(part[name] for part in parts) for name in parts[0]}


def statements(code: dict[str, str], names: dict[str, Any], calls: int = 2000) -> list[dict[str, float]]:
    """For each part the nanoseconds that each statement takes, run `calls` times in a row in each round."""

    def timer(statement: str) -> Callable[[], float]:
        prepared = Timer(statement, globals=names)
        return lambda: prepared.timeit(calls) / calls * 1e9

    return least({name: timer(statement) for name, statement in code.items()})


def mean(ratios: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))
