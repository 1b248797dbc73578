"""What the C functions ask of their callers is asserted: a call that breaks it aborts, one just within it does not."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest

# Addresses are offsets into one buffer, None is a null pointer. A call is a name and its arguments.
Call = tuple[str, list[Any]]

EACH_CALL_IN_A_CHILD = """
import json, os, resource, sys
from kvmsve._ffi import ffi, lib
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
memory = ffi.new("uint8_t[]", 1 << 18)

def argument(value):
    if isinstance(value, list):
        return ffi.NULL if value[0] is None else memory + value[0]
    return value

for name, arguments in json.load(sys.stdin):
    said, out = os.pipe()
    if not (child := os.fork()):
        os.dup2(out, 2)
        getattr(lib, name)(*map(argument, arguments))
        os._exit(0)
    os.close(out)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, os.fdopen(said, errors="replace").read()]))
"""


def at(offset: int | None) -> list[int | None]:
    """A pointer."""
    return [offset]


def endings(calls: Iterable[Call]) -> list[tuple[int, str]]:
    """The exit code of each call in a process of its own, negative for a signal, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", EACH_CALL_IN_A_CHILD],
        input=json.dumps(list(calls)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [(code, said) for code, said in map(json.loads, done.stdout.splitlines())]


def both_ways(calls: Iterable[Call]) -> Iterator[Call]:
    """What holds of many states holds of them streamed."""
    for name, arguments in calls:
        yield name, arguments
        if name == "kvmsve_rewrite_many":
            yield "kvmsve_rewrite_streamed", arguments


def check(aborting: Iterable[Call], returning: Iterable[Call] = ()) -> None:
    """The first calls abort and say in which function, the others return."""
    aborting, returning = list(both_ways(aborting)), list(both_ways(returning))
    ends = endings([*aborting, *returning])
    for call, (code, said) in zip(aborting, ends, strict=False):
        assert code == -signal.SIGABRT, call
        assert f"{call[0]}: Assertion `" in said, call
    assert [call for call, end in zip(returning, ends[len(aborting) :], strict=True) if end != (0, "")] == []


FAR = 1 << 17


def rewrite(dst: int | None, dst_vq: int, src: int | None, src_vq: int) -> Call:
    return "kvmsve_rewrite", [at(dst), dst_vq, at(src), src_vq]


def rewrite_many(
    dst: int | None, dst_stride: int, dst_vq: int, src: int | None, src_stride: int, src_vq: int, count: int
) -> Call:
    return "kvmsve_rewrite_many", [at(dst), dst_stride, dst_vq, at(src), src_stride, src_vq, count]


def to_sve(sve: int | None, vq: int, vregs: int | None, swap: bool = False) -> Call:
    return "kvmsve_fpsimd_to_sve", [at(sve), vq, at(vregs), swap]


def from_sve(vregs: int | None, sve: int | None, vq: int, swap: bool = False) -> Call:
    return "kvmsve_sve_to_fpsimd", [at(vregs), at(sve), vq, swap]


def with_length(vq: int, other: int) -> list[Call]:
    """Every argument that is a length, `other` where there is a second one."""
    return [
        rewrite(0, vq, FAR, other),
        rewrite(0, other, FAR, vq),
        *(rewrite_many(0, 8736, vq, FAR, 8736, other, count) for count in (0, 1, 3)),
        *(rewrite_many(0, 8736, other, FAR, 8736, vq, count) for count in (0, 1, 3)),
        to_sve(0, vq, FAR),
        from_sve(0, FAR, vq, swap=True),
    ]


def test_lengths() -> None:
    wrong = [0, 17, 512, (1 << 32) - 1]
    check(
        aborting=[call for vq in wrong for call in with_length(vq, 16)],
        returning=[call for vq in (1, 2, 15, 16) for call in with_length(vq, 17 - vq)],
    )


def test_null() -> None:
    check(
        aborting=[
            rewrite(None, 1, 0, 1),
            rewrite(0, 1, None, 1),
            rewrite(None, 1, None, 1),
            rewrite_many(None, 546, 1, 0, 546, 1, 1),
            rewrite_many(0, 546, 1, None, 546, 1, 2),
            to_sve(None, 1, 0),
            to_sve(0, 1, None),
            from_sve(None, 0, 1),
            from_sve(0, None, 1),
        ],
        returning=[rewrite_many(None, 0, 1, None, 0, 1, 0), rewrite_many(0, 0, 16, 0, 0, 16, 0)],
    )


@pytest.mark.parametrize(("dst_vq", "src_vq"), [(1, 1), (1, 16), (16, 1), (5, 3)])
def test_one_state_over_another(dst_vq: int, src_vq: int) -> None:
    def calls(places: Iterable[int]) -> Iterator[Call]:
        for dst in places:
            yield rewrite(dst, dst_vq, FAR, src_vq)
            yield rewrite_many(dst, 0, dst_vq, FAR, 0, src_vq, 1)

    behind, before = FAR + 546 * src_vq, FAR - 546 * dst_vq  # where dst touches src and does not overlap it
    check(aborting=calls([behind - 1, before + 1, FAR]), returning=calls([behind, before]))


@pytest.mark.parametrize("vq", [1, 5, 16])
def test_v_over_z(vq: int) -> None:
    size = 546 * vq
    check(
        aborting=[
            *(to_sve(sve, vq, FAR) for sve in (FAR + 511, FAR - size + 1, FAR)),
            *(from_sve(vregs, FAR, vq) for vregs in (FAR + size - 1, FAR - 511, FAR)),
        ],
        returning=[
            *(to_sve(sve, vq, FAR) for sve in (FAR + 512, FAR - size)),
            *(from_sve(vregs, FAR, vq) for vregs in (FAR + size, FAR - 512)),
        ],
    )


@pytest.mark.parametrize("vq", [1, 16])
def test_states_of_dst_over_one_another(vq: int) -> None:
    def calls(*strides: int) -> Iterator[Call]:
        yield from (rewrite_many(FAR // 2, stride, vq, FAR, 0, 1, 3) for stride in strides)

    size = 546 * vq
    check(aborting=calls(0, 1, -1, size - 1, 1 - size), returning=calls(size, -size, size + 1, -size - 9))


@pytest.mark.parametrize(("dst_vq", "src_vq"), [(1, 2), (3, 1)])
def test_rows_of_dst_between_those_of_src(dst_vq: int, src_vq: int) -> None:
    """Upwards and downwards, with 20 bytes to spare in each gap."""
    read, written = 546 * src_vq, 546 * dst_vq
    step, count = read + written + 20, 3

    def calls(*places: int) -> Iterator[Call]:
        for place, dst_sign, src_sign in product(places, (1, -1), (1, -1)):
            src, dst = (FAR if sign > 0 else FAR + step * (count - 1) for sign in (src_sign, dst_sign))
            yield rewrite_many(dst + place, dst_sign * step, dst_vq, src, src_sign * step, src_vq, count)

    check(aborting=calls(read - 1, read + 21, 0), returning=calls(read, read + 20))


def test_states_anywhere() -> None:
    """Whether a call aborts is whether it writes a byte that it also reads, or writes twice."""
    pick = random.Random(4)
    aborting, returning = [], []
    for _ in range(200):
        dst_vq, src_vq, count = pick.choice((1, 1, 2)), pick.choice((1, 1, 2)), pick.randint(1, 5)
        dst_stride, src_stride = (pick.choice((-1, 1)) * pick.randint(0, 3000) for _ in range(2))
        dst = FAR + pick.randint(-6000, 6000)
        written = [n for i in range(count) for n in range(dst + i * dst_stride, dst + i * dst_stride + 546 * dst_vq)]
        read = {n for i in range(count) for n in range(FAR + i * src_stride, FAR + i * src_stride + 546 * src_vq)}
        breaks = len({*written}) < len(written) or not read.isdisjoint(written)
        call = rewrite_many(dst, dst_stride, dst_vq, FAR, src_stride, src_vq, count)
        (aborting if breaks else returning).append(call)
    assert min(len(aborting), len(returning)) > 40
    check(aborting, returning)
