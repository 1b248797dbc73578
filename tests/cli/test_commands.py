"""What each command prints: replay, show, decode, regs and convert."""

from __future__ import annotations

import copy
import lzma
from pathlib import Path

import kernels
import model
import pytest
import recorded
from command_line import Capture, complaint, run
from places import RECORDINGS, TABLES
from recorded import SMALL

TABLE = TABLES / "rfc-v2-reglist.tsv"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return recorded.write(tmp_path / "small.jsonl", SMALL)


# replay


def test_replay_prints_a_line_for_each_file(capsys: Capture, small: Path) -> None:
    code, out, err = run(capsys, "replay", small, RECORDINGS / "rfc-r1-s2m1.jsonl.xz")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "ok       rfc-v2             17 operations  small.jsonl",
        "ok       rfc-v2-r1        2190 operations  rfc-r1-s2m1.jsonl.xz",
    ]


def test_replay_without_files_replays_what_is_shipped(capsys: Capture) -> None:
    code, out, err = run(capsys, "replay")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) >= 3
    assert all(line.startswith("ok ") for line in out.splitlines())
    assert "rfc-r1-s2m4.jsonl.xz" in out


def test_replay_names_a_difference(capsys: Capture, tmp_path: Path) -> None:
    changed = copy.deepcopy(SMALL)
    changed[12]["data"] = "11" * 9 + "13" + changed[12]["data"][20:]
    path = recorded.write(tmp_path / "changed", changed)
    code, out, err = run(capsys, "replay", path)
    assert (code, err) == (1, "")
    verdict, where = out.splitlines()
    assert verdict.split() == ["DIFFERS", "rfc-v2", "changed"]
    assert where == f"  {path}, line 13, get of Z0: byte 9: expected 0x13, actual 0x11"


def test_replay_goes_on_after_a_bad_file(capsys: Capture, tmp_path: Path, small: Path) -> None:
    changed = recorded.write(tmp_path / "changed", [*SMALL[:15], {**SMALL[15], "n_out": 281}])
    foreign = recorded.write(tmp_path / "foreign", [{"format": "kvmsve-host-recording"}])
    code, out, err = run(capsys, "replay", foreign, small, changed, small)
    assert code == 2
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "DIFFERS", f"{changed},", "ok"]
    assert err == f'kvmsve: {foreign}, line 1: no recording: "format" is not "kvmsve-recording"\n'


