"""The command line: help, and for every mistake one line on stderr, exit code 2 and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import recorded
from command_line import Capture, complaint, run
from places import RECORDINGS
from recorded import SMALL

COMMANDS = {
    "replay": ["FILE", "ships"],
    "show": ["FILE", "--at LINE"],
    "decode": ["ID", "--abi REV", "--sve VQS", "--sme VQS", "--sme2", "--fa64", "--svcr N"],
    "regs": ["--abi REV", "--sve VQS", "--sme VQS", "--sme2", "--fa64", "--svcr N"],
    "convert": ["--from-vq A", "--to-vq B", "IN", "OUT"],
}
REVISIONS = [
    "rfc-v2", "rfc-v2-posted", "rfc-v2-r1", "rfc-v2-r123", "mainline-6.1", "mainline-6.12", "mainline-7.3",
]  # fmt: skip


def launch(arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell command in which `kvmsve` is this package."""
    script = f'kvmsve() {{ "{sys.executable}" -m kvmsve "$@"; }}; {arguments}'
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, errors="replace", env=os.environ | environment
    )


# Help


@pytest.mark.parametrize(("command", "words"), COMMANDS.items())
def test_help_of_a_command_names_its_arguments(capsys: Capture, command: str, words: list[str]) -> None:
    code, out, err = run(capsys, command, "--help")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert [word for word in words if word not in text] == []
    if "--abi REV" in words:
        assert [name for name in REVISIONS if name not in text] == []


def test_help_and_version(capsys: Capture) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert [command for command in COMMANDS if command not in out] == []
    assert "exit status" in out
    assert run(capsys, "--version")[:2] == (0, "kvmsve 0.1.0\n")


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "COMMAND"),
        ("play", "'play'"),
        ("--verbose replay", "--verbose"),
        ("replay --at 3", "--at"),
        ("show", "FILE"),
        ("show file --at x", "'x' is not a line number"),
        ("show file --at -1", "--at"),
        ("show file --at 1.5", "'1.5' is not a line number"),
        ("decode", "ID"),
        ("decode Z32", "'Z32' is neither a register ID in hexadecimal (64 bits) nor a register's name"),
        ("decode 0x16080000000150000", "'0x16080000000150000' is neither"),
        ("decode Z0 --abi rfc-v3", "no revision is called 'rfc-v3'; did you mean rfc-v2"),
        ("decode Z0 --abi linux", "no revision is called 'linux'; there are rfc-v2, "),
        ("regs --sve 0", "'0' is not a length in quadwords, 1 to 16"),
        ("regs --sve 1,,2", "'' is not a length"),
        ("regs --sve 1,17", "'17' is not a length"),
        ("regs --sve 1;2", "'1;2' is not a length"),
        ("regs --sve 128", "'128' is not a length"),
        ("regs --sve 2", "a CPU with SVE has the length vq 1"),
        ("regs --sme 1,3", "no CPU has the SME length vq 3"),
        ("regs --abi mainline-7.3 --sme 1", "mainline-7.3 has no SME"),
        ("regs --abi rfc-v2-posted --sve 1 --sme 1", "rfc-v2-posted has no such vCPU: ENOENT"),
        ("regs --abi rfc-v2-r1 --sme 1", "rfc-v2-r1 has no such vCPU: EIO"),
        ("regs --svcr 1", "rfc-v2 has no such vCPU: ENOENT, SVCR"),
        ("regs --sme 1 --svcr on", "'on' is not a number of up to 64 bits"),
        ("regs --sme 1 --svcr 0x10000000000000000", "is not a number of up to 64 bits"),
        ("regs Z0", "Z0"),
        ("convert in out", "--from-vq"),
        ("convert --from-vq 1 in out", "--to-vq"),
        ("convert --from-vq 0 --to-vq 1 in out", "'0' is not a length in quadwords, 1 to 16"),
        ("convert --from-vq 1 --to-vq 17 in out", "'17' is not a length"),
        ("convert --from-vq one --to-vq 2 in out", "'one' is not a length"),
        ("convert --from-vq 1 --to-vq 2 in", "OUT"),
    ],
)
def test_wrong_argument(capsys: Capture, arguments: str, said: str) -> None:
    assert said in complaint(capsys, *arguments.split())


