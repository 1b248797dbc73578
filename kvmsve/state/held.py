"""What a kernel's memory holds of a vCPU, by the words of the recording format."""

from __future__ import annotations

from ..facts import regid
from ..machine import Vcpu

Value = int | str | bytes


def held(vcpu: Vcpu) -> dict[str, Value]:
    """What a kernel's memory holds of the vCPU, as far as it concerns vectors; by the format's words."""
    return {
        "fp_state": vcpu.fp_state.name,
        "max_vq": vcpu.max_vq,
        "svcr": vcpu.svcr,
        "fpmr": vcpu.sysregs.get(regid.FPMR, 0),
        "fpsr": vcpu.fpsr,
        "fpcr": vcpu.fpcr,
        "sve_state": vcpu.sve_state.tobytes(),
        "sme_state": vcpu.sme_state.tobytes(),
        "vregs": vcpu.vregs.tobytes(),
    }
