"""What real kernels answered: tests/tables/linux-*.json.xz, made as tests/recordings/PROVENANCE.md tells."""

import json
import lzma
from functools import cache
from typing import Any

from places import TABLES

KERNELS = {"mainline-6.1": "6.1", "mainline-6.12": "6.12", "mainline-7.2": "7.2", "mainline-7.3": "7.3"}
FEATURES = {  # feature sets that were asked for, by the name that the tables give them
    "none": (), "sve": (4,), "pmu": (3,), "pauth": (5, 6), "psci": (2,), "sve+pmu": (4, 3), "sve+pauth": (4, 5, 6),
    "pmu+pauth": (3, 5, 6), "sve+pmu+pauth": (4, 3, 5, 6), "pmu+strict": (3, 9), "a32": (1,),
}  # fmt: skip


@cache
def answers(kernel: str) -> dict[str, Any]:
    """All that a kernel ("6.1", "6.12", "7.2", "7.3") was asked."""
    found: dict[str, Any] = json.loads(lzma.decompress((TABLES / f"linux-{kernel}.json.xz").read_bytes()))
    return found


@cache
def listed(kernel: str, features: str) -> list[int]:
    """The register list of a vCPU with these features."""
    return [int(reg_id, 16) for reg_id in answers(kernel)["lists"][features]["ids"]]


@cache
def values(kernel: str, features: str) -> dict[int, int]:
    """What a new vCPU with these features holds, but for the registers that count time."""
    found = answers(kernel)["lists"][features]
    pairs = zip(found["ids"], found["values"], strict=True)
    return {int(reg_id, 16): int(value, 16) for reg_id, value in pairs if value != "clock"}


def sysreg(encoding: str) -> int:
    """The register ID of an encoding such as 3,0,0,4,1."""
    op0, op1, crn, crm, op2 = map(int, encoding.split(","))
    return 0x6030_0000_0013_0000 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


@cache
def writable_masks(kernel: str) -> dict[int, int]:
    """What KVM_ARM_GET_REG_WRITABLE_MASKS said: 192 masks, of op1 0, 1 and 3, CRm and op2."""
    masks = answers(kernel)["masks"]["none"][1]
    return {
        sysreg(f"3,{(0, 1, 3)[int(n) // 64]},0,{int(n) // 8 % 8},{int(n) % 8}"): int(mask, 16)
        for n, mask in masks.items()
    }
