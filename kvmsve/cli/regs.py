"""kvmsve regs: the register list of a vCPU."""

from __future__ import annotations

import argparse
import sys

from ..errors import KvmError
from ..facts import regid
from .common import UsageError
from .described import create_vcpu


def run(options: argparse.Namespace) -> int:
    """The list that a VMM would get of the vCPU."""
    vcpu = create_vcpu(options)
    try:
        ids = vcpu.get_reg_list()
    except KvmError as error:
        raise UsageError(f"KVM_GET_REG_LIST: {error.strerror}") from None
    for reg_id in ids:
        print(f"0x{reg_id:016x}  {regid.size_bytes(reg_id):4}  {regid.name(reg_id, vcpu.abi.sme_vls)}")
    print(end="", flush=True)
    print(f"{len(ids)} registers", file=sys.stderr)
    return 0
