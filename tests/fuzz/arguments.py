"""Arguments of calls: each for two machines, plain for the one, of another type with the same value for the other."""

from __future__ import annotations

import array
import ctypes
from collections.abc import Callable
from typing import Any

import atheris
import numpy as np

from kvmsve.facts import regid

Pick = atheris.FuzzedDataProvider
Pair = tuple[Any, Any]  # the same for one machine and for the other

IDS = [
    *regid.NAMES, regid.SME_VLS_FFFF, regid.SME_VLS_FFFE,
    *(regid.zreg_id(0, n) for n in (1, 31)), *(regid.preg_id(16, n) for n in (1, 31)),
    *(regid.za_row_id(row, n) for row in (0, 1, 15, 16, 31, 32, 63, 64, 127, 255, 256) for n in (0, 1)),
    regid.ZREG_MAX, regid.ZREG_MAX + 1, regid.PREG_MAX + 1, regid.ARM64, regid.ARM64 | regid.U32 | regid.DEMUX,
    regid.ARM64 | regid.U64 | regid.FW, regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP,
]  # fmt: skip
KNOWN_IDS = frozenset(IDS)
NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 31, 32, 64, 239, 255, 256, 511, 512, 1 << 31, (1 << 32) - 1, 1 << 32,
           1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200, -1, -2, -(1 << 31), -(1 << 63),
           -(1 << 64)]  # fmt: skip
# None equals a number: in a set the two would be one.
NOTHINGS = [None, "1", "", 1.5, 0.5, float("nan"), (1,), (), {}, {1: 2}, object(), 1j, np.zeros(2), np.zeros(())]
SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 512, 8192]


class Whole:
    """A number by __index__ alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def number(pick: Pick, usual: int | None = None) -> Pair:
    """A number, the same for both machines but for its type; rarely nothing of the kind."""
    kind = pick.ConsumeIntInRange(0, 31)
    if kind == 0:
        nothing = pick.PickValueInList(NOTHINGS)
        return nothing, nothing
    if usual is None or kind < 4:
        usual = pick.PickValueInList(NUMBERS) if kind % 2 else pick.ConsumeUInt(8)
    return usual, _other_number(pick, usual)


def _other_number(pick: Pick, value: int) -> Any:
    for fits, dtype in (
        (range(2), bool),
        (range(1 << 63), np.int64),
        (range(1 << 64), np.uint64),
        (range(256), np.uint8),
    ):
        if value in fits and not pick.ConsumeIntInRange(0, 3):
            return dtype(value)
    return Whole(value)


def register_id(pick: Pick) -> Pair:
    reg_id = pick.PickValueInList(IDS)
    match pick.ConsumeIntInRange(0, 7):
        case 0:
            reg_id ^= 1 << pick.ConsumeIntInRange(0, 63)
        case 1:
            reg_id = reg_id & ~regid.SIZE_MASK | pick.ConsumeIntInRange(0, 15) << regid.SIZE_SHIFT
        case 2:
            reg_id = reg_id & ~0xFFFF | pick.ConsumeUInt(2)
    return number(pick, reg_id)


def content(pick: Pick, size: int) -> bytes:
    """Bytes of this size, or of another."""
    if pick.ConsumeIntInRange(0, 3) == 0:
        size = pick.PickValueInList(SIZES)
    few = pick.ConsumeBytes(pick.ConsumeIntInRange(0, 8)) or b"\0"
    return (few * (size // len(few) + 1))[:size]


def buffer(pick: Pick, data: bytes) -> Pair:
    """These bytes, and something else that holds them; rarely nothing that has a buffer."""
    if pick.ConsumeIntInRange(0, 31) == 0:
        nothing = pick.PickValueInList(
            [None, "text", 5.5, (1, 2), object(), memoryview(b"abcd")[::2], np.zeros((4, 4))[::2]]
        )
        return nothing, nothing
    return data, writable(pick, data) if pick.ConsumeBool() else memoryview(data)


def writable(pick: Pick, data: bytes) -> Any:
    """A buffer of some type and shape, with these bytes in it, that can be written to."""
    kinds: list[Callable[[], Any]] = [
        lambda: bytearray(data),
        lambda: array.array("B", data),
        lambda: np.frombuffer(data, np.uint8).copy(),
        lambda: (ctypes.c_uint8 * len(data)).from_buffer_copy(data),
        lambda: memoryview(bytearray(data)),
        lambda: memoryview(bytearray(b"\0" + data + b"\0"))[1:-1],
    ]
    if len(data) % 8 == 0 and data:
        kinds += [
            lambda: array.array("d", data),
            lambda: np.frombuffer(data, np.uint64).copy().reshape(-1, 1),
            lambda: memoryview(bytearray(data)).cast("Q"),
            lambda: np.frombuffer(data, "c8").copy().reshape(1, -1),
            lambda: np.frombuffer(data, "M8[s]").copy().view("u8"),
            lambda: np.frombuffer(data, "u1,u1,u2,u4").copy().view(np.uint8),
        ]
    return pick.PickValueInList(kinds)()
