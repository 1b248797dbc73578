"""The moves between formats: the C functions byte for byte, and RegFile on top of them."""

import random
import subprocess
import sys
from itertools import product

import model
import pytest

from kvmsve import HostOops
from kvmsve.machine.regfile import RegFile, ffi, lib

VQS = range(1, 17)
GUARD = b"\xee"
random_bytes = random.Random(9).randbytes


def relayout(state: bytes, dst_vq: int, src_vq: int) -> bytes:
    """What rewrite() of rfc-v2.md 4.2 makes of a state."""
    store = int.from_bytes(state[: 546 * src_vq], "little")
    return model.relayout(store, src_vq, dst_vq).to_bytes(546 * dst_vq, "little")


def low_halves(state: bytes, vq: int, swap: bool) -> bytes:
    """The low 16 bytes of each Z; `swap` reverses each."""
    return b"".join(state[16 * vq * n :][:16][:: -1 if swap else 1] for n in range(32))


def widened(vregs: bytes, vq: int, swap: bool) -> bytes:
    """A state with V in the low 16 bytes of each Z."""
    zregs = (vregs[16 * n :][:16][:: -1 if swap else 1].ljust(16 * vq, b"\0") for n in range(32))
    return b"".join(zregs).ljust(546 * vq, b"\0")


def written(size: int, offset: int, call) -> bytes:
    """The bytes that a call wrote at this offset from an aligned address; the 64 on both sides are as before."""
    memory = ffi.new("uint8_t[]", 64 + offset + size + 64)
    view = ffi.buffer(memory)
    view[:] = GUARD * len(view)
    call(memory + 64 + offset)
    assert view[: 64 + offset] == GUARD * (64 + offset)
    assert view[64 + offset + size :] == GUARD * 64
    return view[64 + offset : 64 + offset + size]


@pytest.mark.parametrize("dst_vq", VQS)
def test_kvmsve_rewrite(dst_vq):
    for src_vq, (dst_at, src_at) in product(VQS, ((0, 0), (1, 0), (0, 7), (3, 5))):
        state = random_bytes(546 * src_vq)
        memory = ffi.new("uint8_t[]", bytes(src_at) + state)
        result = written(
            546 * dst_vq, dst_at, lambda to, at=memory + src_at, vq=src_vq: lib.kvmsve_rewrite(to, dst_vq, at, vq)
        )
        assert result == relayout(state, dst_vq, src_vq), src_vq
        assert ffi.buffer(memory)[src_at : src_at + len(state)] == state


MANY = {"in the cache": lib.kvmsve_rewrite_many, "streamed": lib.kvmsve_rewrite_streamed}


def check_many(rewrite_many, dst_vq, src_vq, count, dst_gap=0, src_gap=0, offset=0):
    """Upwards and downwards, with gaps between the states, the first at this offset from an aligned address."""
    states = [random_bytes(546 * src_vq) for _ in range(count)]
    src_stride, dst_stride = 546 * src_vq + src_gap, 546 * dst_vq + dst_gap
    memory = ffi.new("uint8_t[]", b"".join(state + GUARD * src_gap for state in states))
    last = memory + src_stride * (count - 1)
    lowest, backwards = -dst_stride * (count - 1), states[::-1]
    for first, stride, src, step, order in (
        (0, dst_stride, memory, src_stride, states),
        (0, dst_stride, last, -src_stride, backwards),
        (lowest, -dst_stride, memory, src_stride, backwards),
    ):
        expected = b"".join(relayout(state, dst_vq, src_vq) + GUARD * dst_gap for state in order)
        result = written(
            dst_stride * count, offset,
            lambda to, first=first, stride=stride, src=src, step=step:
                rewrite_many(to - first, stride, dst_vq, src, step, src_vq, count),
        )  # fmt: skip
        assert result == expected


