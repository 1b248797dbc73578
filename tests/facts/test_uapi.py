"""The numbers of <linux/kvm.h> that kvmsve.device has, against the header itself: a compiler for arm64 checks them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from kvmsve.device.shim import PACKAGES
from kvmsve.facts import uapi

COMPILER = "aarch64-linux-gnu-gcc"
NUMBERS = {name: value for name, value in vars(uapi).items() if name.startswith("KVM") and isinstance(value, int)}
CAPABILITIES = {uapi.capability_name(number): number for number in {**uapi.CAPABILITIES, **uapi.FEATURE_CAPABILITIES}}


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"no {COMPILER}; on Debian: sudo apt install {PACKAGES}")
def test_numbers_are_those_of_the_header():
    checks = [f'_Static_assert({name} == {value}, "{name}");' for name, value in {**NUMBERS, **CAPABILITIES}.items()]
    source = "\n".join(["#include <linux/kvm.h>", *checks])
    command = [COMPILER, "-std=c11", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
