"""The bytes of one vCPU, and the moves between formats: what a move does, never when.

The only importer of the C module. Every buffer is allocated once; a conversion writes the spare one and swaps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from . import layout
from ._ffi import ffi, lib
from .errors import HostOops, check_number

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from numpy.typing import NDArray


class Buffer:
    """Zeroed memory that C and Python share: `pointer` for the one, `view` for the other."""

    __slots__ = ("pointer", "size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer: Any = ffi.new("uint8_t[]", size)
        self.view: Any = ffi.buffer(self.pointer)

    def clear(self) -> None:
        self.view[:] = bytes(self.size)


class RegFile:
    """What the kernel holds of one vCPU's registers, byte for byte.

    `kvm_regs` is struct kvm_regs with V, FPSR and FPCR in it; `sysregs` holds values by register ID. `sve_state` and
    `sme_state` are empty until `allocate`. On a big-endian host (`swap`) V lies byte-reversed beside Z.
    """

    __slots__ = (
        "_spare", "_vregs_pointer", "failing_allocations", "kvm_regs", "max_vq", "sme_state", "sve_state", "swap",
        "sysregs",
    )  # fmt: skip

    def __init__(self, swap: bool = False) -> None:
        self.swap = swap
        self.sysregs: dict[int, int] = {}
        self.kvm_regs = Buffer(layout.KVM_REGS_BYTES)
        self._vregs_pointer = self.kvm_regs.pointer + layout.VREGS_OFFSET
        self.max_vq = 0
        self.failing_allocations = 0
        self.sve_state = Buffer(0)
        self._spare = Buffer(0)
        self.sme_state = Buffer(0)

    def allocate(self, max_vq: int, sme_state_bytes: int) -> None:
        """sve_state and sme_state are there, all zero."""
        self.max_vq = max_vq
        self.sve_state = Buffer(layout.sve_state_bytes(max_vq))
        self._spare = Buffer(layout.sve_state_bytes(max_vq))
        self.sme_state = Buffer(sme_state_bytes)

    def allocation_fails(self) -> bool:
        """The kernel's next allocation is one that was made to fail; it is used up."""
        if not self.failing_allocations:
            return False
        self.failing_allocations -= 1
        return True

    def rewrite(self, dst_vq: int, src_vq: int) -> None:
        """sve_state is laid out for dst_vq instead of src_vq, and zero from 546 * dst_vq on.

        If the kernel's allocation fails, nothing happens, and nobody is told (rfc-v2.md Q13).
        Source: arch/arm64/kvm/fpsimd.c, vcpu_rewrite_sve().
        """
        if self.allocation_fails():
            return
        old, new = self.sve_state, self._spare
        lib.kvmsve_rewrite(new.pointer, dst_vq, old.pointer, src_vq)
        used = layout.sve_state_bytes(dst_vq)
        new.view[used:] = bytes(new.size - used)
        self.sve_state, self._spare = new, old

    def fpsimd_to_sve(self) -> None:
        """sve_state holds V in the low bytes of Z at max_vq, and zeroes elsewhere."""
        lib.kvmsve_fpsimd_to_sve(self.sve_state.pointer, self.max_vq, self._vregs_pointer, self.swap)

    def sve_to_fpsimd(self) -> None:
        """V holds the low bytes of Z at max_vq; sve_state keeps what it had.

        Without an sve_state the kernel follows a NULL pointer: HostOops.
        """
        if not self.sve_state.size:
            raise HostOops("KVM_RUN converts from an sve_state that was never allocated (rfc-v2.md Q6)")
        lib.kvmsve_sve_to_fpsimd(self._vregs_pointer, self.sve_state.pointer, self.max_vq, self.swap)

    def reset_kvm_regs(self, pstate: int) -> None:
        """struct kvm_regs is zero but for PSTATE."""
        self.kvm_regs.clear()
        self.kvm_regs.view[layout.PSTATE_OFFSET : layout.PSTATE_OFFSET + 8] = pstate.to_bytes(8, "little")

    def clear_vregs(self) -> None:
        """V holds zeroes."""
        self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET] = bytes(layout.VREGS_BYTES)

    def load_vregs(self) -> bytearray:
        """The 512 bytes of V as a CPU would load them: little-endian registers."""
        return self._swapped(self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET])

    def store_vregs(self, vregs: bytes | bytearray) -> None:
        """V in memory holds what a CPU would store for these little-endian registers."""
        self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET] = bytes(self._swapped(vregs))

    def _swapped(self, vregs: bytes | bytearray) -> bytearray:
        if not self.swap:
            return bytearray(vregs)
        reversed_all = bytes(vregs)[::-1]
        starts = range(layout.VREGS_BYTES - layout.VREG_BYTES, -1, -layout.VREG_BYTES)
        return bytearray(b"".join(reversed_all[start : start + layout.VREG_BYTES] for start in starts))

    @property
    def fpsr(self) -> int:
        return self._u32(layout.FPSR_OFFSET)

    @fpsr.setter
    def fpsr(self, value: int) -> None:
        self.kvm_regs.view[layout.FPSR_OFFSET : layout.FPSR_OFFSET + 4] = value.to_bytes(4, "little")

    @property
    def fpcr(self) -> int:
        return self._u32(layout.FPCR_OFFSET)

    @fpcr.setter
    def fpcr(self, value: int) -> None:
        self.kvm_regs.view[layout.FPCR_OFFSET : layout.FPCR_OFFSET + 4] = value.to_bytes(4, "little")

    def _u32(self, offset: int) -> int:
        return int.from_bytes(self.kvm_regs.view[offset : offset + 4], "little")


