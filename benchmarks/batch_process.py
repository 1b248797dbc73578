"""One process of bench_batch.py: `python batch_process.py STATES` prints each vq pair's two ratios as JSON.

All sides work between the same two arrays, which were used before, take turns, and count with their median time.

rewrite   kvmsve.rewrite(states, ..., out=out): bytes moved are all of `states`, read, and all of `out`, written
copy      numpy.copyto of half as many bytes, which reads that half and writes it: together as many bytes moved
kept      numpy.copyto of fewer bytes where states are narrowed: of `states` only what is kept counts as read

Of memory that is read, the CPU reads whole lines of 64 bytes, and a narrowed register keeps only a part of its lines:
that is why `copy` is what the goal is about, and why no conversion can come near `kept`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import kvmsve
from kvmsve.facts.layout import sve_state_bytes

PAIRS = [(4, 16), (8, 16), (4, 8), (16, 4), (16, 8), (8, 4)]
ROUNDS, STATES = 9, 1 << 15  # the least number of rounds, and of states in all rounds together


def seconds(function: Callable[[], object]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def ratios(count: int, src_vq: int, dst_vq: int, memory: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """rewrite / copy and rewrite / kept."""
    read, written = memory
    states, out = (
        array[: count * sve_state_bytes(vq)].reshape(count, -1) for array, vq in ((read, src_vq), (written, dst_vq))
    )
    half = (states.size + out.size) // 2
    kept = (min(states.size, out.size) + out.size) // 2
    sides = (
        lambda: kvmsve.rewrite(states, dst_vq, src_vq, out=out),
        lambda: np.copyto(written[:half], read[:half]),
        lambda: np.copyto(written[:kept], read[:kept]),
    )
    rounds = [[seconds(side) for side in sides] for _ in range(1 + max(ROUNDS, STATES // count))]
    rewrite, copy, copy_of_kept = map(median, zip(*rounds[1:], strict=True))
    return rewrite / copy, rewrite / copy_of_kept


def main(count: int) -> None:
    longest = max(max(pair) for pair in PAIRS)
    read, written = (np.ones(count * sve_state_bytes(longest), np.uint8) for _ in range(2))
    print(json.dumps([ratios(count, src_vq, dst_vq, (read, written)) for src_vq, dst_vq in PAIRS]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
