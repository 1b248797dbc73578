"""Files: whatever is in one, a command ends with its result, or with one line that says what is wrong.

An input is two bytes, which command and how it is called, and the file. Inputs start from the recordings' shortest
stories, and most mutations change a field of a line, so that what is damaged is met deep in a replay.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import random
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, lru_cache
from pathlib import Path

import atheris

from kvmsve import REVISIONS
from kvmsve.cli import program

from . import lines

LONGEST = 1_500
WORDS = (b"6080000000150000", b'"guest"', b'"ret":-1', b'"errno":"EPERM"', b"\xfd7zXZ\0", b"null", b"1e999", b"[[[[")
counts: Counter[str] = Counter()

Outcome = tuple[int, str, str]
SCRATCH = Path(tempfile.mkdtemp())
FILE, OUT = SCRATCH / "file", SCRATCH / "out"
NAMES = list(REVISIONS)


class Parser:
    """The command line's parser, made once, that remembers what it was asked: both take as long as a short replay."""

    def __init__(self) -> None:
        self._parser = _make_parser()

    @lru_cache(maxsize=4096)  # noqa: B019
    def _parse(self, arguments: tuple[str, ...]) -> argparse.Namespace:
        return self._parser.parse_args(arguments)

    def parse_args(self, arguments: list[str]) -> argparse.Namespace:
        return self._parse(tuple(arguments))


_make_parser = program.create_parser
program.create_parser = cache(Parser)  # type: ignore[assignment]


def execute(data: bytes) -> None:
    way, parameter, content = data[:1] or b"\0", (data[1:2] or b"\0")[0], data[2:]
    command = COMMANDS[way[0] % len(COMMANDS)]
    is_packed = way[0] >= 192
    FILE.write_bytes(lzma.compress(content, preset=0) if is_packed else content)
    OUT.unlink(missing_ok=True)
    arguments = command(parameter, content)
    outcome = run(arguments)
    check(arguments, *outcome)
    if zlib.crc32(data) % 32 == 0:
        assert run(arguments) == outcome, "another outcome the second time"
    counts[f"{arguments[0]} {('done', 'different', 'refused')[outcome[0]]}"] += 1


def run(arguments: list[str]) -> Outcome:
    """Exit code, stdout and stderr of a command line; stdout as strict as a terminal's."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO(), errors="backslashreplace")
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = program.main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out.flush()
        err.flush()
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def check(arguments: list[str], code: int, out: str, err: str) -> None:
    """The outcome is one of those that are documented."""
    assert code in (0, 1, 2), code
    if code == 2:
        assert out == "", "a complaint, and output"
        assert err.startswith("kvmsve"), err
        assert err.count("\n") == 1, err
        assert err.endswith("\n"), err
        assert len(err) < 1000 or arguments[0] == "decode", err
    else:
        assert err == "", err
    if arguments[0] == "convert":
        sizes = [546 * int(vq) for vq in (arguments[2], arguments[4])]
        assert OUT.exists() is (code == 0), "half written, or not written"
        assert code or OUT.stat().st_size * sizes[0] == FILE.stat().st_size * sizes[1]
        assert len(os.listdir(SCRATCH)) == 1 + OUT.exists(), os.listdir(SCRATCH)
    elif code < 2:
        assert out.endswith("\n"), out


# How a file is given to each command; the parameter makes the other options


def _replay(parameter: int, content: bytes) -> list[str]:
    return ["replay", str(FILE)]


def _show(parameter: int, content: bytes) -> list[str]:
    return ["show", str(FILE), *(["--at", str(parameter % 32)] if parameter % 4 else [])]


def _lint(parameter: int, content: bytes) -> list[str]:
    return ["lint", str(FILE), *(["--abi", NAMES[parameter % len(NAMES)]] if parameter % 4 else [])]


def _diff(parameter: int, content: bytes) -> list[str]:
    first, second = NAMES[parameter % len(NAMES)], NAMES[parameter // 8 % len(NAMES)]
    return ["diff", first, second, "--recording", str(FILE)]


def _convert(parameter: int, content: bytes) -> list[str]:
    vqs = [str(part + 1) for part in divmod(parameter, 16)]
    return ["convert", "--from-vq", vqs[0], "--to-vq", vqs[1], str(FILE), str(OUT)]


def _decode(parameter: int, content: bytes) -> list[str]:
    """The file's words are the IDs: none of them an option."""
    words = [word.strip("-") for word in os.fsdecode(content[:400]).replace("\0", " ").split()]
    return ["decode", "--abi", NAMES[parameter % len(NAMES)], *filter(None, words)]


COMMANDS: list[Callable[[int, bytes], list[str]]] = [
    _replay, _replay, _replay, _replay, _show, _lint, _diff, _convert, _decode,
]  # fmt: skip


# Inputs


def seeds() -> Iterable[bytes]:
    stories = lines.stories(LONGEST - 2)
    for number, story in enumerate(stories):
        yield bytes([number % 7, number * 7 % 256]) + lines.text(story)
    yield b"\0\0" + lzma.compress(lines.text(stories[0]), preset=0)
    yield b"\7\x10" + bytes(546)
    yield b"\7\x02" + bytes(range(256)) * 2 + bytes(34)
    yield b"\x08\3" + b"Z3 6080000000150001 6090000000150000 ZT0 svcr 0x603000000013c090"


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    pick = random.Random(seed)
    way = pick.random()
    if way < 0.25 or len(data) < 8:
        return bytes(atheris.Mutate(data, longest))
    head = data[:2] if way < 0.9 else pick.randbytes(2)
    changed = head + lines.change(data[2:], pick)
    return changed if len(changed) <= longest else data[:2] + data[2:longest]