def rewrite(
    states: NDArray[np.uint8],
    dst_vq: int,
    src_vq: int,
    out: NDArray[np.uint8] | None = None,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """A uint8 array (..., 546 * dst_vq) with the states of a uint8 array (..., 546 * src_vq) at the other length.

    Each register is zero-extended or truncated. `out`, if given, is filled and returned; it must not overlap `states`.
    Rows may be strided, the bytes of one state must be adjacent. ValueError and TypeError name what was expected:
    lengths first, then type, shape, adjacency, overlap.
    """
    import numpy as np

    dst_vq = check_number("dst_vq", dst_vq, 1, layout.VQ_MAX + 1)
    src_vq = check_number("src_vq", src_vq, 1, layout.VQ_MAX + 1)
    threads = check_number("threads", threads, 1, 1 << 10)
    _expect_states(states, "states", (..., layout.sve_state_bytes(src_vq)))
    dst_shape = (*states.shape[:-1], layout.sve_state_bytes(dst_vq))
    if out is None:
        out = np.empty(dst_shape, np.uint8)
    else:
        _expect_states(out, "out", dst_shape)
        if not out.flags.writeable:
            raise ValueError("out must be writeable")
        if np.shares_memory(out, states):
            raise ValueError("out must not overlap states")
        if _states_overlap(out):
            raise ValueError("the states of out must not overlap one another")
    share = partial(_rewrite_share, out, states, dst_vq, src_vq, threads)
    others = _waiting_threads(threads - 1).map(share, range(1, threads)) if threads > 1 else ()
    try:
        share(0)
    finally:
        for _ in others:
            continue
    return out


@lru_cache(maxsize=1)
def _waiting_threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call; to start them anew costs as much as to rewrite a thousand states."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count)


os.register_at_fork(after_in_child=_waiting_threads.cache_clear)


def _expect_states(array: NDArray[np.uint8], what: str, shape: tuple[Any, ...]) -> None:
    """`array` is a uint8 array of that shape (a leading ... stands for any axes) with adjacent bytes in each state."""
    wanted = f"a uint8 array of shape ({', '.join('...' if n is ... else str(n) for n in shape)})"
    if not hasattr(array, "__array_interface__") or array.dtype != "uint8":
        raise TypeError(f"{what} must be {wanted}, not {getattr(array, 'dtype', type(array).__name__)}")
    fits = array.shape[-1:] == shape[-1:] if shape[0] is ... else array.shape == shape
    if not fits:
        raise ValueError(f"{what} must be {wanted}, not of shape {array.shape}")
    if array.strides[-1] != 1 and array.size:
        raise ValueError(f"the bytes of one state of {what} must be adjacent; pass numpy.ascontiguousarray({what})")


def _states_overlap(array: NDArray[np.uint8]) -> bool:
    """Whether two states share a byte."""
    import numpy as np

    if not array.size:
        return False
    axes = sorted((abs(stride), n) for stride, n in zip(array.strides[:-1], array.shape[:-1], strict=True) if n > 1)
    span = size = array.shape[-1]
    is_nested = True  # from the innermost axis outwards each step is over all that the last axis reaches
    for stride, count in axes:
        is_nested &= stride >= span
        span += stride * (count - 1)
    if is_nested or array.size > span:
        return not is_nested
    starts = np.zeros(1, np.int64)
    for stride, count in axes:
        starts = np.add.outer(starts, stride * np.arange(count)).ravel()
    return bool((np.diff(np.sort(starts)) < size).any())


def _rewrite_share(
    dst: NDArray[np.uint8], src: NDArray[np.uint8], dst_vq: int, src_vq: int, threads: int, thread: int
) -> None:
    """One thread's blocks of the rows; C runs without the GIL."""
    for to, source in islice(_row_blocks(dst, src, threads), thread, None, threads):
        lib.kvmsve_rewrite_many(
            _pointer(to), to.strides[0], dst_vq, _pointer(source), source.strides[0], src_vq, len(to)
        )


def _row_blocks(
    dst: NDArray[np.uint8], src: NDArray[np.uint8], blocks: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of two-dimensional views that together cover dst and src, at least `blocks` if there are so many rows."""
    if not dst.size:
        return
    try:
        dst_rows = dst.reshape(-1, dst.shape[-1], copy=False)
        src_rows = src.reshape(-1, src.shape[-1], copy=False)
    except ValueError:  # the leading axes do not lie at one stride
        for dst_part, src_part in zip(dst, src, strict=True):
            yield from _row_blocks(dst_part, src_part, blocks)
        return
    count = len(dst_rows)
    edges = [count * block // blocks for block in range(blocks + 1)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield dst_rows[start:stop], src_rows[start:stop]


def _pointer(rows: NDArray[np.uint8]) -> Any:
    return ffi.cast("uint8_t *", rows.__array_interface__["data"][0])
