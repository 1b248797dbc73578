"""Replay notices: any observed value that is changed is named, with line, operation, register, byte and values."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import recorded
from places import RECORDINGS
from recorded import Op

from kvmsve.ops.operations import Operation
from kvmsve.ops.outcome import Difference
from kvmsve.ops.play import Misuse
from kvmsve.recording.file import Recording, RecordingError
from kvmsve.recording.replay import Replay

NAMES = [
    "linux61-nosve", "linux61-vq1-4", "linux73-vq1-2-4", "rfc-posted-sveonly", "rfc-posted", "rfc-r1-general",
    "rfc-r1-s2m4", "rfc-r1-s4m2", "rfc-r123-smeonly-s0m4",
]  # fmt: skip
FLIPS_PER_FILE = 10
Change = Callable[[Op, random.Random], str]


def play(name: str, ops: Iterable[tuple[int, Op | Operation]]) -> None:
    replay = Replay(Recording(RECORDINGS / f"{name}.jsonl.xz"))
    for line, op in ops:
        replay.play(line, recorded.operation(op) if isinstance(op, dict) else op)


def flip(values: str, mask: str, rng: random.Random) -> tuple[int, str, str, str]:
    """One bit of bytes in hexadecimal is flipped under a mask: where, the result, and the byte after and before."""
    data, bits = bytearray.fromhex(values), bytes.fromhex(mask) or b"\xff" * (len(values) // 2)
    at, bit = rng.choice([(at, bit) for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1])
    before = data[at]
    data[at] ^= 1 << bit
    return at, data.hex(), f"0x{data[at]:02x}", f"0x{before:02x}"


# Each changes an operation in one place and returns what the complaint says


def change_data(op: Op, rng: random.Random) -> str:
    at, op["data"], after, before = flip(op["data"], op.get("mask", ""), rng)
    reg_id = int(op["id"], 16)
    register = recorded.register_name(reg_id) if recorded.is_named(reg_id) else ""
    return f"get of {register}{': ' if register else '.*: '}byte {at}: expected {after}, actual {before}"


def change_short_buffer(op: Op, rng: random.Random) -> str:
    at, changed, after, before = flip(op["buf"][: 2 * op["copied"]] if op["ret"] else op["buf"], "", rng)
    op["buf"] = changed + op["buf"][len(changed) :]
    return f"get_short of .*: byte {at}: expected {after}, actual {before}"


def change_errno(op: Op, rng: random.Random) -> str:
    actual = op["errno"]
    op["errno"] = rng.choice(sorted({"EINVAL", "ENOENT", "EPERM", "EFAULT", "EIO", "ENOEXEC", "E2BIG"} - {actual}))
    return f"{op['op']}.*: expected {op['errno']}, actual {actual} "


def make_success(op: Op, rng: random.Random) -> str:
    op.update({"get": {"data": ""}, "reg_list": {"core": 0, "sve": 0, "ids": []}}.get(op["op"], {}), ret=0)
    return f"{op['op']}.*: expected success, actual {op.pop('errno')} "


def make_failure(op: Op, rng: random.Random) -> str:
    op["ret"], op["errno"] = -1, "EIO"
    return f"{op['op']}.*: expected EIO, actual success"


def change_room(op: Op, rng: random.Random) -> str:
    op["n_out"] += rng.choice((-1, 1))
    return f"reg_list: n: expected {op['n_out']}, actual "


def change_kind_count(op: Op, rng: random.Random) -> str:
    kind = rng.choice(("core", "sve"))
    op[kind] += rng.choice((-1, 1)) if op[kind] else 1
    return f"reg_list: (core|SVE) registers: expected {op[kind]}, actual "


def change_listed_id(op: Op, rng: random.Random) -> str:
    at = rng.randrange(len(op["ids"]))
    op["ids"][at] = f"{int(op['ids'][at], 16) ^ 1 << rng.randrange(64):016x}"
    return f"reg_list: entry {at} of those kept: expected .*, actual "


def swap_listed_ids(op: Op, rng: random.Random) -> str:
    at = rng.randrange(len(op["ids"]) - 1)
    op["ids"][at : at + 2] = op["ids"][at : at + 2][::-1]
    return f"reg_list: entry {at} of those kept: expected .*, actual "


def drop_listed_id(op: Op, rng: random.Random) -> str:
    op["ids"].pop(rng.randrange(len(op["ids"])))
    return f"reg_list: entries kept: expected {len(op['ids'])}, actual {len(op['ids']) + 1}"


def change_capability(op: Op, rng: random.Random) -> str:
    op["ret"] ^= 1
    return f"check_extension: the capability: expected {op['ret']}, actual {op['ret'] ^ 1}"


def change_guest_read(op: Op, rng: random.Random) -> str:
    at, step = rng.choice([(n, step) for n, step in enumerate(op["guest"]) if "read" in step])
    place, step["data"], after, before = flip(step["data"], "", rng)
    if step["read"] == "v":
        register, byte = f"V{place // 16}", place % 16
    elif place < 32 * step["vl"]:
        register, byte = f"Z{place // step['vl']}", place % step["vl"]
    else:
        number, byte = divmod(place - 32 * step["vl"], step["vl"] // 8)
        register = f"P{number}" if number < 16 else "FFR"
    return f"run: guest step {at}: {register}: byte {byte}: expected {after}, actual {before}"


def change_guest_mrs(op: Op, rng: random.Random) -> str:
    at, step = rng.choice([(n, step) for n, step in enumerate(op["guest"]) if "mrs" in step])
    before = int(step["value"], 16)
    bits = int(step.get("mask", "f" * 16), 16)
    step["value"] = f"{before ^ 1 << rng.choice([bit for bit in range(64) if bits >> bit & 1]):x}"
    actual = ".*" if "mask" in step else f"0x{before:x}"
    return f"run: guest step {at}: mrs {step['mrs']}: expected 0x{step['value']}, actual {actual}$"


def change_guest_vl(op: Op, rng: random.Random) -> str:
    at, step = rng.choice([(n, step) for n, step in enumerate(op["guest"]) if "rdvl" in step])
    step["rdvl"] += 16
    return f"run: guest step {at}: rdvl: expected {step['rdvl']}, actual {step['rdvl'] - 16}"


def steps(op: Op, kind: str) -> bool:
    return any(kind in step for step in op.get("guest", ()))


def succeeded(op: Op) -> bool:
    return op.get("ret") == 0


CHANGES: list[tuple[Change, Callable[[Op], bool], int]] = [
    (change_data, lambda op: op.get("op") == "get" and succeeded(op), 60),
    (change_short_buffer, lambda op: op.get("op") == "get_short" and (op["ret"] == 0 or op.get("copied", 0) > 0), 15),
    (change_errno, lambda op: "errno" in op, 60),
    (make_success, lambda op: "errno" in op and op["op"] not in ("get_short", "run"), 60),
    (make_failure, lambda op: succeeded(op) and op["op"] not in ("close", "check_extension"), 60),
    (change_room, lambda op: op.get("op") == "reg_list" and op.get("errno") in (None, "E2BIG"), 30),
    (change_kind_count, lambda op: "ids" in op, 8),
    (change_listed_id, lambda op: "ids" in op, 8),
    (swap_listed_ids, lambda op: "ids" in op, 8),
    (drop_listed_id, lambda op: "ids" in op, 8),
    (change_capability, lambda op: op.get("op") == "check_extension", 10),
    (change_guest_read, lambda op: steps(op, "read"), 40),
    (change_guest_mrs, lambda op: steps(op, "mrs"), 40),
    (change_guest_vl, lambda op: steps(op, "rdvl"), 6),
]


@pytest.mark.parametrize(("change", "fits", "at_least"), CHANGES, ids=[change.__name__ for change, *_ in CHANGES])
def test_changed_value_is_noticed(change: Change, fits: Callable[[Op], bool], at_least: int) -> None:
    flips = 0
    for name in NAMES:
        rng = random.Random(f"{name} {change.__name__}")
        candidates = [n for n, op in enumerate(recorded.lines(name), 1) if fits(op)]
        for line in rng.sample(candidates, min(len(candidates), FLIPS_PER_FILE)):
            *before, (_, op) = recorded.history(name, line)
            changed = copy.deepcopy(op)
            complaint = change(changed, rng)
            with pytest.raises(Difference, match=f"^line {line}, {complaint}") as caught:
                play(name, [*before, (line, changed)])
            assert (caught.value.line, caught.value.op) == (line, recorded.operation(changed))
            flips += 1
    assert flips >= at_least


@pytest.mark.parametrize(("ret", "errno"), [(0, "EINVAL"), (1, "EINVAL"), (-2, "EINVAL"), (1, None), (7, None)])
def test_return_value_is_an_observed_value(tmp_path: Path, ret: int, errno: str | None) -> None:
    """A `ret` that says another thing than `errno`, or another than the model, does not pass."""
    lines = [recorded.lines("linux61-nosve")[0], {"op": "create_vm", "vm": 0, "ret": 0}]
    lines.append({"op": "create_vcpu", "vm": 0, "vcpu": 0, "index": 0, "ret": 0})
    init = {"op": "vcpu_init", "vcpu": 0, "target": 1 if errno else 0, "features": [0] * 7, "ret": ret}
    lines.append(init | ({"errno": errno} if errno else {}))
    with pytest.raises((RecordingError, Difference)):
        play("linux61-nosve", Recording(recorded.write(tmp_path / "file", lines)))


# What cannot be done, and what the model does not survive


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        ({"op": "create_vcpu", "vm": 7, "vcpu": 0, "index": 0, "ret": 0}, "VM 7"),
        ({"op": "vcpu_init", "vcpu": 3, "target": 0, "features": [0] * 7, "ret": 0}, "vCPU 3"),
        ({"op": "finalize", "vcpu": 3, "feature": 4, "ret": 0}, "vCPU 3"),
        ({"op": "get", "vcpu": 3, "id": "6080000000150000", "data": "", "ret": 0}, "vCPU 3"),
        ({"op": "set", "vcpu": 3, "id": "6080000000150000", "data": "", "ret": 0}, "vCPU 3"),
        ({"op": "get_short", "vcpu": 3, "id": "6080000000150000", "avail": 0, "buf": "", "ret": 0}, "vCPU 3"),
        ({"op": "set_short", "vcpu": 3, "id": "6080000000150000", "avail": 0, "buf": "", "ret": 0}, "vCPU 3"),
        ({"op": "reg_list", "vcpu": 3, "n_in": 0, "n_out": 0, "core": 0, "sve": 0, "ids": [], "ret": 0}, "vCPU 3"),
        ({"op": "run", "vcpu": 3, "guest": [], "ret": 0}, "vCPU 3"),
    ],
    ids=lambda value: value["op"] if isinstance(value, dict) else None,
)
def test_what_was_never_made_is_misuse(op: Op, complaint: str) -> None:
    with pytest.raises(Misuse, match=f"there is no {complaint}"):
        play("rfc-r1-s2m4", [(2, op)])


def test_what_was_closed_is_gone() -> None:
    end = recorded.find("rfc-r1-s2m4", "set and get without running", op="close")
    after = end + 1, {"op": "run", "vcpu": 0, "ret": 0, "guest": []}
    with pytest.raises(Misuse, match="there is no vCPU 0"):
        play("rfc-r1-s2m4", [*recorded.history("rfc-r1-s2m4", end), after])


def test_crash_of_the_host_is_a_difference() -> None:
    """KVM_RUN of a vCPU with neither feature on a host with both, as posted."""
    made = recorded.history("rfc-posted", recorded.find("rfc-posted", "environment", op="vcpu_init"))
    assert made[-1][1]["features"][0] & 0x110 == 0
    run = {"op": "run", "vcpu": made[-1][1]["vcpu"], "ret": 0, "guest": []}
    with pytest.raises(Difference, match="line 99, run: expected success, actual a crash of the host"):
        play("rfc-posted", [*made, (99, run)])


def test_an_instruction_that_is_undefined_here_is_a_difference(tmp_path: Path) -> None:
    """The recorded guest wrote ZT0 in its last step; the host of this recording is said to have no SME2."""
    lines = copy.deepcopy(recorded.SMALL)
    lines[0]["host"]["sme2"] = False
    recording = Recording(recorded.write(tmp_path / "file", lines))
    replay = Replay(recording)
    *before, (line, run) = [(line, op) for line, op in recording if line <= 18]
    for earlier in before:
        replay.play(*earlier)
    with pytest.raises(Difference, match="line 18, run: guest step 13: expected done, actual UNDEFINED"):
        replay.play(line, run)
