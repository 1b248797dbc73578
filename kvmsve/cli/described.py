"""The vCPU that a command's options describe."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..errors import KvmError
from ..facts import Feature, regid
from ..machine import Host, Vcpu
from .common import UsageError


def sme_vqs(options: argparse.Namespace) -> frozenset[int]:
    """The streaming lengths of the options; without any 1, 2 and 4 where the revision can use them."""
    if options.sme is not None:
        return frozenset(options.sme)
    has_sme = options.abi.sme_feature is not None and options.abi.sme_feature < options.abi.max_features
    return frozenset({1, 2, 4} if has_sme else ())


def create_vcpu(options: argparse.Namespace) -> Vcpu:
    """The finalized vCPU that the options describe."""
    sme = sme_vqs(options)
    try:
        host = Host(
            abi=options.abi, sve_vqs=options.sve, sme_vqs=sme, sme2=options.sme2, fa64=options.fa64, fpmr=options.fpmr,
            pmu=options.pmu, pointer_authentication=options.pauth, nested=options.nested,
        )  # fmt: skip
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init(set(_features(options, bool(sme))))
        if options.svcr:
            vcpu.set_one_reg(regid.SVCR, options.svcr.to_bytes(8, "little"))
        if options.sve or sme:
            vcpu.finalize(Feature.VEC)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except KvmError as error:
        raise UsageError(f"{options.abi.name} has no such vCPU: {error.symbol}, {error.strerror}") from None
    return vcpu


def _features(options: argparse.Namespace, has_sme: bool) -> Iterator[Feature]:
    """All that a vCPU of this host can have."""
    present = {
        Feature.SVE: bool(options.sve),
        Feature.SME: has_sme,
        Feature.PMU_V3: options.pmu,
        Feature.PTRAUTH_ADDRESS: options.pauth,
        Feature.PTRAUTH_GENERIC: options.pauth,
        Feature.HAS_EL2: options.nested,
    }
    yield from (feature for feature, is_there in present.items() if is_there)
