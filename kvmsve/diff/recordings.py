"""One recording under two revisions: which operations end otherwise, and what differs in the registers at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from ..errors import HostOops, KvmError
from ..facts import SVCR_ZA, Abi, layout, regid
from ..machine import Vcpu
from ..ops import CRASH, Difference, Machine, Observation, Operation
from ..recording import Recording
from ..rules import idregs, reglist, sysreg

Texts = tuple[str, str]
Contents = dict[str, bytes | str]  # by register; a string says why there are none

DIGITS = re.compile(r"\d+")
NOTHING = Observation("", None, "nothing more")
VECTORS = {
    regid.name(reg_id): reg_id
    for reg_id in (*reglist.ZREGS, *reglist.PREGS, regid.FFR_ID, *sorted(reglist.VREGS), regid.FPSR, regid.FPCR)
}
CONTROLS = {regid.name(reg_id): reg_id for reg_id in (*sysreg.CONTROL_REGS, *idregs.VECTOR_ID_REGS)}


class Comparison:
    """A recording's operations, done under both revisions in step."""

    def __init__(self, recording: Recording, first: Abi, second: Abi) -> None:
        headers = [recording.header.under(revision) for revision in (first, second)]
        self._sides = [Machine(header.create_host(), header.unlisted) for header in headers]
        self.crashed = False  # a host has crashed: nothing after that has a meaning

    def play(self, line: int, op: Operation) -> Difference | None:
        """The operation is done, and where its outcomes differ first; Misuse if it cannot be done."""
        seen = [list(side.perform(op)) for side in self._sides]
        self.crashed = any(observation.actual == CRASH for outcome in seen for observation in outcome)
        try:
            for ours, theirs in zip_longest(*seen, fillvalue=NOTHING):
                theirs.compare(ours)
        except Difference as difference:
            difference.line, difference.op = line, op
            return difference
        return None

    @property
    def open_vcpus(self) -> list[int]:
        """The numbers of the vCPUs that both sides have."""
        first, second = (side.vcpus for side in self._sides)
        return sorted(first.keys() & second.keys())

    def registers(self) -> Iterator[tuple[int, str, Texts]]:
        """What differs now: the number of an open vCPU, the registers, and the texts of both sides."""
        for number in self.open_vcpus:
            ours, theirs = (_contents(side.vcpus[number]) for side in self._sides)
            texts = {name: _texts(ours[name], theirs[name]) for name in ours if name in theirs}
            for (_, both), group in groupby(texts.items(), lambda item: (item[0].strip("0123456789]"), item[1])):
                names = [name for name, _ in group]
                if both:
                    yield number, names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}", both


def kinds(found: Sequence[Difference]) -> list[list[Difference]]:
    """The differences, those of one operation on one kind of register that ended in the same way together."""
    alike: dict[tuple[str, ...], list[Difference]] = {}
    for each in found:
        ends = () if each.where else (each.expected, each.actual)
        alike.setdefault((DIGITS.sub("", f"{each.op}, {each.where}"), *ends), []).append(each)
    return list(alike.values())


def _contents(vcpu: Vcpu) -> Contents:
    """Every register as a GET returns it, ZA and ZT0 as a guest would find them."""
    vectors = {name: _get(vcpu, reg_id) for name, reg_id in VECTORS.items()}
    return vectors | _za(vcpu) | {name: _get(vcpu, reg_id) for name, reg_id in CONTROLS.items()}


def _get(vcpu: Vcpu, reg_id: int) -> bytes | str:
    try:
        return vcpu.get_one_reg(reg_id)
    except KvmError as error:
        return error.symbol
    except HostOops:
        return CRASH


def _za(vcpu: Vcpu) -> Contents:
    size, is_on = layout.zreg_bytes(vcpu.lengths.sme_vq), bool(vcpu.svcr & SVCR_ZA)
    state = vcpu.sme_state.tobytes()
    rows: Contents = {f"ZA.H[{row}]": state[row * size :][:size] if is_on else "off" for row in range(size)}
    return rows | {"ZT0": state[size * size :][: layout.ZT0_BYTES] if is_on else "off"}


def _texts(ours: bytes | str, theirs: bytes | str) -> Texts | None:
    """A text for each side; None where there is nothing to tell."""
    if ours == theirs:
        return None
    first, second = _text(ours), _text(theirs)
    return first, f"other {second}" if first == second else second


def _text(value: bytes | str) -> str:
    """A number where it is short, else how much of it is not zero, in sixteenths: contents often end in a zero."""
    if isinstance(value, str):
        return value
    if len(value) <= 8:
        return f"0x{int.from_bytes(value, 'little'):x}"
    granule = len(value) // 16 or 1
    live = -(-len(value.rstrip(b"\0")) // granule) * granule
    return f"{live} bytes" if live else "zero"
