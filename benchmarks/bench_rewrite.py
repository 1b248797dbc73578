"""One conversion of one state, timed in C: every vq pair, FPSIMD, and what else one could use."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from timeit import Timer

import numpy as np
import plot
import pytest
from baseline import ffi, lib, of_kvmsve
from measure import least, mean, overall

import kvmsve
from kvmsve.facts.layout import VQ_MAX, sve_state_bytes

LENGTHS = range(1, VQ_MAX + 1)
UNEQUAL = [(src_vq, dst_vq) for src_vq, dst_vq in product(LENGTHS, LENGTHS) if src_vq != dst_vq]
SHOWN = [(1, 16), (2, 4), (4, 8), (8, 16), (16, 8), (8, 4), (4, 2), (16, 1)]
CALLS, ROUNDS = 100, 200
PAGE_BYTES = 4096

KVMSVE, PATCH, MEMCPY = "kvmsve_rewrite", "the patch's way", "memcpy of the larger state"


def aligned_state() -> np.ndarray:
    """Room for a state at the start of a page: two at a distance left to chance stall CPUs at some (4K aliasing)."""
    memory = np.ones(sve_state_bytes(VQ_MAX) + PAGE_BYTES, np.uint8)
    return memory[-memory.ctypes.data % PAGE_BYTES :][: sve_state_bytes(VQ_MAX)]


DST, SRC = aligned_state(), aligned_state()


def pointer(array: np.ndarray) -> object:
    return ffi.from_buffer("uint8_t[]", array)


def rewrites(src_vq: int, dst_vq: int) -> dict[str, Callable[[], float]]:
    """Timers of one vq pair."""
    dst, src = pointer(DST), pointer(SRC)
    kvmsve = of_kvmsve("kvmsve_rewrite", "rewrite_fn *")
    return {
        KVMSVE: lambda: lib.rewrite_ns(kvmsve, dst, dst_vq, src, src_vq, CALLS),
        PATCH: lambda: lib.rewrite_ns(lib.patch_rewrite, src, dst_vq, src, src_vq, CALLS),
        MEMCPY: lambda: lib.rewrite_ns(lib.copy_larger, dst, dst_vq, src, src_vq, CALLS),
    }


def test_every_pair(report, benchmark, request):
    pairs = list(product(LENGTHS, LENGTHS))
    timers = {(name, *pair): timer for pair in pairs for name, timer in rewrites(*pair).items()}
    parts = least(timers, ROUNDS)
    ns = overall(parts)
    worst = min(UNEQUAL, key=lambda pair: ns[PATCH, *pair] / ns[KVMSVE, *pair])
    for name, slow, fast, pairs, remark in (
        ("patch", PATCH, KVMSVE, UNEQUAL, ""),
        ("patch, worst", PATCH, KVMSVE, [worst], "vq {} to {}".format(*worst)),
        ("memcpy", KVMSVE, MEMCPY, UNEQUAL, ""),
    ):
        report.figure(name, [mean(part[slow, *pair] / part[fast, *pair] for pair in pairs) for part in parts], remark)
    benchmark.extra_info["ns"] = {
        f"{src}>{dst}": {name: ns[name, src, dst] for name in (KVMSVE, PATCH, MEMCPY)} for src, dst in pairs
    }
    benchmark.pedantic(rewrites(16, 8)[KVMSVE], rounds=100)
    if request.config.option.per_pair:
        columns = [str(dst_vq) for dst_vq in LENGTHS]
        for name in (KVMSVE, PATCH, MEMCPY):
            rows = {f"from vq {src}": [ns[name, src, dst] for dst in LENGTHS] for src in LENGTHS}
            report.table(f"{name}, ns, to vq", columns, rows, ".0f")
    if request.config.option.plot:
        plot.write(
            request.config.option.plot,
            {name: {pair: ns[name, *pair] for pair in UNEQUAL} for name in (KVMSVE, PATCH, MEMCPY)},
        )


def numpy_rewrite(dst: np.ndarray, dst_vq: int, src: np.ndarray, src_vq: int) -> None:
    """Strided copies of all Z and of all P registers."""
    for start, count, unit in ((0, 32, 16), (512, 17, 2)):
        kept = unit * min(dst_vq, src_vq)
        to = dst[start * dst_vq :][: count * unit * dst_vq].reshape(count, -1)
        to[:, :kept] = src[start * src_vq :][: count * unit * src_vq].reshape(count, -1)[:, :kept]
        to[:, kept:] = 0


def python_rewrite(dst_vq: int, src: bytes, src_vq: int) -> bytes:
    """Slices, padded and joined."""
    registers = []
    for start, count, unit in ((0, 32, 16), (512, 17, 2)):
        for n in range(count):
            at = start * src_vq + n * unit * src_vq
            registers.append(src[at : at + unit * min(dst_vq, src_vq)].ljust(unit * dst_vq, b"\0"))
    return b"".join(registers)


@pytest.mark.parametrize(("src_vq", "dst_vq"), SHOWN)
def test_peers_do_the_same(src_vq, dst_vq):
    src = np.arange(sve_state_bytes(src_vq), dtype=np.uint32).astype(np.uint8)
    wanted = kvmsve.rewrite(src, dst_vq, src_vq)
    dst = np.ones_like(wanted)
    numpy_rewrite(dst, dst_vq, src, src_vq)
    assert np.array_equal(dst, wanted)
    assert python_rewrite(dst_vq, bytes(src), src_vq) == bytes(wanted)
    state = np.resize(src, max(src.size, dst.size))
    lib.patch_rewrite(pointer(state), dst_vq, pointer(state), src_vq)
    assert np.array_equal(state[: dst.size], wanted)


def test_peers(report, benchmark):
    rows: dict[str, list[float]] = {}
    for src_vq, dst_vq in SHOWN:
        names = {
            "numpy_rewrite": numpy_rewrite,
            "python_rewrite": python_rewrite,
            "dst": DST,
            "src": SRC,
            "raw": bytes(SRC),
        }
        names |= {"dst_vq": dst_vq, "src_vq": src_vq}
        in_numpy = Timer("numpy_rewrite(dst, dst_vq, src, src_vq)", globals=names)
        in_python = Timer("python_rewrite(dst_vq, raw, src_vq)", globals=names)
        timers = rewrites(src_vq, dst_vq) | {
            "numpy, strided copies": lambda timer=in_numpy: timer.timeit(CALLS) / CALLS * 1e9,
            "plain Python": lambda timer=in_python: timer.timeit(CALLS) / CALLS * 1e9,
        }
        for name, value in overall(least(timers)).items():
            rows.setdefault(name, []).append(value)
    report.table("one state, ns", [f"vq {src} to {dst}" for src, dst in SHOWN], rows, ".0f")
    benchmark.pedantic(numpy_rewrite, (DST, 8, SRC, 16), rounds=100)


def test_fpsimd(report, benchmark):
    state, vregs = pointer(DST), pointer(SRC)
    ours = (
        of_kvmsve("kvmsve_fpsimd_to_sve", "fpsimd_to_sve_fn *"),
        of_kvmsve("kvmsve_sve_to_fpsimd", "sve_to_fpsimd_fn *"),
    )
    copies = lib.copy_state, lib.copy_vregs
    timers = {
        (vq, kind): lambda vq=vq, there=there, back=back: lib.round_trip_ns(there, back, state, vregs, vq, CALLS)
        for vq in LENGTHS
        for kind, (there, back) in {"ours": ours, "copies": copies}.items()
    }
    parts = least(timers, ROUNDS)
    report.figure("fpsimd", [mean(ns[vq, "ours"] / ns[vq, "copies"] for vq in LENGTHS) for ns in parts])
    benchmark.pedantic(timers[16, "ours"], rounds=100)
