"""The host that programs find: a common arm64 machine, without AArch32; a PMU and the like only where asked for."""

from __future__ import annotations

from collections.abc import Iterable

from ..facts import Abi, Feature, regid, sysreg_id
from ..machine import Host

PSCI_1_1 = 1 << 16 | 1

HOST_VALUES = {  # by register ID; fields not given are 0: the host lacks what they announce
    sysreg_id(3, 0, 0, 0, 0): 0x000F_0510,  # MIDR_EL1, as the recorded hosts have it
    sysreg_id(3, 3, 0, 0, 1): 0x8444_C004,  # CTR_EL0: lines of 64 bytes
    sysreg_id(3, 1, 0, 0, 1): 0x0A20_0023,  # CLIDR_EL1: two levels of cache
    sysreg_id(3, 0, 0, 5, 0): 0x1030_5006,  # ID_AA64DFR0_EL1: v8 debug, 6 breakpoints, 4 watchpoints, no PMU
    sysreg_id(3, 0, 0, 6, 0): 0x0000_1001_1021_1120,  # ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, atomics, RDM, DP
    sysreg_id(3, 0, 0, 6, 1): 0x0011_1001,  # ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC
    sysreg_id(3, 0, 0, 7, 0): 0x0010_1125,  # ID_AA64MMFR0_EL1: 48 bits of address, 16 of ASID, all granules
    sysreg_id(3, 0, 0, 7, 1): 0x0020_1122,  # ID_AA64MMFR1_EL1: HAFDBS, 16 bits of VMID, VHE, HPDS, PAN
    sysreg_id(3, 0, 0, 7, 2): 0x0000_1011,  # ID_AA64MMFR2_EL1: CnP, UAO, IESB
    sysreg_id(3, 0, 1, 0, 0): 0x00C5_0078,  # SCTLR_EL1: MMU and caches off
    regid.ARM64 | regid.U64 | regid.FW | 0: PSCI_1_1,
    regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP | 0: 0x1,  # standard services: TRNG
    regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP | 1: 0x1,  # standard hypervisor services: stolen time
    regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP | 2: 0x3,  # vendor hypervisor services: features, PTP
}


WITH_PMU = {sysreg_id(3, 0, 0, 5, 0): 6 << 8}  # ID_AA64DFR0_EL1.PMUVer: PMUv3 for Armv8.5
WITH_POINTER_AUTHENTICATION = {sysreg_id(3, 0, 0, 6, 1): 0x1000_0100}  # ID_AA64ISAR1_EL1: API and GPI


def create_host(
    abi: Abi,
    sve_vqs: Iterable[int],
    sme_vqs: Iterable[int],
    sme2: bool,
    fa64: bool,
    *,
    fpmr: bool = False,
    pmu: bool = False,
    pointer_authentication: bool = False,
    nested: bool = False,
) -> Host:
    """A host with these lengths, whose other registers hold what programs expect. ValueError as Host."""
    values = dict(HOST_VALUES)
    for known, fields in ((pmu, WITH_PMU), (pointer_authentication, WITH_POINTER_AUTHENTICATION)):
        for reg_id, bits in fields.items() if known else ():
            values[reg_id] |= bits
    host = Host(
        abi=abi, sve_vqs=sve_vqs, sme_vqs=sme_vqs, sme2=sme2, fa64=fa64, fpmr=fpmr, id_regs=values, pmu=pmu,
        pointer_authentication=pointer_authentication, nested=nested,
    )  # fmt: skip
    host.features_offered -= {Feature.EL1_32BIT.value}
    return host
