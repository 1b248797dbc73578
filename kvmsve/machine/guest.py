"""What a running guest does: SMSTART, SMSTOP, and reads and writes of Z, P, FFR, V, ZA, ZT0 and control registers.

Source: rfc-v2.md section 7; Arm ARM (DDI 0487) B1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, SupportsIndex

from ..errors import GuestUndefined
from ..facts import SMCR_EZT0, SMCR_FA64, SVCR_SM, SVCR_ZA, layout, regid
from ..rules import FPSIMD
from .cpu import CpuFeatures, CpuRegs
from .ownership import Ownership
from .regfile import RegFile

U32 = (1 << 32) - 1
U64 = (1 << 64) - 1


class Bank:
    """A numbered set of registers: `bank[n]` reads bytes, `bank[n] = data` writes them."""

    __slots__ = ("_read", "_write")

    def __init__(self, read: Callable[[int], bytes], write: Callable[[int, Any], None]) -> None:
        self._read = read
        self._write = write

    def __getitem__(self, n: SupportsIndex) -> bytes:
        return self._read(index(n))

    def __setitem__(self, n: SupportsIndex, data: Any) -> None:
        self._write(index(n), data)


class Guest:
    """A guest at EL1 during one KVM_RUN; its first use of any register here makes it own the FP state.

    Registers are bytes in and out at the length in force, control registers are integers. GuestUndefined where the
    instruction would take an exception (that is no use of FP), IndexError for a register that no instruction can
    name, ValueError for data of another length, RuntimeError when the run has ended. CPACR_EL1 is kept but does not
    trap: a guest here has enabled what it uses.
    """

    def __init__(self, regs: RegFile, ownership: Ownership, features: CpuFeatures, smidr: int | None) -> None:
        """`smidr`: what SMIDR_EL1 reads as, None where it is UNDEFINED."""
        self._cpu = CpuRegs(regs, ownership, features)
        self._smidr = smidr
        self._sysregs = regs.sysregs
        self._over = False
        self.z = Bank(self._read_z, self._write_z)
        self.p = Bank(self._read_p, self._write_p)
        self.v = Bank(self._read_v, self._write_v)
        self.za = Bank(self._read_za, self._write_za)

    def smstart(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """Streaming mode (`sm`), ZA (`za`), or without arguments both are on; what was off starts as zeroes."""
        self.svcr |= _mode_bits(sm, za)

    def smstop(self, *, sm: bool | None = None, za: bool | None = None) -> None:
        """Streaming mode, ZA, or without arguments both are off; leaving streaming mode zeroes Z, P and FFR."""
        self.svcr &= ~_mode_bits(sm, za)

    @property
    def svcr(self) -> int:
        """Bit 0 SM, bit 1 ZA. Writing it has the effects of SMSTART and SMSTOP."""
        return self._sme_cpu("SVCR").svcr

    @svcr.setter
    def svcr(self, value: int) -> None:
        self._sme_cpu("SVCR").set_svcr(index(value))

    @property
    def zcr(self) -> int:
        """ZCR_EL1; LEN limits the non-streaming length, a write changes no register."""
        return self._sve_cpu("ZCR_EL1").zcr

    @zcr.setter
    def zcr(self, value: int) -> None:
        self._sve_cpu("ZCR_EL1").set_zcr(index(value) & U64)

    @property
    def smcr(self) -> int:
        """SMCR_EL1; LEN limits the streaming length, FA64 and EZT0 let FFR and ZT0 be used there."""
        return self._sme_cpu("SMCR_EL1").smcr

    @smcr.setter
    def smcr(self, value: int) -> None:
        self._sme_cpu("SMCR_EL1").set_smcr(index(value) & U64)

    @property
    def fpsr(self) -> int:
        return self._used_cpu().fpsr

    @fpsr.setter
    def fpsr(self, value: int) -> None:
        self._used_cpu().fpsr = index(value) & U32

    @property
    def fpcr(self) -> int:
        return self._used_cpu().fpcr

    @fpcr.setter
    def fpcr(self, value: int) -> None:
        self._used_cpu().fpcr = index(value) & U32

    @property
    def cpacr(self) -> int:
        """CPACR_EL1; neither a read nor a write is a use of FP."""
        self._check_running()
        return self._sysregs[regid.CPACR_EL1]

    @cpacr.setter
    def cpacr(self, value: int) -> None:
        self._check_running()
        self._sysregs[regid.CPACR_EL1] = index(value) & U64

    @property
    def tpidr2(self) -> int:
        """TPIDR2_EL0."""
        self._sme_cpu("TPIDR2_EL0")
        return self._sysregs[regid.TPIDR2_EL0]

    @property
    def fpmr(self) -> int:
        """FPMR, of a CPU that has it."""
        _need(self._cpu.features.fpmr, "FPMR")
        self._used_cpu()
        return self._sysregs[regid.FPMR]

    @fpmr.setter
    def fpmr(self, value: int) -> None:
        _need(self._cpu.features.fpmr, "FPMR")
        self._used_cpu()
        self._sysregs[regid.FPMR] = index(value) & U64

    @property
    def smidr(self) -> int:
        """SMIDR_EL1."""
        _need(self._smidr is not None, "SMIDR_EL1")
        self._used_cpu()
        return self._smidr or 0

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
        self._cpu.za[start : start + layout.ZT0_BYTES] = _exactly(layout.ZT0_BYTES, data, "ZT0")

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
        if not self._over:
            self._cpu.save()
        self._over = True

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
        self._cpu.za[start : start + size] = _exactly(size, data, f"ZA.H[{row}]")

    def _z_window(self, n: int) -> tuple[int, int]:
        _check_number("Z", n, layout.NUM_ZREGS)
        cpu = self._vector_cpu("Z")
        return layout.zreg_offset(cpu.vq, n), layout.zreg_bytes(cpu.vq_in_force)

    def _p_window(self, n: int) -> tuple[int, int]:
        _check_number("P", n, layout.NUM_PREGS)
        cpu = self._vector_cpu("P")
        return layout.preg_offset(cpu.vq, n), layout.preg_bytes(cpu.vq_in_force)

    def _ffr_window(self) -> tuple[int, int]:
        fa64 = self._cpu.features.fa64 and bool(self._cpu.smcr & SMCR_FA64)
        _need(fa64 or not self._cpu.svcr & SVCR_SM, "FFR")
        return layout.preg_offset(self._vector_cpu("FFR").vq, layout.FFR), self.vl // 8

    def _v_start(self, n: int) -> int:
        _check_number("V", n, layout.NUM_ZREGS)
        return (layout.zreg_bytes(self._used_cpu().vq) or layout.VREG_BYTES) * n

    def _za_window(self, row: int) -> tuple[int, int]:
        _need(bool(self._cpu.svcr & SVCR_ZA), "ZA")
        _check_number("ZA.H", row, self.svl)
        return layout.za_row_offset(self._cpu.lengths.sme_vq, row), self.svl

    def _zt0_start(self) -> int:
        cpu = self._cpu
        _need(cpu.features.sme2 and bool(cpu.svcr & SVCR_ZA) and bool(cpu.smcr & SMCR_EZT0), "ZT0")
        return layout.za_bytes(self._sme_cpu("ZT0").lengths.sme_vq)

    def _read_vectors(self, start: int, size: int) -> bytes:
        return bytes(self._cpu.vectors[start : start + size])

    def _write_vectors(self, name: str, start: int, size: int, data: Any) -> None:
        self._cpu.vectors[start : start + size] = _exactly(size, data, name)

    def _clear(self, start: int, size: int, kept: int) -> None:
        if size > kept:
            self._cpu.vectors[start + kept : start + size] = bytes(size - kept)

    # The CPU, once it is certain that the instruction is defined

    def _sve_cpu(self, what: str) -> CpuRegs:
        _need(self._cpu.lengths.sve_vq > 0, what)
        return self._used_cpu()

    def _sme_cpu(self, what: str) -> CpuRegs:
        _need(self._cpu.lengths.sme_vq > 0, what)
        return self._used_cpu()

    def _vector_cpu(self, what: str) -> CpuRegs:
        _need(self._cpu.vq != FPSIMD, what)
        return self._used_cpu()

    def _used_cpu(self) -> CpuRegs:
        self._check_running()
        self._cpu.load()
        return self._cpu

    def _check_running(self) -> None:
        if self._over:
            raise RuntimeError("this KVM_RUN has ended: its guest runs no more")


def _mode_bits(sm: bool | None, za: bool | None) -> int:
    if sm is None and za is None:
        return SVCR_SM | SVCR_ZA
    return SVCR_SM * bool(sm) | SVCR_ZA * bool(za)


def _need(there: bool, what: str) -> None:
    if not there:
        raise GuestUndefined(f"{what} is UNDEFINED for this guest, in this mode")


def _check_number(what: str, n: int, count: int) -> None:
    if not 0 <= n < count:
        raise IndexError(f"there is no {what}{n}: they go from 0 to {count - 1}")


def _exactly(size: int, data: Any, what: str) -> bytes:
    raw = memoryview(data).tobytes()
    if len(raw) != size:
        raise ValueError(f"{what} has {size} bytes at the length in force, not {len(raw)}")
    return raw
