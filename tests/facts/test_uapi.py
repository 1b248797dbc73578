"""The numbers of <linux/kvm.h> that kvmsve.device has, against the header itself: a compiler for arm64 checks them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from kvmsve.device.shim import PACKAGES
from kvmsve.facts import uapi

NEWER = {  # than Linux 6.1, whose header Debian 12 has
    "KVM_ARM_GET_REG_WRITABLE_MASKS", "KVM_ARM_SET_COUNTER_OFFSET", "KVM_ARM_VM_SMCCC_CTRL", "KVM_CAP_ARM_EL2",
    "KVM_CAP_ARM_SEA_TO_USER", "KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES", "KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES",
    "KVM_CAP_COUNTER_OFFSET", "KVM_CAP_USER_MEMORY2", "KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ", "KVM_SET_USER_MEMORY_REGION2",
}  # fmt: skip
COMPILER = "aarch64-linux-gnu-gcc"
NUMBERS = {name: value for name, value in vars(uapi).items() if name.startswith("KVM") and isinstance(value, int)}
CAPABILITIES = {uapi.capability_name(number): number for number in {**uapi.CAPABILITIES, **uapi.FEATURE_CAPABILITIES}}


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no {COMPILER}; on Debian: sudo apt install {PACKAGES}")
def test_numbers_are_those_of_the_header():
    numbers = {**NUMBERS, **CAPABILITIES}
    assert numbers.keys() > NEWER
    checks = {name: f'_Static_assert({name} == {value}, "{name}");' for name, value in numbers.items()}
    if_there = [f"#ifdef {name}\n{check}\n#endif" if name in NEWER else check for name, check in checks.items()]
    source = "\n".join(["#include <linux/kvm.h>", *if_there])
    command = [COMPILER, "-std=c11", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
