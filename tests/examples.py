"""What examples of single rules share: IDs as rfc-v2.md has them, hosts and vCPUs."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kvmsve import RFC_V2, Abi, Feature, Host, KvmError, Vcpu

SVE, SME, VEC, PSCI = Feature.SVE, Feature.SME, Feature.VEC, Feature.PSCI_0_2

X0, V0, PSTATE = 0x6030000000100000, 0x6040000000100054, 0x6030000000100042
FPSR, FPCR = 0x60200000001000D4, 0x60200000001000D5
FFR, ZT0 = 0x6050000000150600, 0x6060000000170600
SVE_VLS, SME_VLS = 0x606000000015FFFF, 0x606000000017FFFF
CPACR, ZCR, SMCR, SMIDR = 0x603000000013C082, 0x603000000013C090, 0x603000000013C096, 0x603000000013C806
SVCR, TPIDR2 = 0x603000000013DA12, 0x603000000013DE85
PFR0, PFR1, ZFR0, SMFR0 = 0x603000000013C020, 0x603000000013C021, 0x603000000013C024, 0x603000000013C025


def z(n: int) -> int:
    return 0x6080000000150000 | n << 5


def p(n: int) -> int:
    return 0x6050000000150400 | n << 5


def v(n: int) -> int:
    return V0 + 4 * n


def za(row: int) -> int:
    return 0x6080000000170000 | row << 5


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that tell where they come from; none is zero."""
    return bytes(1 + (seed * 37 + at) % 255 for at in range(size))


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def bitmap(*vqs: int) -> bytes:
    return sum(1 << vq - 1 for vq in vqs).to_bytes(64, "little")


def words(first: int, *others: int) -> list[int]:
    """The seven feature words."""
    return [first, *others, *[0] * (6 - len(others))]


def a_host(abi: Abi = RFC_V2, **machine: Any) -> Host:
    return Host(**{"sve_vqs": {1, 2}, "sme_vqs": {1, 2, 4}, "abi": abi} | machine)


def make_vcpu(sve_vqs: Iterable[int] = (), sme_vqs: Iterable[int] = (), abi: Abi = RFC_V2, **host: Any) -> Vcpu:
    """A vCPU with all the vectors that its host has, finalized."""
    features = {Feature.SVE} if (sve_vqs := set(sve_vqs)) else set()
    features |= {Feature.SME} if (sme_vqs := set(sme_vqs)) else set()
    vcpu = Host(sve_vqs=sve_vqs, sme_vqs=sme_vqs, abi=abi, **host).create_vm().create_vcpu(0)
    vcpu.init(features)
    if features:
        vcpu.finalize(Feature.VEC)
    return vcpu


def enter_and_leave(vcpu: Vcpu) -> None:
    """A KVM_RUN whose guest does nothing."""
    with refused("EINTR"):
        vcpu.run(immediate_exit=True)


@contextmanager
def refused(name: str) -> Iterator[pytest.ExceptionInfo[KvmError]]:
    """The ioctl inside fails with this errno, and says why."""
    with pytest.raises(KvmError) as caught:
        yield caught
    assert errno.errorcode[caught.value.errno] == name
    assert is_one_line(caught.value.strerror)


def is_one_line(reason: object) -> bool:
    """Something to read, with every name in it filled in."""
    return isinstance(reason, str) and reason.isprintable() and "None" not in reason
