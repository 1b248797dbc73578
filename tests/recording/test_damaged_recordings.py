"""No file, whatever is in its lines, leads to anything but a result or one clear complaint."""

from __future__ import annotations

import copy
import json
import lzma
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import recorded
from command_line import Capture, complaint
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from recorded import SMALL, Op

from kvmsve.ops.outcome import Difference
from kvmsve.ops.play import Misuse
from kvmsve.recording.file import Recording, RecordingError
from kvmsve.recording.replay import Replay


def outcome(path: Path) -> str | None:
    """What is said of a file that does not replay."""
    try:
        recording = Recording(path)
        replay = Replay(recording)
        for line, op in recording:
            replay.play(line, op)
    except (RecordingError, Difference, Misuse) as complaint:
        return str(complaint)
    return None


def changed(path: Path, line: int, fields: Op) -> Path:
    """The small recording with these fields at a line."""
    return recorded.write(path, [op | fields if n == line else op for n, op in enumerate(SMALL, 1)])


def test_small_recording_replays(tmp_path: Path) -> None:
    assert outcome(recorded.write(tmp_path / "file", SMALL)) is None


@pytest.mark.parametrize("where", ["op", "text", "extra"])
def test_deep_nesting_is_damage(tmp_path: Path, where: str) -> None:
    """At any depth: what is just read must not be too deep to be complained of. Pythons differ in what is."""
    for depth in (*range(850, 1010), 5000, 50_000, 1_000_000):
        text = json.dumps({**SMALL[2], where: "?"}).replace('"?"', "[" * depth + "]" * depth)
        (tmp_path / "file").write_text(json.dumps(SMALL[0]) + "\n" + text + "\n")
        said = outcome(tmp_path / "file")
        assert ", line 2: " in (said or "") or (said is None and where == "extra")
        assert len(said or "") < 500


def test_length_that_a_line_claims_is_not_allocated(tmp_path: Path) -> None:
    """`avail` is the length of `buf`, whatever it says."""
    path = changed(tmp_path / "file", 15, {"avail": 1 << 26})
    tracemalloc.start()
    try:
        assert ", line 15" in str(outcome(path)) or "line 15, get_short of Z1" in str(outcome(path))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


# Whatever a line holds

NAMES = sorted({name for line in SMALL for part in (line, *line.get("guest", ())) for name in part})
TEXTS = [
    "rfc-v2",
    "get",
    "EPERM",
    "3330000",
    "z31",
    "za",
    "zt0",
    "v",
    "zpffr",
    "ffr",
    "smcr",
    "6080000000150000",
    "\ud800",
]
leaves = (
    st.sampled_from([None, True, -1, 0.5, 1 << 32, 1 << 64, "", *TEXTS]) | st.integers(-9, 999) | st.text(max_size=3)
)
values = st.sampled_from([None, "x", [], {}, [[]], -1]) | st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=4,
)
mutations = st.tuples(
    st.sampled_from([*range(1, len(SMALL)), *[17] * 5, 0]),  # the line, often the one with guest steps
    st.integers(0, 15),  # of the line, its host or one of its steps
    st.sampled_from([*range(5), *NAMES]),  # one of the fields there, or one that need not be there
    st.sampled_from([..., *[None] * 9]).flatmap(lambda gone: st.just(...) if gone is ... else values),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


@settings(max_examples=300, deadline=None, derandomize=True, phases=[Phase.generate, Phase.shrink])
@given(
    changes=st.lists(mutations, min_size=1, max_size=2),
    moved=st.none() | st.none() | st.tuples(*[st.integers(1, 19)] * 2),
)
def test_no_line_leads_to_another_exception(
    scratch: Path, changes: list[tuple[int, int, int | str, Any]], moved: tuple[int, int] | None
) -> None:
    lines = copy.deepcopy(SMALL)
    for line, part, name, value in changes:
        steps = lines[line].get("guest")
        parts = [lines[line], lines[line].get("host"), *(steps if isinstance(steps, list) else ())]
        objects = [part for part in parts if isinstance(part, dict)]
        thing = objects[part % len(objects)]
        field = sorted(thing)[name % len(thing)] if isinstance(name, int) and thing else str(name)
        thing.pop(field, None)
        if value is not ...:
            thing[field] = value
    if moved is not None:
        lines.insert(moved[0], lines.pop(moved[1]))
    assert outcome(recorded.write(scratch, lines)) != ""


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (2, {"ret": "0"}),
        (20, {"ret": None}),
        (11, {"id": 5, "feature": 8}),
        (18, {"id": "zz", "guest": [{"rdvl": 16}]}),
        (18, {"guest": [{"write": "z0", "data": "", "narrow": "wide"}]}),
        (18, {"guest": [{"read": "z0", "data": "", "undef": []}]}),
        (18, {"guest": [{"read": "z0", "data": "", "smstart": {}}]}),
    ],
)
def test_field_that_an_operation_does_not_have_does_no_harm(tmp_path: Path, line: int, fields: Op) -> None:
    assert outcome(changed(tmp_path / "file", line, fields)) != ""


