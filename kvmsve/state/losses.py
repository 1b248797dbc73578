"""Registers that were to hold something and hold something else, and how they are told: ranges, bytes, values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from operator import ne
from typing import NamedTuple

from ..facts import regid

VLS_BYTES = 64
VALUE_BYTES_MAX = 8  # registers up to this size are told by value, larger ones by a number of bytes

Namer = Callable[[int], str]


class Loss(NamedTuple):
    """A register that was to hold `wanted`; `held` None: nobody has its value any more."""

    reg_id: int
    wanted: bytes
    held: bytes | None

    @property
    def differing(self) -> int:
        """How many bytes differ; the shorter of the two ends in zeroes."""
        held = self.held or b""
        if held == self.wanted:
            return 0
        size = max(len(self.wanted), len(held))
        return sum(map(ne, self.wanted.ljust(size, b"\0"), held.ljust(size, b"\0")))


def losses(wanted: Mapping[int, bytes], held: Mapping[int, bytes]) -> list[Loss]:
    """The registers of `wanted` that `held` has otherwise."""
    found = (Loss(reg_id, data, held.get(reg_id, b"")) for reg_id, data in wanted.items())
    return [loss for loss in found if loss.differing]


def describe(lost: Iterable[Loss], name: Namer) -> str:
    """Registers and bytes, as "Z0-Z31 (2048 bytes), FPSR (0x1f, now 0x0)"."""
    ordered = sorted(lost, key=lambda loss: (_rank(loss.reg_id), loss.reg_id))
    return ", ".join(_tell(group, name) for group in _ranges(ordered, name))


def _rank(reg_id: int) -> int:
    """Z, P and FFR, ZA, ZT0, then the rest."""
    if reg_id == regid.ZT0:
        return 3
    kind = regid.coproc(reg_id), regid.size_bytes(reg_id)
    return {(regid.SVE, 256): 0, (regid.SVE, 32): 1, (regid.SME, 256): 2}.get(kind, 4)


def _ranges(ordered: list[Loss], name: Namer) -> Iterator[list[Loss]]:
    """The losses in groups whose names follow each other."""
    group = ordered[:1]
    for last, loss in pairwise(ordered):
        if _is_told_by_value(loss) or not _follow(name(last.reg_id), name(loss.reg_id)):
            yield group
            group = []
        group.append(loss)
    if group:
        yield group


_NUMBERED = re.compile(r"(.*?)(\d+)(]?)")


def _follow(name: str, next_name: str) -> bool:
    """The names differ by one in their number, as P1 and P2 do."""
    this, that = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(next_name)
    return bool(this and that and this[1] == that[1] and int(this[2]) + 1 == int(that[2]))


def _is_told_by_value(loss: Loss) -> bool:
    return regid.size_bytes(loss.reg_id) <= VALUE_BYTES_MAX or _is_vls(loss.reg_id)


def _is_vls(reg_id: int) -> bool:
    return regid.size_bytes(reg_id) == VLS_BYTES and reg_id != regid.ZT0


def _tell(group: list[Loss], name: Namer) -> str:
    first, last = group[0], group[-1]
    if _is_told_by_value(first):
        values = [_value(first.reg_id, data) for data in (first.wanted, first.held) if data is not None]
        return f"{name(first.reg_id)} ({', now '.join(values)})"
    names = name(first.reg_id) if first is last else f"{name(first.reg_id)}-{name(last.reg_id)}"
    count = sum(loss.differing for loss in group)
    return f"{names} ({count} byte{'s' if count != 1 else ''})"


def _value(reg_id: int, data: bytes) -> str:
    if _is_vls(reg_id):
        return "vq " + (",".join(map(str, sorted(regid.unpack_vls(data)))) or "none")
    return f"0x{int.from_bytes(data, 'little'):x}"