@pytest.mark.parametrize("way", MANY)
@pytest.mark.parametrize(("dst_vq", "src_vq"), [(1, 4), (4, 1), (2, 16), (16, 3), (5, 5)])
@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize(("dst_gap", "src_gap"), [(0, 0), (3, 10), (64, 1)])
def test_many_states(way, dst_vq, src_vq, count, dst_gap, src_gap):
    check_many(MANY[way], dst_vq, src_vq, count, dst_gap, src_gap)


@pytest.mark.parametrize("way", MANY)
def test_many_states_at_every_place_in_a_cache_line(way):
    for offset, (dst_vq, src_vq, dst_gap) in product(range(64), ((1, 2, 0), (2, 1, 1), (3, 3, 28), (16, 15, 63))):
        check_many(MANY[way], dst_vq, src_vq, 2, dst_gap, offset=offset)


@pytest.mark.parametrize("way", MANY)
@pytest.mark.parametrize("dst_vq", VQS)
def test_many_states_of_every_pair_of_lengths(way, dst_vq):
    for src_vq in VQS:
        check_many(MANY[way], dst_vq, src_vq, 3, offset=dst_vq)


@pytest.mark.parametrize("way", MANY)
@pytest.mark.parametrize("count", range(1, 30, 4))
def test_many_states_about_as_many_as_are_fetched_ahead(way, count):
    """At the shortest length the CPU is told of eight states ahead."""
    for dst_vq, src_vq in ((1, 1), (1, 2), (2, 1)):
        check_many(MANY[way], dst_vq, src_vq, count)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("vq", VQS)
@pytest.mark.parametrize("offset", [0, 5])
def test_kvmsve_fpsimd_to_sve_and_back(vq, swap, offset):
    vregs, state = random_bytes(512), random_bytes(546 * vq)
    v = ffi.new("uint8_t[]", bytes(offset) + vregs)
    sve = ffi.new("uint8_t[]", bytes(offset) + state)
    wide = written(546 * vq, offset, lambda to: lib.kvmsve_fpsimd_to_sve(to, vq, v + offset, swap))
    assert wide == widened(vregs, vq, swap)
    narrow = written(512, offset, lambda to: lib.kvmsve_sve_to_fpsimd(to, sve + offset, vq, swap))
    assert narrow == low_halves(state, vq, swap)


BETWEEN_FORBIDDEN_PAGES = """
import ctypes, mmap
from itertools import product
from kvmsve._ffi import ffi, lib
mprotect = ctypes.CDLL(None, use_errno=True).mprotect

def edges(area):
    # For a size, the first and the last address where so many bytes fit between the two forbidden pages
    start = ffi.cast("uint8_t *", ffi.from_buffer(area))
    last_page = len(area) - mmap.PAGESIZE
    for page in (start, start + last_page):
        assert mprotect(ctypes.c_void_p(int(ffi.cast("uintptr_t", page))), mmap.PAGESIZE, 0) == 0
    return lambda size: (start + mmap.PAGESIZE, start + last_page - size)

areas = [mmap.mmap(-1, 5 * mmap.PAGESIZE) for _ in range(2)]
a, b = map(edges, areas)
room = 3 * mmap.PAGESIZE
for vq in range(1, 17):
    for src_vq in range(1, 17):
        for dst in a(546 * vq):
            for src in b(546 * src_vq):
                lib.kvmsve_rewrite(dst, vq, src, src_vq)
        size, src_size = 546 * vq, 546 * src_vq
        count = room // max(size, src_size)
        for rewrite_many in (lib.kvmsve_rewrite_many, lib.kvmsve_rewrite_streamed):
            for dst, src in product(a(count * size), b(count * src_size)):
                rewrite_many(dst, size, vq, src, src_size, src_vq, count)
    for swap in (False, True):
        for sve, vregs in zip(a(546 * vq), b(512)):
            lib.kvmsve_fpsimd_to_sve(sve, vq, vregs, swap)
            lib.kvmsve_sve_to_fpsimd(vregs, sve, vq, swap)
"""


def test_c_reads_and_writes_nothing_around_a_state():
    """Each state begins right after a page that cannot be accessed, or ends right before one."""
    subprocess.run([sys.executable, "-c", BETWEEN_FORBIDDEN_PAGES], capture_output=True, check=True)


