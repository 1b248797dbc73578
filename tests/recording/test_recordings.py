"""What real kernels did is what the model does: every recording replays without a difference."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recorded
from places import RECORDINGS, SHIPPED
from recorded import Op

from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay

REVISIONS = {"mainline-6.1", "mainline-7.3", "rfc-v2-posted", "rfc-v2-r1", "rfc-v2-r123"}


def play(path: Path) -> list[Op]:
    """The operations of a file that replays."""
    recording = Recording(path)
    replay = Replay(recording)
    played = []
    for line, op in recording:
        replay.play(line, op)
        played.append(recorded.fields(op))
    return played


@pytest.mark.parametrize("path", recorded.ALL, ids=lambda path: path.name.removesuffix(".jsonl.xz"))
def test_recording_replays_without_a_difference(path: Path) -> None:
    assert play(path) == recorded.lines(path.name.removesuffix(".jsonl.xz"))[1:]


def test_every_recorded_revision_is_there() -> None:
    assert {recorded.lines(path.name.removesuffix(".jsonl.xz"))[0]["abi"] for path in recorded.ALL} >= REVISIONS


FILES = sorted(SHIPPED.iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_recording_is_one_of_these(path: Path) -> None:
    assert path.read_bytes() == (RECORDINGS / path.name).read_bytes()


def test_shipped_recordings_show_more_than_one_revision() -> None:
    assert len(FILES) >= 3
    assert len({recorded.lines(path.name.removesuffix(".jsonl.xz"))[0]["abi"] for path in FILES}) >= 3


# What is not ABI may be anything


def changed_file(tmp_path: Path, name: str, change: Callable[[Op], Any]) -> int:
    """A whole recording with some of its lines changed is replayed without a difference; how many lines."""
    header, *ops = copy.deepcopy(recorded.lines(name))
    changed = [op for op in ops if change(op)]
    play(recorded.write(tmp_path / "file", [header, *ops]))
    return len(changed)


@pytest.mark.parametrize("name", ["rfc-r1-s2m4", "rfc-r123-smeonly-s0m4"])
def test_bits_outside_a_mask_may_be_any(tmp_path: Path, name: str) -> None:
    def fill(op: Op) -> bool:
        for thing in (op, *op.get("guest", ())):
            if "mask" in thing and "mrs" in thing:
                thing["value"] = f"{int(thing['value'], 16) ^ ~int(thing['mask'], 16) & (1 << 64) - 1:x}"
            elif "mask" in thing:
                pairs = zip(bytes.fromhex(thing["data"]), bytes.fromhex(thing["mask"]), strict=True)
                thing["data"] = bytes(byte ^ ~bits & 0xFF for byte, bits in pairs).hex()
        return "mask" in op or any("mask" in step for step in op.get("guest", ()))

    assert changed_file(tmp_path, name, fill) == 2


@pytest.mark.parametrize("name", ["linux73-vq1-2-4", "rfc-r1-s2m8", "rfc-r123-smeonly-s0m1"])
def test_tail_of_a_set_may_be_any(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)

    def fill(op: Op) -> bool:
        if op.get("tail") == "any":
            size = 1 << (int(op["id"], 16) >> 52 & 15)
            op["data"] += rng.randbytes(size - len(op["data"]) // 2).hex()
        return "tail" in op

    assert changed_file(tmp_path, name, fill) > 500


@pytest.mark.parametrize("name", ["linux61-vq1-4", "linux73-vq1-4"])
def test_how_far_a_cpu_copies_before_a_fault_may_be_any(tmp_path: Path, name: str) -> None:
    """A get may have moved fewer bytes; what a set has beyond `copied` is not used."""
    rng = random.Random(name)

    def fill(op: Op) -> bool:
        size = op.get("avail", 0)
        if "copied" in op and op["op"] == "get_short":
            op["copied"] = rng.randrange(op["copied"] + 1)
            op["buf"] = op["buf"][: 2 * op["copied"]] + "a5" * (size - op["copied"])
        elif "copied" in op:
            op["buf"] = op["buf"][: 2 * op["copied"]] + rng.randbytes(size - op["copied"]).hex()
        return "copied" in op

    assert changed_file(tmp_path, name, fill) == 50
