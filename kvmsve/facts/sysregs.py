"""Facts: system registers without a vector meaning, by encoding (op0, op1, CRn, CRm, op2).

Which of them a vCPU lists, a kernel's age and the vCPU's features say: `listed`. Source: arch/arm64/kvm/sys_regs.c, and
the lists of real kernels (tests/tables/kernel-lists.json).
"""

from __future__ import annotations

Encoding = tuple[int, int, int, int, int]

DEBUG: dict[str, Encoding] = {
    f"{name}{n}_EL1": (2, 0, 0, n, op2)
    for n in range(16)
    for op2, name in enumerate(("DBGBVR", "DBGBCR", "DBGWVR", "DBGWCR"), start=4)
}
IMPLEMENTATION: dict[str, Encoding] = {
    "MIDR_EL1": (3, 0, 0, 0, 0), "REVIDR_EL1": (3, 0, 0, 0, 6), "AIDR_EL1": (3, 1, 0, 0, 7),
}  # fmt: skip
TIMERS: dict[str, Encoding] = {  # the order of this block of the list is the kernel's own
    "TIMER_CTL": (3, 3, 14, 3, 1), "TIMER_CNT": (3, 3, 14, 3, 2), "TIMER_CVAL": (3, 3, 14, 0, 2),
    "PTIMER_CTL": (3, 3, 14, 2, 1), "PTIMER_CNT": (3, 3, 14, 0, 1), "PTIMER_CVAL": (3, 3, 14, 2, 2),
}  # fmt: skip
PLAIN: dict[str, Encoding] = {
    "MDCCINT_EL1": (2, 0, 0, 2, 0), "MDSCR_EL1": (2, 0, 0, 2, 2), "OSLSR_EL1": (2, 0, 1, 1, 4),
    "DBGVCR32_EL2": (2, 4, 0, 7, 0), "MPIDR_EL1": (3, 0, 0, 0, 5), "SCTLR_EL1": (3, 0, 1, 0, 0),
    "ACTLR_EL1": (3, 0, 1, 0, 1), "TTBR0_EL1": (3, 0, 2, 0, 0), "TTBR1_EL1": (3, 0, 2, 0, 1),
    "TCR_EL1": (3, 0, 2, 0, 2), "AFSR0_EL1": (3, 0, 5, 1, 0), "AFSR1_EL1": (3, 0, 5, 1, 1),
    "ESR_EL1": (3, 0, 5, 2, 0), "FAR_EL1": (3, 0, 6, 0, 0), "PAR_EL1": (3, 0, 7, 4, 0), "MAIR_EL1": (3, 0, 10, 2, 0),
    "AMAIR_EL1": (3, 0, 10, 3, 0), "VBAR_EL1": (3, 0, 12, 0, 0), "DISR_EL1": (3, 0, 12, 1, 1),
    "CONTEXTIDR_EL1": (3, 0, 13, 0, 1), "TPIDR_EL1": (3, 0, 13, 0, 4), "CNTKCTL_EL1": (3, 0, 14, 1, 0),
    "CLIDR_EL1": (3, 1, 0, 0, 1), "CSSELR_EL1": (3, 2, 0, 0, 0), "CTR_EL0": (3, 3, 0, 0, 1),
    "TPIDR_EL0": (3, 3, 13, 0, 2), "TPIDRRO_EL0": (3, 3, 13, 0, 3), "DACR32_EL2": (3, 4, 3, 0, 0),
    "IFSR32_EL2": (3, 4, 5, 0, 1), "FPEXC32_EL2": (3, 4, 5, 3, 0),
}  # fmt: skip
TCR2: dict[str, Encoding] = {"TCR2_EL1": (3, 0, 2, 0, 3)}
S1PIE: dict[str, Encoding] = {"PIRE0_EL1": (3, 0, 10, 2, 2), "PIR_EL1": (3, 0, 10, 2, 3)}
SCTLR2: dict[str, Encoding] = {"SCTLR2_EL1": (3, 0, 1, 0, 3)}
POINTER_AUTHENTICATION: dict[str, Encoding] = {
    f"AP{key}KEY{half}_EL1": (3, 0, 2, crm, op2 + (half == "HI"))
    for key, crm, op2 in (("IA", 1, 0), ("IB", 1, 2), ("DA", 2, 0), ("DB", 2, 2), ("GA", 3, 0))
    for half in ("LO", "HI")
}
PMU: dict[str, Encoding] = {
    "PMINTENSET_EL1": (3, 0, 9, 14, 1), "PMINTENCLR_EL1": (3, 0, 9, 14, 2), "PMCR_EL0": (3, 3, 9, 12, 0),
    "PMCNTENSET_EL0": (3, 3, 9, 12, 1), "PMCNTENCLR_EL0": (3, 3, 9, 12, 2), "PMOVSCLR_EL0": (3, 3, 9, 12, 3),
    "PMSWINC_EL0": (3, 3, 9, 12, 4), "PMSELR_EL0": (3, 3, 9, 12, 5), "PMCCNTR_EL0": (3, 3, 9, 13, 0),
    "PMUSERENR_EL0": (3, 3, 9, 14, 0), "PMOVSSET_EL0": (3, 3, 9, 14, 3), "PMCCFILTR_EL0": (3, 3, 14, 15, 7),
    **{f"PMEVCNTR{n}_EL0": (3, 3, 14, 8 + n // 8, n % 8) for n in range(31)},
    **{f"PMEVTYPER{n}_EL0": (3, 3, 14, 12 + n // 8, n % 8) for n in range(31)},
}  # fmt: skip
PMMIR: dict[str, Encoding] = {"PMMIR_EL1": (3, 0, 9, 14, 6)}
EL2: dict[str, Encoding] = {
    "VPIDR_EL2": (3, 4, 0, 0, 0), "VMPIDR_EL2": (3, 4, 0, 0, 5), "SCTLR_EL2": (3, 4, 1, 0, 0),
    "ACTLR_EL2": (3, 4, 1, 0, 1), "HCR_EL2": (3, 4, 1, 1, 0), "MDCR_EL2": (3, 4, 1, 1, 1), "CPTR_EL2": (3, 4, 1, 1, 2),
    "HSTR_EL2": (3, 4, 1, 1, 3), "HFGRTR_EL2": (3, 4, 1, 1, 4), "HFGWTR_EL2": (3, 4, 1, 1, 5),
    "HFGITR_EL2": (3, 4, 1, 1, 6), "HACR_EL2": (3, 4, 1, 1, 7), "HCRX_EL2": (3, 4, 1, 2, 2),
    "TTBR0_EL2": (3, 4, 2, 0, 0), "TTBR1_EL2": (3, 4, 2, 0, 1), "TCR_EL2": (3, 4, 2, 0, 2),
    "VTTBR_EL2": (3, 4, 2, 1, 0), "VTCR_EL2": (3, 4, 2, 1, 2), "VNCR_EL2": (3, 4, 2, 2, 0),
    "HDFGRTR_EL2": (3, 4, 3, 1, 4), "HDFGWTR_EL2": (3, 4, 3, 1, 5), "HAFGRTR_EL2": (3, 4, 3, 1, 6),
    "SPSR_EL2": (3, 4, 4, 0, 0), "ELR_EL2": (3, 4, 4, 0, 1), "AFSR0_EL2": (3, 4, 5, 1, 0),
    "AFSR1_EL2": (3, 4, 5, 1, 1), "ESR_EL2": (3, 4, 5, 2, 0), "VSESR_EL2": (3, 4, 5, 2, 3),
    "FAR_EL2": (3, 4, 6, 0, 0), "HPFAR_EL2": (3, 4, 6, 0, 4), "MAIR_EL2": (3, 4, 10, 2, 0),
    "AMAIR_EL2": (3, 4, 10, 3, 0), "VBAR_EL2": (3, 4, 12, 0, 0), "VDISR_EL2": (3, 4, 12, 1, 1),
    "CONTEXTIDR_EL2": (3, 4, 13, 0, 1), "TPIDR_EL2": (3, 4, 13, 0, 2), "CNTVOFF_EL2": (3, 4, 14, 0, 3),
    "CNTHCTL_EL2": (3, 4, 14, 1, 0), "CNTHP_CTL_EL2": (3, 4, 14, 2, 1), "CNTHP_CVAL_EL2": (3, 4, 14, 2, 2),
    "CNTHV_CTL_EL2": (3, 4, 14, 3, 1), "CNTHV_CVAL_EL2": (3, 4, 14, 3, 2), "SP_EL2": (3, 6, 4, 1, 0),
}  # fmt: skip
TCR2_EL2: dict[str, Encoding] = {"TCR2_EL2": (3, 4, 2, 0, 3)}
S1PIE_EL2: dict[str, Encoding] = {"PIRE0_EL2": (3, 4, 10, 2, 2), "PIR_EL2": (3, 4, 10, 2, 3)}
SCTLR2_EL2: dict[str, Encoding] = {"SCTLR2_EL2": (3, 4, 1, 0, 3)}

ID_SPACE: dict[str, Encoding] = {  # the whole of op0 3, op1 0, CRn 0, CRm 1 to 7; those without a name are reserved
    f"S3_0_C0_C{crm}_{op2}": (3, 0, 0, crm, op2) for crm in range(1, 8) for op2 in range(8)
}
ID_NAMES: dict[Encoding, str] = {
    (3, 0, 0, crm, op2): f"{name}_EL1"
    for crm, names in {
        1: "ID_PFR0 ID_PFR1 ID_DFR0 ID_AFR0 ID_MMFR0 ID_MMFR1 ID_MMFR2 ID_MMFR3",
        2: "ID_ISAR0 ID_ISAR1 ID_ISAR2 ID_ISAR3 ID_ISAR4 ID_ISAR5 ID_MMFR4 ID_ISAR6",
        3: "MVFR0 MVFR1 MVFR2 - ID_PFR2 ID_DFR1 ID_MMFR5",
        4: "ID_AA64PFR0 ID_AA64PFR1 ID_AA64PFR2 - ID_AA64ZFR0 ID_AA64SMFR0 - ID_AA64FPFR0",
        5: "ID_AA64DFR0 ID_AA64DFR1 ID_AA64DFR2 - ID_AA64AFR0 ID_AA64AFR1",
        6: "ID_AA64ISAR0 ID_AA64ISAR1 ID_AA64ISAR2 ID_AA64ISAR3",
        7: "ID_AA64MMFR0 ID_AA64MMFR1 ID_AA64MMFR2 ID_AA64MMFR3 ID_AA64MMFR4",
    }.items()
    for op2, name in enumerate(names.split())
    if name != "-"
}