# RegFile


def filled(max_vq: int, swap: bool = False) -> RegFile:
    regs = RegFile(swap)
    regs.allocate(max_vq, 256 * max_vq**2)
    for buffer in (regs.sve_state, regs.sme_state, regs.kvm_regs):
        buffer.view[:] = random_bytes(buffer.size)
    return regs


def test_a_new_regfile_is_all_zero():
    regs = RegFile()
    assert regs.kvm_regs.view[:] == bytes(864)
    assert (regs.sve_state.size, regs.sme_state.size, regs.max_vq, regs.sysregs) == (0, 0, 0, {})
    regs.allocate(4, 4608)
    assert (regs.sve_state.view[:], regs.sme_state.view[:], regs.max_vq) == (bytes(2184), bytes(4608), 4)
    regs.sme_state.view[:] = b"\x11" * 4608
    regs.sme_state.clear()
    assert regs.sme_state.view[:] == bytes(4608)


@pytest.mark.parametrize("dst_vq", VQS)
def test_rewrite_leaves_zeroes_after_the_new_layout(dst_vq):
    for src_vq in VQS:
        max_vq = max(dst_vq, src_vq)
        regs = filled(max_vq)
        core, sme = bytes(regs.kvm_regs.view), bytes(regs.sme_state.view)
        for old, new in ((src_vq, dst_vq), (dst_vq, src_vq)):  # the second goes into a buffer that held something
            state = bytes(regs.sve_state.view)
            regs.rewrite(new, old)
            assert regs.sve_state.view[:] == relayout(state, new, old).ljust(546 * max_vq, b"\0")
            regs.sve_state.view[:] = random_bytes(546 * max_vq)
        assert (bytes(regs.kvm_regs.view), bytes(regs.sme_state.view)) == (core, sme)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("vq", VQS)
def test_v_and_z_trade_places(vq, swap):
    regs = filled(vq, swap)
    core, state = bytes(regs.kvm_regs.view), bytes(regs.sve_state.view)
    regs.sve_to_fpsimd()
    assert regs.kvm_regs.view[:] == core[:336] + low_halves(state, vq, swap) + core[848:]
    assert regs.sve_state.view[:] == state
    vregs = random_bytes(512)
    regs.kvm_regs.view[336:848] = vregs
    regs.fpsimd_to_sve()
    assert regs.sve_state.view[:] == widened(vregs, vq, swap)
    assert regs.kvm_regs.view[:] == core[:336] + vregs + core[848:]


def test_no_sve_state_to_convert_from():
    with pytest.raises(HostOops):
        RegFile().sve_to_fpsimd()


@pytest.mark.parametrize("swap", [False, True])
def test_v_as_a_cpu_sees_it(swap):
    regs = filled(1, swap)
    core, vregs = bytes(regs.kvm_regs.view), random_bytes(512)
    assert regs.load_vregs() == low_halves(core[336:848], 1, swap)
    regs.store_vregs(vregs)
    assert regs.kvm_regs.view[:] == core[:336] + low_halves(vregs, 1, swap) + core[848:]
    assert regs.load_vregs() == vregs


def test_fpsr_and_fpcr_follow_v():
    regs = filled(1)
    core = bytes(regs.kvm_regs.view)
    assert regs.fpsr == int.from_bytes(core[848:852], "little")
    assert regs.fpcr == int.from_bytes(core[852:856], "little")
    regs.fpsr, regs.fpcr = 0x0800009F, 0xF0F1F2F3
    assert regs.kvm_regs.view[:] == core[:848] + bytes.fromhex("9f000008 f3f2f1f0") + core[856:]


def test_a_register_file_is_little_endian_unless_told():
    regs = RegFile()
    vregs = random_bytes(512)
    regs.store_vregs(vregs)
    assert regs.kvm_regs.view[0x54 * 4 : 0xD4 * 4] == vregs
    assert regs.load_vregs() == vregs
