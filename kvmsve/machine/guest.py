"""What a running guest does: SMSTART, SMSTOP, and reads and writes of Z, P, FFR, V, ZA, ZT0 and control registers.

Source: rfc-v2.md section 7; Arm ARM (DDI 0487) B1.4.
"""

from __future__ import annotations

from operator import index
from typing import Any

from ..facts import SMCR_EZT0, SMCR_FA64, SVCR_SM, SVCR_ZA, layout, regid
from ..rules import FPSIMD
from . import right_ways
from .closed import Closed
from .cpu import CpuFeatures, CpuRegs
from .operands import Bank, check_named, control_value, exactly, mode_bits, need
from .ownership import Ownership
from .regfile import RegFile

U32 = (1 << 32) - 1


class Guest(Closed):
    """A guest at EL1 during one KVM_RUN; its first use of any register here makes it own the FP state.

    Registers are bytes in and out at the length in force, control registers are integers. GuestUndefined where the
    instruction would take an exception (that is no use of FP), IndexError for a register that no instruction can
    name, ValueError for data of another length, RuntimeError when the run has ended. CPACR_EL1 is kept but does not
    trap: a guest here has enabled what it uses. A control register takes 64 bits, as MSR does; those that it does not
    have are dropped.
    """

    __slots__ = ("_cpu", "_p", "_v", "_z", "_za")
    NOUN = "a guest"
    RIGHT_WAYS = right_ways.GUEST

    def __init__(self, regs: RegFile, ownership: Ownership, features: CpuFeatures, smidr: int | None) -> None:
        """`smidr`: what SMIDR_EL1 reads as, None where it is UNDEFINED."""
        self._cpu = CpuRegs(regs, ownership, features, smidr)
        self._z = Bank(self._read_z, self._write_z)
        self._p = Bank(self._read_p, self._write_p)
        self._v = Bank(self._read_v, self._write_v)
        self._za = Bank(self._read_za, self._write_za)

    @property
    def z(self) -> Bank:
        """Z[0] to Z[31], `vl` bytes each; without SVE only in streaming mode. A write keeps what is beyond `vl`."""
        return self._z

    @property
    def p(self) -> Bank:
        """P[0] to P[15], `vl` / 8 bytes each, a bit for each byte of a Z."""
        return self._p

    @property
    def v(self) -> Bank:
        """V[0] to V[31], the low 16 bytes of Z[n]; a write zeroes all the rest of its Z."""
        return self._v

    @property
    def za(self) -> Bank:
        """ZA.H[0] to ZA.H[svl - 1], the horizontal rows of ZA as bytes, `svl` bytes each; needs SVCR.ZA."""
        return self._za

    def smstart(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """Streaming mode (`sm`), ZA (`za`), or without arguments both are on; what was off starts as zeroes.

        False leaves it as it is. TypeError for what is no bool, ValueError where one is False and the other not said.
        """
        self.svcr |= mode_bits("smstart", sm, za)

    def smstop(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """Streaming mode, ZA, or without arguments both are off; leaving streaming mode zeroes Z, P and FFR.

        False leaves it as it is, and errors are those of smstart.
        """
        self.svcr &= ~mode_bits("smstop", sm, za)

    @property
    def svcr(self) -> int:
        """Bit 0 SM, bit 1 ZA. Writing it has the effects of SMSTART and SMSTOP."""
        return self._sme_cpu("SVCR").svcr

    @svcr.setter
    def svcr(self, value: int) -> None:
        self._sme_cpu("SVCR").set_svcr(control_value("SVCR", value))

    @property
    def zcr(self) -> int:
        """ZCR_EL1; LEN limits the non-streaming length, a write changes no register."""
        return self._sve_cpu("ZCR_EL1").zcr

    @zcr.setter
    def zcr(self, value: int) -> None:
        self._sve_cpu("ZCR_EL1").set_zcr(control_value("ZCR_EL1", value))

    @property
    def smcr(self) -> int:
        """SMCR_EL1; LEN limits the streaming length, FA64 and EZT0 let FFR and ZT0 be used there."""
        return self._sme_cpu("SMCR_EL1").smcr

    @smcr.setter
    def smcr(self, value: int) -> None:
        self._sme_cpu("SMCR_EL1").set_smcr(control_value("SMCR_EL1", value))

    @property
    def fpsr(self) -> int:
        """FPSR."""
        return self._used_cpu().fpsr

    @fpsr.setter
    def fpsr(self, value: int) -> None:
        self._used_cpu().fpsr = control_value("FPSR", value) & U32

    @property
    def fpcr(self) -> int:
        """FPCR."""
        return self._used_cpu().fpcr

    @fpcr.setter
    def fpcr(self, value: int) -> None:
        self._used_cpu().fpcr = control_value("FPCR", value) & U32

    @property
    def cpacr(self) -> int:
        """CPACR_EL1; neither a read nor a write is a use of FP."""
        self._check_running()
        return self._cpu.sysregs[regid.CPACR_EL1]

    @cpacr.setter
    def cpacr(self, value: int) -> None:
        self._check_running()
        self._cpu.sysregs[regid.CPACR_EL1] = control_value("CPACR_EL1", value)

    @property
    def tpidr2(self) -> int:
        """TPIDR2_EL0."""
        self._sme_cpu("TPIDR2_EL0")
        return self._cpu.sysregs[regid.TPIDR2_EL0]

    @property
    def fpmr(self) -> int:
        """FPMR, of a CPU that has it."""
        need(self._cpu.features.fpmr, "FPMR")
        self._used_cpu()
        return self._cpu.sysregs[regid.FPMR]

    @fpmr.setter
    def fpmr(self, value: int) -> None:
        need(self._cpu.features.fpmr, "FPMR")
        self._used_cpu()
        self._cpu.sysregs[regid.FPMR] = control_value("FPMR", value)

    @property
    def smidr(self) -> int:
        """SMIDR_EL1."""
        need(self._cpu.smidr is not None, "SMIDR_EL1")
        self._used_cpu()
        return self._cpu.smidr or 0

    @property
    def smpri(self) -> int:
        """SMPRI_EL1: RES0 for a guest."""
        self._sme_cpu("SMPRI_EL1")
        return 0

    @property
    def vl(self) -> int:
        """The length in force in bytes (RDVL): the streaming one under SVCR.SM."""
        return layout.zreg_bytes(self._vector_cpu("RDVL").vq_in_force)

    @property
    def svl(self) -> int:
        """The streaming length in force in bytes (RDSVL), in either mode."""
        return layout.zreg_bytes(self._sme_cpu("RDSVL").streaming_vq)

    @property
    def ffr(self) -> bytes:
        """FFR, vl / 8 bytes; in streaming mode only with FA64 on the host and in SMCR_EL1."""
        return self._read_vectors(*self._ffr_window())

    @ffr.setter
    def ffr(self, data: Any) -> None:
        self._write_vectors("FFR", *self._ffr_window(), data)

    @property
    def zt0(self) -> bytes:
        """ZT0, 64 bytes; needs SME2, SVCR.ZA and SMCR_EL1.EZT0."""
        start = self._zt0_start()
        return bytes(self._cpu.za[start : start + layout.ZT0_BYTES])

    @zt0.setter
    def zt0(self, data: Any) -> None:
        start = self._zt0_start()
        self._cpu.za[start : start + layout.ZT0_BYTES] = exactly(layout.ZT0_BYTES, data, "ZT0")

    def narrow(self, vl: int) -> None:
        """Z beyond vl bytes, P and FFR beyond vl / 8 are zero.

        The architecture leaves open whether a CPU does this when the length in force shrinks. Here the bytes stay
        unless a guest asks.
        """
        vl = index(vl)
        if vl not in range(layout.VQ_BYTES, layout.zreg_bytes(layout.VQ_MAX) + 1, layout.VQ_BYTES):
            raise ValueError(f"a length is 16 to 256 bytes, in steps of 16, not {vl}")
        cpu = self._vector_cpu("narrow")
        for n in range(layout.NUM_ZREGS):
            self._clear(layout.zreg_offset(cpu.vq, n), layout.zreg_bytes(cpu.vq), vl)
        for n in range(layout.NUM_PREGS + 1):
            self._clear(layout.preg_offset(cpu.vq, n), layout.preg_bytes(cpu.vq), vl // 8)

    def leave(self) -> None:
        """The run has ended: memory holds what the guest left."""
        if not self._cpu.is_over:
            self._cpu.save()
        self._cpu.is_over = True

    # Registers by number

    def _read_z(self, n: int) -> bytes:
        return self._read_vectors(*self._z_window(n))

    def _write_z(self, n: int, data: Any) -> None:
        self._write_vectors(f"Z{n}", *self._z_window(n), data)

    def _read_p(self, n: int) -> bytes:
        return self._read_vectors(*self._p_window(n))

    def _write_p(self, n: int, data: Any) -> None:
        self._write_vectors(f"P{n}", *self._p_window(n), data)

    def _read_v(self, n: int) -> bytes:
        return self._read_vectors(self._v_start(n), layout.VREG_BYTES)

    def _write_v(self, n: int, data: Any) -> None:
        start = self._v_start(n)
        self._write_vectors(f"V{n}", start, layout.VREG_BYTES, data)
        self._clear(start, layout.zreg_bytes(self._cpu.vq), layout.VREG_BYTES)

    def _read_za(self, row: int) -> bytes:
        start, size = self._za_window(row)
        return bytes(self._cpu.za[start : start + size])

    def _write_za(self, row: int, data: Any) -> None:
        start, size = self._za_window(row)
        self._cpu.za[start : start + size] = exactly(size, data, f"ZA.H[{row}]")

    def _z_window(self, n: int) -> tuple[int, int]:
        check_named("Z", n, layout.NUM_ZREGS)
        cpu = self._vector_cpu("Z")
        return layout.zreg_offset(cpu.vq, n), layout.zreg_bytes(cpu.vq_in_force)

    def _p_window(self, n: int) -> tuple[int, int]:
        check_named("P", n, layout.NUM_PREGS)
        cpu = self._vector_cpu("P")
        return layout.preg_offset(cpu.vq, n), layout.preg_bytes(cpu.vq_in_force)

    def _ffr_window(self) -> tuple[int, int]:
        fa64 = self._cpu.features.fa64 and bool(self._cpu.smcr & SMCR_FA64)
        need(fa64 or not self._cpu.svcr & SVCR_SM, "FFR")
        return layout.preg_offset(self._vector_cpu("FFR").vq, layout.FFR), self.vl // 8

    def _v_start(self, n: int) -> int:
        check_named("V", n, layout.NUM_ZREGS)
        return (layout.zreg_bytes(self._used_cpu().vq) or layout.VREG_BYTES) * n

    def _za_window(self, row: int) -> tuple[int, int]:
        need(bool(self._cpu.svcr & SVCR_ZA), "ZA")
        check_named("ZA.H", row, self.svl)
        return layout.za_row_offset(self._cpu.lengths.sme_vq, row), self.svl

    def _zt0_start(self) -> int:
        cpu = self._cpu
        need(cpu.features.sme2 and bool(cpu.svcr & SVCR_ZA) and bool(cpu.smcr & SMCR_EZT0), "ZT0")
        return layout.za_bytes(self._sme_cpu("ZT0").lengths.sme_vq)

    def _read_vectors(self, start: int, size: int) -> bytes:
        return bytes(self._cpu.vectors[start : start + size])

    def _write_vectors(self, name: str, start: int, size: int, data: Any) -> None:
        self._cpu.vectors[start : start + size] = exactly(size, data, name)

    def _clear(self, start: int, size: int, kept: int) -> None:
        if size > kept:
            self._cpu.vectors[start + kept : start + size] = bytes(size - kept)

    # The CPU, once it is certain that the instruction is defined

    def _sve_cpu(self, what: str) -> CpuRegs:
        need(self._cpu.lengths.sve_vq > 0, what)
        return self._used_cpu()

    def _sme_cpu(self, what: str) -> CpuRegs:
        need(self._cpu.lengths.sme_vq > 0, what)
        return self._used_cpu()

    def _vector_cpu(self, what: str) -> CpuRegs:
        need(self._cpu.vq != FPSIMD, what)
        return self._used_cpu()

    def _used_cpu(self) -> CpuRegs:
        self._check_running()
        self._cpu.load()
        return self._cpu

    def _check_running(self) -> None:
        if self._cpu.is_over:
            raise RuntimeError("this KVM_RUN has ended: its guest runs no more")
