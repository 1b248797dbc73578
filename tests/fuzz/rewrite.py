"""kvmsve.rewrite: whatever arrays it is given, it refuses them and writes nothing, or writes what integers say.

Arrays are views of one memory. Where their states lie is known without numpy, and so whether a call may be refused.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, product
from math import prod
from typing import Any, NamedTuple

import atheris
import numpy as np
from numpy.lib.stride_tricks import as_strided

from kvmsve import rewrite

LONGEST = 64
WORDS: tuple[bytes, ...] = ()
MEMORY_BYTES = 1 << 15
STATES_MOST = 6
VQ_BYTES = 546
PARAMETERS = ["states", "dst_vq", "src_vq", "out", "threads"]
counts: Counter[str] = Counter()

Pick = atheris.FuzzedDataProvider
Array = np.ndarray[Any, np.dtype[np.uint8]]
CONTENT = random.Random(1).randbytes(MEMORY_BYTES)


class Layout(NamedTuple):
    """States of `size` bytes in memory, the first at `start`; leading axes are a length and a step in bytes each."""

    start: int
    axes: tuple[tuple[int, int], ...]
    size: int

    def of(self, memory: Array) -> Array:
        lengths, steps = ([axis[part] for axis in self.axes] for part in (0, 1))
        return as_strided(memory[self.start :], (*lengths, self.size), (*steps, 1))

    @property
    def starts(self) -> list[int]:
        """Where each state begins, in the order of indices."""
        offsets = (range(0, length * step, step) if step else [0] * length for length, step in self.axes)
        return [self.start + sum(place) for place in product(*offsets)]


def execute(data: bytes) -> None:
    pick = Pick(data)
    memory = np.frombuffer(CONTENT, np.uint8).copy()
    src_vq, dst_vq = (pick.ConsumeIntInRange(1, 16) for _ in range(2))
    states = _layout(pick, src_vq, _lengths(pick)) or Layout(0, (), VQ_BYTES * src_vq)
    out = _layout(pick, dst_vq, [length for length, _ in states.axes]) if pick.ConsumeBool() else None
    threads = pick.PickValueInList([*[1] * 14, 2, 3])
    arrays = states.of(memory), None if out is None else out.of(memory)
    if pick.ConsumeIntInRange(0, 3) == 0:
        _call_wrongly(pick, memory, dict(zip(PARAMETERS, (arrays[0], dst_vq, src_vq, arrays[1], threads), strict=True)))
        return
    wanted = [by_hand(CONTENT[start : start + states.size], dst_vq, src_vq) for start in states.starts]
    fits = out is None or _are_apart(states, out)
    try:
        result = rewrite(arrays[0], dst_vq, src_vq, arrays[1], threads)
    except ValueError as error:
        counts["refused"] += 1
        assert not fits, f"refused for no reason: {error}: {states}, {out}"
        assert memory.tobytes() == CONTENT, "refused, but written"
        return
    counts["rewritten"] += 1
    assert fits, f"not refused: {states}, {out}"
    assert result.shape == (*arrays[0].shape[:-1], VQ_BYTES * dst_vq)
    assert result.tobytes() == b"".join(wanted)
    expected = bytearray(CONTENT)
    for start, state in zip(out.starts if out else (), wanted, strict=bool(out)):
        expected[start : start + len(state)] = state
    assert memory.tobytes() == expected, "bytes beside the states are other than before"


def by_hand(state: bytes, dst_vq: int, src_vq: int) -> bytes:
    """One state at another length, register by register, as numbers."""
    registers, start = [], 0
    for count, quad_bytes in ((32, 16), (17, 2)):
        for _ in range(count):
            number = int.from_bytes(state[start : start + quad_bytes * src_vq], "little")
            kept = number & (1 << 8 * quad_bytes * dst_vq) - 1
            registers.append(kept.to_bytes(quad_bytes * dst_vq, "little"))
            start += quad_bytes * src_vq
    return b"".join(registers)


def _lengths(pick: Pick) -> list[int]:
    lengths = [pick.ConsumeIntInRange(0, 4) for _ in range(pick.ConsumeIntInRange(0, 3))]
    return lengths if prod(lengths) <= STATES_MOST else lengths[:1]


def _layout(pick: Pick, vq: int, lengths: list[int]) -> Layout | None:
    """Somewhere in memory, with axes of these lengths in any order of steps; None where they do not fit."""
    size = VQ_BYTES * vq
    steps: dict[int, int] = {}
    low, high = 0, size
    for axis in range(len(lengths))[:: -1 if pick.ConsumeBool() else 1]:
        span = high - low
        steps[axis] = pick.PickValueInList([span, span, -span, span + 7, size, 2 * size, 3 * size, -size, size - 1, 0])
        reach = steps[axis] * max(lengths[axis] - 1, 0)
        low, high = low + min(reach, 0), high + max(reach, 0)
    if high - low > MEMORY_BYTES:
        return None
    start = pick.ConsumeIntInRange(0, MEMORY_BYTES - (high - low)) - low
    return Layout(start, tuple((length, steps[axis]) for axis, length in enumerate(lengths)), size)


def _are_apart(states: Layout, out: Layout) -> bool:
    """No byte of out belongs to two states, or to states at all."""
    starts = sorted(out.starts)
    if any(later - start < out.size for start, later in pairwise(starts)):
        return False
    return all(to + out.size <= at or at + states.size <= to for to, at in product(starts, states.starts))


NO_ARRAYS = [None, 5, "states", b"states", [0] * VQ_BYTES, bytes(VQ_BYTES), np.uint8(1), object(), np.zeros(())]
NO_NUMBERS = [None, 1.0, "1", [1], b"\1", np.float64(1), 1j, 0, -1, 17, 1 << 10, 1 << 70, np.int8(-1), np.uint64(17)]
DTYPES = ["i1", "b1", "u2", "f4", "V1", "S1", "u1,u1"]
READ_ONLY = np.frombuffer(bytes(VQ_BYTES * 16), np.uint8)


def _call_wrongly(pick: Pick, memory: Array, arguments: dict[str, Any]) -> None:
    """One or two arguments become something else: TypeError or ValueError says which, and nothing is written."""
    for _ in range(pick.ConsumeIntInRange(1, 2)):
        name = pick.PickValueInList(PARAMETERS)
        is_array = name in ("states", "out")
        arguments[name] = _wrong_array(pick, arguments[name]) if is_array else pick.PickValueInList(NO_NUMBERS)
    before = memory.tobytes()
    try:
        rewrite(**arguments)
    except (TypeError, ValueError) as error:
        counts["wrong"] += 1
        assert any(name in str(error) for name in PARAMETERS), f"does not say what is wrong: {error!r}"
        assert memory.tobytes() == before, "refused, but written"
    else:
        counts["harmless"] += 1


def _wrong_array(pick: Pick, array: Any) -> Any:
    """Another array, or none; some of these are right in every way."""
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != np.uint8
        or not array.ndim
        or not pick.ConsumeIntInRange(0, 2)
    ):
        return pick.PickValueInList(NO_ARRAYS)
    match pick.ConsumeIntInRange(0, 11):
        case 0:
            return array.astype(pick.PickValueInList(DTYPES[:2]))
        case 1:
            return np.empty(array.shape, pick.PickValueInList(DTYPES))
        case 2:
            return array[..., ::2]
        case 3:
            return array[..., ::-1]
        case 4:
            return array[..., : pick.ConsumeIntInRange(0, array.shape[-1])]
        case 5:
            return np.ma.masked_array(array)
        case 6:
            return array.view(np.matrix) if array.ndim == 2 else array.T
        case 7:
            return array[None]
        case 8:
            return array.astype("O") if array.size < 2000 else array[..., 0]
        case 9:
            return READ_ONLY[: array.shape[-1]].reshape((1,) * (array.ndim - 1) + (-1,))
        case 10:
            return array.reshape(-1)
    return array.view(np.recarray)


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    return bytes(atheris.Mutate(data, longest))


def seeds() -> Iterable[bytes]:
    pick = random.Random(2)
    for _ in range(64):
        yield pick.randbytes(48)