@pytest.mark.parametrize(
    ("content", "out", "said"),
    [
        (None, "out", "in: No such file or directory"),
        (b"", "out", "in: not a number of whole states of vq 2, 1092 bytes each"),
        (bytes(1091), "out", "in: not a number of whole states of vq 2"),
        (bytes(1093), "out", "in: not a number of whole states of vq 2"),
        (bytes(1092 * 1500 + 546), "out", "in: not a number of whole states of vq 2"),
        (bytes(1092), "missing/out", "missing/out: No such file or directory"),
        (bytes(1092), "", ": Is a directory"),
        (bytes(1092), "in/out", "in/out: Not a directory"),
    ],
)
def test_convert_that_fails_leaves_no_file(
    capsys: Capture, tmp_path: Path, content: bytes | None, out: str, said: str
) -> None:
    if content is not None:
        (tmp_path / "in").write_bytes(content)
    assert said in complaint(capsys, "convert", "--from-vq", 2, "--to-vq", 1, tmp_path / "in", tmp_path / out)
    assert [entry.name for entry in tmp_path.iterdir()] == (["in"] if content is not None else [])


def test_convert_names_the_file_that_cannot_be_read(capsys: Capture, tmp_path: Path) -> None:
    said = complaint(capsys, "convert", "--from-vq", 1, "--to-vq", 2, "/proc/self/mem", tmp_path / "out")
    assert said == "kvmsve: /proc/self/mem: Input/output error\n"
    assert list(tmp_path.iterdir()) == []


def test_convert_keeps_an_older_output_when_it_fails(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(547))
    (tmp_path / "out").write_bytes(b"older")
    complaint(capsys, "convert", "--from-vq", 1, "--to-vq", 2, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"older"


def test_convert_into_the_current_directory(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").write_bytes(bytes(546))
    assert "directory" in complaint(capsys, "convert", "--from-vq", 1, "--to-vq", 2, "in", ".")


def test_convert_does_not_replace_what_is_not_a_file(capsys: Capture, tmp_path: Path) -> None:
    """A pipe or device named OUT stays one: as root, /dev/null would be gone."""
    (tmp_path / "in").write_bytes(bytes(546))
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    run(capsys, "convert", "--from-vq", 1, "--to-vq", 2, tmp_path / "in", tmp_path / "pipe")
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_convert_does_not_replace_a_link(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(546))
    (tmp_path / "real").write_bytes(b"older")
    (tmp_path / "link").symlink_to("real")
    assert run(capsys, "convert", "--from-vq", 1, "--to-vq", 2, tmp_path / "in", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == bytes(1092)


def test_output_whose_links_lead_to_each_other(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(546))
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    said = f"kvmsve: {tmp_path}/a: Too many levels of symbolic links\n"
    assert complaint(capsys, "convert", "--from-vq", 1, "--to-vq", 2, tmp_path / "in", tmp_path / "a") == said
    assert complaint(capsys, "run", "--record", tmp_path / "a", "--", "true") == said


def test_pipe_of_the_shell_is_an_output(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(546))
    assert launch(f"kvmsve convert --from-vq 1 --to-vq 2 '{tmp_path}/in' /dev/stdout | wc -c").stdout == "1092\n"
    assert "kvmsve-recording" in launch("kvmsve run --record >(cat) -- true | cat").stdout


# A program among others


def test_interrupt_is_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def replay(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvmsve.cli.replay.run", replay)
    assert run(capsys, "replay") == (130, "", "kvmsve: interrupted\n")


def test_too_little_memory_is_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def replay(options: object) -> int:
        raise MemoryError

    monkeypatch.setattr("kvmsve.cli.replay.run", replay)
    assert run(capsys, "replay") == (2, "", "kvmsve: out of memory\n")


def test_module_runs_and_its_exit_code_is_the_result(tmp_path: Path) -> None:
    changed = recorded.write(tmp_path / "file", [*SMALL[:15], {**SMALL[15], "n_out": 281}])
    done = launch(f"kvmsve replay '{changed}'; echo $?")
    assert done.stdout.splitlines()[-1] == "1"
    assert done.stderr == ""


def test_reader_that_stops_early_is_no_error() -> None:
    done = launch("kvmsve regs --sve 1,2 2>&1 | head -1")
    assert done.stdout == "0x6030000000100000     8  X0\n"
    done = launch(f"kvmsve show --at 60 '{RECORDINGS}/rfc-r1-s2m4.jsonl.xz' | head -1; echo ${{PIPESTATUS[0]}}")
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr


@pytest.mark.parametrize(("output", "codes"), [("> /dev/full", "2"), (">&-", "02")])
def test_output_that_cannot_be_written(output: str, codes: str) -> None:
    done = launch(f"kvmsve regs {output}; echo $? >&2")
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] in codes


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    with open(name, "wb") as file:
        file.write(recorded.write(tmp_path / "small", SMALL).read_bytes())
    done = launch(f"kvmsve replay '{tmp_path}'/$'\\xff'; echo $?", PYTHONIOENCODING="utf-8:strict")
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "0"
