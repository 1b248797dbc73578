"""What a kernel's memory holds of a vCPU, by the words of the recording format."""

from __future__ import annotations

from typing import NamedTuple

from ..facts import regid
from ..machine import Vcpu


class Held(NamedTuple):
    """The owner by name, the lengths, and the bytes, as far as they concern vectors."""

    fp_state: str
    max_vq: int
    svcr: int
    fpmr: int
    fpsr: int
    fpcr: int
    sve_state: bytes
    sme_state: bytes
    vregs: bytes


def held(vcpu: Vcpu) -> Held:
    """What a kernel's memory holds of the vCPU now."""
    return Held(
        fp_state=vcpu.fp_state.name,
        max_vq=vcpu.max_vq,
        svcr=vcpu.svcr,
        fpmr=vcpu.sysregs.get(regid.FPMR, 0),
        fpsr=vcpu.fpsr,
        fpcr=vcpu.fpcr,
        sve_state=vcpu.sve_state.tobytes(),
        sme_state=vcpu.sme_state.tobytes(),
        vregs=vcpu.vregs.tobytes(),
    )
