"""Timing on a machine that does other things as well: what is compared takes turns, and the least of many counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from timeit import Timer
from typing import Any

ROUNDS = 40


def least(timers: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The least that each timer says, over rounds in which they take turns."""
    best = dict.fromkeys(timers, math.inf)
    for _ in range(rounds):
        for name, timer in timers.items():
            best[name] = min(best[name], timer())
    return best


def statements(code: dict[str, str], names: dict[str, Any], calls: int = 2000) -> dict[str, float]:
    """Nanoseconds that each statement takes, run `calls` times in a row in each round."""

    def timer(statement: str) -> Callable[[], float]:
        prepared = Timer(statement, globals=names)
        return lambda: prepared.timeit(calls) / calls * 1e9

    return least({name: timer(statement) for name, statement in code.items()})


def mean(ratios: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))