# Every command that reads one

READERS = [
    ("replay", "FILE"),
    ("show", "FILE"),
    ("show", "FILE", "--at", 3),
    ("lint", "FILE"),
    ("lint", "FILE", "--abi", "v12"),
    ("diff", "v4", "v12", "--recording", "FILE"),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda words: " ".join(map(str, words)))
def test_every_command_names_file_line_and_reason(tmp_path: Path, capsys: Capture, reader: tuple[Any, ...]) -> None:
    path = tmp_path / "file"
    words = [path if word == "FILE" else word for word in reader]
    packed = lzma.compress("".join(json.dumps(line) + "\n" for line in SMALL).encode())
    recorded.write(path, SMALL)
    whole = path.read_bytes()
    for content, said in {
        b"": "file: the file is empty",
        whole[:-1].replace(b"1,", b"1" * 5000 + b",", 1): "file, line 1: a number has more digits",
        whole.replace(b'"op"', b'"op": "get", "op"', 1): 'file, line 2: "op" is there twice',
        whole.replace(b'"case"', b'"\x1b]"', 1): "file, line 2: not JSON",
        whole.replace(b'"case"', b'"' + b"x" * 100_000 + b'"', 1): "file, line 2: unknown operation 'xxx",
        whole.replace(b'"sve_vqs"', b'"sme_feature": 999999, "sve_vqs"'): 'file, line 1: "sme_feature" is 999999',
        b"\xef\xbb\xbf" + whole: "file, line 1: a byte order mark",
        packed[:20]: "file: the xz data ends too early",
        packed[:100] + bytes(50) + packed[150:]: "file: damaged xz data",
    }.items():
        path.write_bytes(content)
        said_of_it = complaint(capsys, *words)
        assert said in said_of_it
        assert len(said_of_it) < 400 + len(str(path))
    for other, said in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        assert said in complaint(capsys, *[other if word == "FILE" else word for word in reader])


def test_names_of_any_length_are_not_repeated_in_full(tmp_path: Path, capsys: Capture) -> None:
    for step in ({"undef": "x" * 10**5}, {"read": "z" + "1" * 10**5, "data": ""}, {"msr": "y" * 10**5, "value": "0"}):
        said = complaint(capsys, "replay", changed(tmp_path / "file", 18, {"guest": [step]}))
        assert ", line 18: guest step 0: no " in said
        assert len(said) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("name", ["z\u0661", "z\u00b2", "z-1", "z 1", "z1 ", "Z1", "z", "zz", "z12345"])
def test_register_is_named_in_ascii_digits(tmp_path: Path, name: str) -> None:
    step = {"read": name, "data": "00" * 16}
    assert "no register is called" in str(outcome(changed(tmp_path / "file", 18, {"guest": [step]})))
