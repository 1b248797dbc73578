"""kvmsve decode: what a register ID is, and which rule refuses it."""

from __future__ import annotations

import argparse

from ..errors import HostOops, KvmError
from ..facts import regid
from ..machine import Vcpu
from .described import create_vcpu


def run(options: argparse.Namespace) -> int:
    """Each ID is taken apart, and read from a vCPU to see which rule refuses it."""
    vcpu = create_vcpu(options)
    for reg_id in options.ids:
        name = regid.name(reg_id, vcpu.abi.sme_vls)
        size, coproc = regid.size_bytes(reg_id), regid.COPROC_NAMES.get(regid.coproc(reg_id), "unknown")
        slice_note = f", slice {regid.slice_of(reg_id)}" if regid.coproc(reg_id) in (regid.SVE, regid.SME) else ""
        print(f"0x{reg_id:016x}  {name}: {size} bytes, coprocessor {coproc}{slice_note}")
        print(f"    {_reading(vcpu, reg_id)}")
    return 0


def _reading(vcpu: Vcpu, reg_id: int) -> str:
    try:
        value = vcpu.get_one_reg(reg_id)
    except KvmError as error:
        return str(error)
    except HostOops as oops:
        return f"the host crashes: {oops}"
    return f"readable: 0x{int.from_bytes(value, 'little'):x}" if len(value) <= 8 else "readable"