@pytest.mark.parametrize("command", ["replay", "show"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "the file is empty"),
        (b"\x7fELF\n", "line 1: not JSON"),
        (b'{"format": "something"}\n', "line 1: no recording"),
        (lzma.compress(b"[]\n")[:20], "xz data"),
    ],
    ids=["missing", "empty", "binary", "foreign", "cut"],
)
def test_file_that_is_no_recording(
    capsys: Capture, tmp_path: Path, command: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    err = complaint(capsys, command, path)
    assert err.startswith(f"kvmsve: {path}")
    assert said in err
    assert "Is a directory" in complaint(capsys, command, tmp_path)


@pytest.mark.parametrize("command", ["replay", "show"])
def test_operation_on_a_vcpu_that_was_never_made(capsys: Capture, tmp_path: Path, command: str) -> None:
    path = recorded.write(tmp_path / "file", [*SMALL[:5], {**SMALL[10], "vcpu": 3}])
    assert complaint(capsys, command, path) == f"kvmsve: {path}, line 6: there is no vCPU 3\n"


# show


@pytest.mark.parametrize(("at", "after"), [(6, "6, create_vcpu"), (13, "13, get of Z0"), (18, "18, run")])
def test_show_at_a_line(capsys: Capture, small: Path, at: int, after: str) -> None:
    code, out, err = run(capsys, "show", small, "--at", at)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"vCPU 0 of small.jsonl (rfc-v2) after line {after}"


def test_show_is_of_the_vcpu_that_was_asked_last(capsys: Capture, tmp_path: Path) -> None:
    """Not of the one that was made last, which has no features yet."""
    second = {**SMALL[5], "vcpu": 1, "index": 1}
    path = recorded.write(tmp_path / "file", [*SMALL[:13], second, SMALL[12]])
    alone = run(capsys, "show", recorded.write(tmp_path / "alone", SMALL[:13]))[1]
    out = run(capsys, "show", path)[1]
    assert out.splitlines()[0] == "vCPU 0 of file (rfc-v2) after line 15, get of Z0"
    assert out.splitlines()[1:] == alone.splitlines()[1:]


@pytest.mark.parametrize("arguments", [[], ["--at", "20"], ["--at", "9999"]])
def test_show_of_a_vcpu_that_is_closed(capsys: Capture, small: Path, arguments: list[str]) -> None:
    """Most recordings end with `close`: either there is no vCPU to show, or one is shown as it was before."""
    code, out, err = run(capsys, "show", small, *arguments)
    assert code in (0, 2)
    assert len((out if code == 0 else err).splitlines()) >= 1


def test_show_of_a_whole_recording(capsys: Capture) -> None:
    assert run(capsys, "show", RECORDINGS / "linux61-nosve.jsonl.xz")[0] in (0, 2)


@pytest.mark.parametrize("vcpu", [0, 7, "0", None, [], {}])
def test_show_at_a_note_with_a_vcpu(capsys: Capture, tmp_path: Path, vcpu: object) -> None:
    """A field that no note has."""
    path = recorded.write(tmp_path / "file", [*SMALL[:6], {"op": "note", "text": "", "vcpu": vcpu}])
    assert run(capsys, "show", path)[0] in (0, 2)


def test_show_before_there_is_a_vcpu(capsys: Capture, small: Path) -> None:
    for line in (0, 1, 5):
        assert f"has no vCPU up to line {line}" in complaint(capsys, "show", small, "--at", line)


def test_show_of_a_recording_that_differs(capsys: Capture, tmp_path: Path) -> None:
    path = recorded.write(tmp_path / "file", [*SMALL[:9], {**SMALL[9], "errno": "EIO"}])
    assert "line 10, get of Z0: expected EIO, actual EPERM" in complaint(capsys, "show", path)
    assert run(capsys, "show", path, "--at", 9)[0] == 0


# decode


@pytest.mark.parametrize(
    ("arguments", "first", "second"),
    [
        (["6080000000150060"], "0x6080000000150060  Z3: 256 bytes, coprocessor SVE, slice 0", "readable"),
        (["0x6080000000150061"], "0x6080000000150061  Z3 slice 1: 256 bytes, coprocessor SVE, slice 1", "ENOENT: "),
        (["ffr"], "0x6050000000150600  FFR: 32 bytes, coprocessor SVE, slice 0", "readable"),
        (["V7"], "0x6040000000100070  V7: 16 bytes, coprocessor core", "EINVAL: "),
        (["V7", "--sve=", "--sme="], "0x6040000000100070  V7: 16 bytes, coprocessor core", "readable"),
        (["SVCR", "--svcr", "3"], "0x603000000013da12  SVCR: 8 bytes, coprocessor sysreg", "readable: 0x3"),
        (["SVCR", "--abi", "mainline-7.3"], "0x603000000013da12  SVCR: 8 bytes, coprocessor sysreg", "ENOENT: "),
        (["SMIDR_EL1", "--abi", "rfc-v2-r1"], "0x603000000013c806  SMIDR_EL1: 8 bytes, coprocessor sysreg",
         "the host crashes: "),
        (["606000000017ffff"], "0x606000000017ffff  SME_VLS: 64 bytes, coprocessor SME, slice 31", "readable"),
        (["6080000000170020", "--abi=rfc-v2-r1"], "0x6080000000170020  ZA.H[1]: 256 bytes, coprocessor SME, slice 0",
         "EINVAL: "),
        (["6060000000170600", "--sme2"], "0x6060000000170600  ZT0: 64 bytes, coprocessor SME, slice 0", "readable"),
        (["0"], "0x0000000000000000  unknown 0x0000000000000000: 1 bytes, coprocessor unknown", "EINVAL: "),
    ],
)  # fmt: skip
def test_decode(capsys: Capture, arguments: list[str], first: str, second: str) -> None:
    code, out, err = run(capsys, "decode", *arguments)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert (lines[0], lines[1][:4], len(lines)) == (first, "    ", 2)
    assert lines[1][4:].startswith(second)


# regs


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [
        ([], {"sve, only if vcpu_has_sve", "sysreg, only if vcpu_has_sve", "sysreg, only if vcpu_has_sme"}),
        (["--sve", "1,2"], {"core, only if !vcpu_has_vec", "sysreg, only if vcpu_has_sme"}),
        (["--sve", "1,2", "--sme", "1,2,4", "--svcr", "0x1"], {"core, only if !vcpu_has_vec"}),
        (["--sme", "4"], {"core, only if !vcpu_has_vec", "sve, only if vcpu_has_sve", "sysreg, only if vcpu_has_sve"}),
    ],
)
def test_regs_is_the_kernels_list(capsys: Capture, arguments: list[str], left_out: set[str]) -> None:
    code, out, err = run(capsys, "regs", *arguments)
    rows = [line.split("\t") for line in TABLE.read_text().splitlines() if line[0] != "#"]
    ids = [row[0] for row in rows if row[2] not in left_out]
    assert (code, err) == (0, f"{len(ids)} registers\n")
    assert [line.split()[0] for line in out.splitlines()] == ids
    assert [line.split()[1] for line in out.splitlines()] == [str(model.width(int(reg_id, 16))) for reg_id in ids]
    names = {line.split()[2] for line in out.splitlines()}
    assert names >= {"X0", "PSTATE", "FPSR", "CPACR_EL1", *(["Z31", "P15", "FFR"] if "--sve" in arguments else [])}


