"""A vCPU as text: owner, format, lengths, and every vector register's bytes with what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ..facts import FFR, NUM_PREGS, NUM_ZREGS, SVCR_SM, SVCR_ZA, layout, regid
from ..machine import FpState, Vcpu
from ..rules import FPSIMD, guest_vq

LIVE, PADDING, STALE = " ", "+", "~"
LEGEND = f"""\
   (no mark) live: the guest sees it, or will at its next run
   {PADDING} beyond the guest's length: userspace alone sees it, the next KVM_RUN drops it
   {STALE} stale: held in memory, seen by nobody"""
GROUP_BYTES = 16
ROW_BYTES = 2 * GROUP_BYTES


def describe(vcpu: Vcpu) -> Iterator[str]:
    """The lines of a full picture of the vCPU."""
    yield from _summary(vcpu)
    yield ""
    if not vcpu.finalized:
        yield from _vregs(vcpu, LIVE)
        return
    yield LEGEND
    yield ""
    yield from _sve_state(vcpu)
    yield ""
    yield from _vregs(vcpu, LIVE if vcpu.fp_state is not FpState.USER_OWNED and _vq(vcpu) == FPSIMD else STALE)
    if vcpu.lengths.sme_vq:
        yield ""
        yield from _sme_state(vcpu)


def _summary(vcpu: Vcpu) -> Iterator[str]:
    lengths = vcpu.lengths
    owned_by_user = vcpu.fp_state is FpState.USER_OWNED
    vq = lengths.max_vq if owned_by_user else _vq(vcpu)
    layout_now = "V alone (FPSIMD)" if vq == FPSIMD else f"Z, P and FFR at vq {vq} ({layout.zreg_bytes(vq)} bytes)"
    yield f"owner    {vcpu.fp_state.name}"
    yield f"format   {'user' if owned_by_user else 'guest'}: {layout_now}"
    yield f"lengths  SVE {_length(lengths.sve_vq)}, SME {_length(lengths.sme_vq)}, user {_length(lengths.max_vq)}"
    yield f"SVCR     0x{vcpu.svcr:x}: SM {_switch(vcpu.svcr & SVCR_SM)}, ZA {_switch(vcpu.svcr & SVCR_ZA)}"
    controls = (regid.ZCR_EL1, regid.SMCR_EL1, regid.TPIDR2_EL0, regid.CPACR_EL1)
    yield "others   " + ", ".join(
        [f"FPSR 0x{vcpu.fpsr:08x}", f"FPCR 0x{vcpu.fpcr:08x}"]
        + [f"{regid.name(reg_id)} 0x{vcpu.sysregs[reg_id]:x}" for reg_id in controls]
    )


def _vq(vcpu: Vcpu) -> int:
    return guest_vq(vcpu.lengths, vcpu.svcr)


def _length(vq: int) -> str:
    return f"vq {vq}" if vq else "none"


def _switch(bit: int) -> str:
    return "on" if bit else "off"


def _sve_state(vcpu: Vcpu) -> Iterator[str]:
    state, max_vq, vq = vcpu.sve_state, vcpu.max_vq, _vq(vcpu)
    owned_by_user = vcpu.fp_state is FpState.USER_OWNED
    shown_vq = max_vq if owned_by_user or vq == FPSIMD else vq
    yield f"sve_state, {len(state)} bytes, as laid out for vq {shown_vq}:"
    mark = STALE if vq == FPSIMD and not owned_by_user else None
    for n in range(NUM_ZREGS):
        start, size = layout.zreg_offset(shown_vq, n), layout.zreg_bytes(shown_vq)
        live = layout.zreg_bytes(vq) or layout.VREG_BYTES
        yield from _register(f"Z{n}", state[start : start + size], live, mark)
    for n in range(NUM_PREGS + 1):
        start, size = layout.preg_offset(shown_vq, n), layout.preg_bytes(shown_vq)
        name = "FFR" if n == FFR else f"P{n}"
        yield from _register(name, state[start : start + size], layout.preg_bytes(vq), mark)
    yield from _register("tail", state[layout.sve_state_bytes(shown_vq) :], 0, STALE)


def _vregs(vcpu: Vcpu, mark: str) -> Iterator[str]:
    yield "V registers of fp_regs:"
    for n in range(NUM_ZREGS):
        start = layout.VREG_BYTES * n
        yield from _register(f"V{n}", vcpu.vregs[start : start + layout.VREG_BYTES], layout.VREG_BYTES, mark)


def _sme_state(vcpu: Vcpu) -> Iterator[str]:
    sme_vq, state = vcpu.lengths.sme_vq, vcpu.sme_state
    mark = LIVE if vcpu.svcr & SVCR_ZA else STALE
    yield f"sme_state, {len(state)} bytes:"
    size = layout.zreg_bytes(sme_vq)
    for row in range(size):
        start = layout.za_row_offset(sme_vq, row)
        yield from _register(f"ZA{row}", state[start : start + size], size, mark)
    start = layout.za_bytes(sme_vq)
    yield from _register("ZT0", state[start : start + layout.ZT0_BYTES], layout.ZT0_BYTES, mark)


def _register(name: str, data: memoryview, live_bytes: int, mark: str | None) -> Iterator[str]:
    """Rows of groups, each behind its mark; `mark` None: by whether a group lies within the live bytes."""
    if not data.tobytes().strip(b"\0"):
        if len(data):
            yield f"{name:>5}  {mark or LIVE}0"
        return
    edges = sorted({*range(0, len(data), GROUP_BYTES), min(live_bytes, len(data)), len(data)})
    row = ""
    for start, stop in pairwise(edges):
        row += f" {mark or (LIVE if start < live_bytes else PADDING)}{data[start:stop].hex()}"
        if stop % ROW_BYTES == 0 or stop == len(data):
            yield f"{name:>5} {row}"
            name, row = "", ""
