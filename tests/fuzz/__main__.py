"""python -m tests.fuzz: the command line of the fuzzers."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from . import engine

TARGETS = {
    "recordings": "files given to replay, show, lint, diff, convert and decode",
    "registers": "calls on vCPUs of every revision with any ID and any buffer, guests between them, and hosts",
    "rewrite": "kvmsve.rewrite of arrays of any shape, type and stride",
}
FOREVER = 1 << 62
FINDINGS = (70, 71, 77)  # libFuzzer's exit codes: too slow, too much memory, an exception or a crash
INTERRUPTED = 128 + signal.SIGINT
MEMORY = Path("/dev/shm")  # a file system without a disk, on Linux


def main() -> int:
    """The exit code of the command line."""
    try:
        return _run()
    except KeyboardInterrupt:
        print("fuzz: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run() -> int:
    parser = _parser()
    options = parser.parse_args()
    targets = list(TARGETS) if options.target == "all" else [options.target]
    if options.inputs and len(targets) > 1:
        parser.error("say whose inputs these are, instead of all")
    if options.corpus:
        try:
            _make_folders(options.corpus, targets)
        except OSError as error:
            parser.error(f"argument --corpus: {error.filename}: {error.strerror}")
    try:
        from . import engine
    except ModuleNotFoundError as missing:
        if missing.name != "atheris":
            raise
        print("fuzz: atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    if options.inputs:
        return _execute(engine.load(options.target), options.inputs)
    return max(_fuzz(name, options) for name in targets)


def _make_folders(corpus: Path, targets: list[str]) -> None:
    for name in targets:
        (corpus / name).mkdir(parents=True, exist_ok=True)


def _execute(target: engine.Target, inputs: list[Path]) -> int:
    for path in inputs:
        target.execute(path.read_bytes())
        print(f"fuzz: nothing found in {path}")
    return 0


def _fuzz(name: str, options: argparse.Namespace) -> int:
    """1 if something was found, 2 if the target did not get to its end."""
    print(f"fuzz: {name}, seed {options.seed}", flush=True)
    with TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        corpus = options.corpus or Path(scratch)
        _make_folders(corpus, [name])
        code = _exit_code(name, options, corpus / name, scratch)
    if code in FINDINGS:
        print(f"fuzz: found something; `python -m tests.fuzz {name} FILE` does it again", file=sys.stderr)
        return 1
    if code:
        print(f"fuzz: {name} was ended before its time, with exit code {code}", file=sys.stderr)
        return 2
    return 0


def _exit_code(name: str, options: argparse.Namespace, corpus: Path, scratch: str) -> int:
    """How the target ended, in a process of its own: it ends its process."""
    child = os.fork()
    if not child:
        from . import engine

        tempfile.tempdir = scratch
        with suppress(KeyboardInterrupt):  # of which the parent tells
            engine.fuzz(name, options.runs, options.seconds, options.seed, corpus, options.artifacts)
        os._exit(INTERRUPTED)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return seconds


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m tests.fuzz",
        description="Fuzzes a part of kvmsve and ends at the first outcome that is not documented.",
        epilog="targets: " + "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
        + ". exit status: 0 nothing found, 1 a finding, 2 a usage error or an early end",
    )  # fmt: skip
    parser.add_argument("target", choices=[*TARGETS, "all"], help="what to fuzz; all: one after the other")
    parser.add_argument("inputs", nargs="*", type=_file, metavar="FILE", help="instead execute these inputs once each")
    parser.add_argument("--runs", type=_count, default=FOREVER, metavar="N", help="end after N executions")
    parser.add_argument("--seconds", type=_seconds, default=FOREVER, metavar="N", help="end after N seconds")
    parser.add_argument("--seed", type=_count, default=int(time.time()) & 0x7FFF_FFFF, metavar="N",
                        help="of the random choices (default: the time)")  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="DIR",
                        help="inputs to go on from, and kept (default: seeds made from the recordings)")  # fmt: skip
    parser.add_argument("--artifacts", type=_folder, default=Path(), metavar="DIR", help="where findings are written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