# convert


@pytest.mark.parametrize(("from_vq", "to_vq"), [(1, 1), (1, 16), (16, 1), (2, 4), (4, 2), (3, 5), (16, 15)])
@pytest.mark.parametrize("count", [1, 3])
def test_convert(capsys: Capture, tmp_path: Path, from_vq: int, to_vq: int, count: int) -> None:
    states = [bytes((n * n + k) % 251 for n in range(546 * from_vq)) for k in range(count)]
    (tmp_path / "in").write_bytes(b"".join(states))
    assert run(capsys, "convert", "--from-vq", from_vq, "--to-vq", to_vq, tmp_path / "in", tmp_path / "out")[0] == 0
    expected = [model.relayout(int.from_bytes(state, "little"), from_vq, to_vq) for state in states]
    assert (tmp_path / "out").read_bytes() == b"".join(n.to_bytes(546 * to_vq, "little") for n in expected)


def test_convert_of_more_than_is_read_at_once(capsys: Capture, tmp_path: Path) -> None:
    """A file of many states is not held in memory; each is where it belongs."""
    states = [bytes([n % 251]) * 546 for n in range(2500)]
    (tmp_path / "in").write_bytes(b"".join(states))
    assert run(capsys, "convert", "--from-vq", 1, "--to-vq", 2, tmp_path / "in", tmp_path / "out")[0] == 0
    wide = (tmp_path / "out").read_bytes()
    assert len(wide) == 2500 * 1092
    assert [wide[1092 * n] for n in range(2500)] == [n % 251 for n in range(2500)]
    assert run(capsys, "convert", "--from-vq", 2, "--to-vq", 1, tmp_path / "out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out").read_bytes() == b"".join(states)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    ("features", "options"),
    [("sve", []), ("sve+pmu", ["--pmu"]), ("sve+pauth", ["--pauth"]), ("sve+pmu+pauth", ["--pmu", "--pauth"])],
)
@pytest.mark.parametrize("revision", kernels.KERNELS)
def test_regs_prints_the_list_of_a_real_kernel(
    capsys: Capture, revision: str, features: str, options: list[str]
) -> None:
    code, out, _ = run(capsys, "regs", "--abi", revision, "--sve", "1,2,3,4", *options)
    printed = [int(line.split()[0], 16) for line in out.splitlines()]
    assert (code, printed) == (0, kernels.listed(kernels.KERNELS[revision], features))


def test_registers_that_say_nothing_of_vectors_are_compared_on_request(capsys: Capture, tmp_path: Path) -> None:
    """TCR2_EL1, which a 7.3 has for some hosts only; MIDR_EL1 says which CPU it is."""
    header = recorded.lines("linux73-nosve")[0]
    made = [{"op": "create_vm", "vm": 0, "ret": 0}, {"op": "create_vcpu", "vm": 0, "vcpu": 0, "index": 0, "ret": 0}]
    made.append({"op": "vcpu_init", "vcpu": 0, "target": 0, "features": [0] * 7, "ret": 0})
    get = {"op": "get", "vcpu": 0, "data": "5a" * 8, "ret": 0}
    path = recorded.write(tmp_path / "tcr2", [header, *made, {**get, "id": "603000000013c103"}])
    code, out, err = run(capsys, "replay", path)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == (
        "  but 1 on registers that say nothing of vectors end otherwise; --all-registers tells"
    )
    assert run(capsys, "replay", "--all-registers", path)[0] == 1
    path = recorded.write(tmp_path / "midr", [header, *made, {**get, "id": "603000000013c000"}])
    assert run(capsys, "replay", path)[0] == 1
