"""The command line as a process: interrupted, cut off, without disk or memory, it leaves nothing half-written."""

from __future__ import annotations

import json
import lzma
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import recorded
from recorded import SMALL

STATE = bytes(range(256)) * 2 + bytes(34)  # a whole state of vq 1
HEADER = json.dumps(SMALL[0]).encode() + b"\n"
CONVERT = ("convert", "--from-vq", 1, "--to-vq", 2)


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """`kvmsve` as a process, its standard output and error in pipes unless `options` say otherwise."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "kvmsve", *map(str, arguments)]
    plain = {"start_new_session": True, "preexec_fn": heed_signals}
    return subprocess.Popen(command, **pipes | plain | options)


def heed_signals() -> None:
    """Unlike the tests themselves, if somebody has started them with nohup, or a script in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def end(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code (negative for a signal) and all that was said on stderr."""
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A FIFO, so that a process that reads it waits in the middle of its work."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def writer(pipe: Path) -> Iterator[Callable[[], IO[bytes]]]:
    opened: list[IO[bytes]] = []

    def write() -> IO[bytes]:
        opened.append(pipe.open("wb", buffering=0))  # waits for the reader
        return opened[-1]

    yield write
    for file in opened:
        file.close()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


SIGNALS = pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGINT, "kvmsve: interrupted\n"), (signal.SIGTERM, ""), (signal.SIGHUP, "")],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)


@SIGNALS
@pytest.mark.parametrize("older", [None, b"older"])
def test_signal_during_convert(
    tmp_path: Path, pipe: Path, writer: Callable[[], IO[bytes]], number: int, said: str, older: bytes | None
) -> None:
    out = tmp_path / "out"
    if older is not None:
        out.write_bytes(older)
    process = start(*CONVERT, pipe, out)
    file = writer()
    for _ in range(1025):  # the first and a thousand: they are converted
        file.write(STATE)
    wait_for(lambda: any(entry.name.endswith(".part") for entry in tmp_path.iterdir()))
    process.send_signal(number)
    assert end(process) == (128 + number, said)
    left = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if entry != pipe}
    assert left == ({"out": older} if older is not None else {})


@SIGNALS
def test_signal_during_replay(pipe: Path, writer: Callable[[], IO[bytes]], number: int, said: str) -> None:
    process = start("replay", pipe)
    file = writer()
    file.write(HEADER + b'{"op":"note","text":""}\n' * 1000)
    time.sleep(0.2)
    process.send_signal(number)
    assert end(process) == (128 + number, said)


def test_ignored_hangup_stays_ignored(pipe: Path, writer: Callable[[], IO[bytes]]) -> None:
    """As under nohup."""
    process = start("replay", pipe, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    file = writer()
    file.write(HEADER)
    time.sleep(0.2)
    process.send_signal(signal.SIGHUP)
    file.write(b'{"op":"note","text":""}\n')
    file.close()
    assert end(process) == (0, "")


# Where output goes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded.write(tmp_path_factory.mktemp("small") / "small.jsonl", SMALL)


COMMANDS = {
    "replay": ("replay", "FILE"),
    "show": ("show", "FILE", "--at", 12),
    "lint": ("lint", "FILE"),
    "diff": ("diff", "v4", "v12", "--recording", "FILE"),
    "decode": ("decode", "Z0"),
    "regs": ("regs", "--sve", 1),
    "help": ("--help",),
    "help of a command": ("replay", "--help"),
    "version": ("--version",),
}


@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize("command", COMMANDS)
def test_output_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, small: Path, command: str, unbuffered: bool
) -> None:
    """A full disk, a reader that has gone, an output that was closed."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if unbuffered else "")
    arguments = [small if word == "FILE" else word for word in COMMANDS[command]]
    with open("/dev/full", "wb") as full:
        code, err = end(start(*arguments, stdout=full))
    assert (code, err.splitlines()[-1]) == (2, "kvmsve: standard output: No space left on device")
    reader, closed = os.pipe()
    os.close(reader)
    code, err = end(start(*arguments, stdout=closed))
    os.close(closed)
    assert (code, "Traceback" in err) == (128 + signal.SIGPIPE, False)


def test_closed_output_is_no_traceback(small: Path) -> None:
    code, err = end(start("replay", small, stdout=None, preexec_fn=lambda: os.close(1)))
    assert (code, err) == (0, "")


@pytest.mark.parametrize("unbuffered", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        ("regs", "--sve", 1),
        ("regs", "--sve", 2),
        ("regs", "--sve", 0),
        ("replay", "no-such-file"),
        ("show", "no-such-file"),
        ("run", "--", "no-such-program"),
        ("no-such-command",),
        ("replay", "--no-such-option"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_complaint_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], unbuffered: bool
) -> None:
    """A full disk, and an error output that was closed: never exit 1, which is a difference or a finding."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    if not unbuffered:
        monkeypatch.delenv("PYTHONUNBUFFERED")
    with open("/dev/full", "wb") as full:
        assert start(*arguments, stdout=subprocess.DEVNULL, stderr=full).wait(60) == 2
    closed = start(*arguments, stdout=subprocess.DEVNULL, stderr=None, preexec_fn=lambda: os.close(2))
    assert closed.wait(60) in (0, 2)
    reader, gone = os.pipe()
    os.close(reader)
    assert start(*arguments, stdout=subprocess.DEVNULL, stderr=gone).wait(60) in (2, 128 + signal.SIGPIPE)
    os.close(gone)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("regs", "--help")], ids=" ".join)
def test_help_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open("/dev/full", "wb") as full:
        assert end(start(*arguments, stdout=full))[0] == 2


def test_a_complaint_comes_after_what_was_said_before(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both outputs in one file, as in a log: what the first recording gave is before what is wrong with the second."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with open(tmp_path / "log", "wb") as log:
        assert start("replay", small, "no-such-file", stdout=log, stderr=subprocess.STDOUT).wait(60) == 2
    first, second = (tmp_path / "log").read_text().splitlines()
    with open(tmp_path / "count", "wb") as log:
        assert start("regs", "--sve", 1, stdout=log, stderr=subprocess.STDOUT).wait(60) == 0
    assert (tmp_path / "count").read_text().splitlines()[-1].endswith(" registers")
    assert (first.split()[0], second) == ("ok", "kvmsve: no-such-file: No such file or directory")


def test_convert_on_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(STATE * 2000)
    assert end(start(*CONVERT, tmp_path / "in", "/dev/full")) == (2, "kvmsve: /dev/full: No space left on device\n")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    code, err = end(start(*CONVERT, tmp_path / "in", tmp_path / "out", preexec_fn=limit))
    assert (code, err) == (2, f"kvmsve: {tmp_path}/out: File too large\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_pipes_work_as_files(tmp_path: Path, pipe: Path, writer: Callable[[], IO[bytes]], small: Path) -> None:
    process = start("replay", pipe)
    with writer() as file:
        file.write(lzma.compress(small.read_bytes()))
    assert end(process) == (0, "")
    process = start(*CONVERT, pipe, tmp_path / "out")
    with writer() as file:
        file.write(STATE * 3)
    assert end(process) == (0, "")
    assert (tmp_path / "out").stat().st_size == 3 * 1092


# Memory

MEGABYTE = 1 << 20


def most_memory(*arguments: object) -> tuple[int, str, int]:
    """Exit code, stderr, and the megabytes that the process had at the most."""
    process = start(*arguments, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, err, usage.ru_maxrss // 1024


def packed(path: Path, *parts: tuple[bytes, int]) -> Path:
    """An xz file of each part so many times over."""
    packer = lzma.LZMACompressor(preset=0)
    with path.open("wb") as file:
        for part, count in parts:
            for _ in range(count):
                file.write(packer.compress(part))
        file.write(packer.flush())
    return path


def test_bomb_takes_little_memory(tmp_path: Path) -> None:
    """Much in one line, and in many."""
    idle = most_memory("--version")[2]
    note = b'{"op":"note","text":"' + b"x" * MEGABYTE + b'"}\n'
    bombs = {
        "zeroes": ([(HEADER, 1), (bytes(MEGABYTE), 24)], 2, "line 2: the line is longer than"),
        "notes": ([(HEADER, 1), (note, 48)], 0, ""),
    }
    for name, (parts, expected, said) in bombs.items():
        code, err, memory = most_memory("replay", packed(tmp_path / "bomb", *parts))
        assert (code, said in err, err.count("\n")) == (expected, True, expected // 2), name
        assert memory - idle < 30, name


@pytest.mark.long
def test_longest_line_of_small_objects(tmp_path: Path) -> None:
    """What a line of the greatest length can make a reader keep is bounded too."""
    steps = b'{"op":"run","vcpu":0,"ret":0,"guest":[' + b"{}," * ((15 << 20) // 3) + b"{}]}\n"
    code, err, memory = most_memory("replay", packed(tmp_path / "bomb", (HEADER, 1), (steps, 1)))
    assert (code, err) == (2, f"kvmsve: {tmp_path}/bomb, line 2: unknown guest step {{}}\n")
    assert memory < 1024


@pytest.mark.long
def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    steps = b'{"op":"run","vcpu":0,"ret":0,"guest":[' + b"{}," * ((15 << 20) // 3) + b"{}]}\n"
    bomb = packed(tmp_path / "bomb", (HEADER, 1), (steps, 1))
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (250 * MEGABYTE, 250 * MEGABYTE))  # noqa: E731
    code, err = end(start("replay", bomb, preexec_fn=limit, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}))
    assert (code, err) == (2, "kvmsve: out of memory\n")
