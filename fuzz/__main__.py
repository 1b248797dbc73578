"""python -m fuzz: the command line of the fuzzers."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import engine

TARGETS = {
    "recordings": "files given to replay, show, lint, diff, convert and decode",
    "registers": "calls on vCPUs of every revision with any ID and any buffer, guests between them, and hosts",
    "rewrite": "kvmsve.rewrite of arrays of any shape, type and stride",
}
FOREVER = 1 << 62
MEMORY = Path("/dev/shm")  # a file system without a disk, on Linux


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if options.inputs and options.target == "all":
        parser.error("say whose inputs these are, instead of all")
    try:
        from . import engine
    except ModuleNotFoundError as missing:
        if missing.name != "atheris":
            raise
        print("fuzz: atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    if options.inputs:
        return _execute(engine.load(options.target), options.inputs)
    targets = TARGETS if options.target == "all" else [options.target]
    return max(_fuzz(name, options) for name in targets)


def _execute(target: engine.Target, inputs: list[Path]) -> int:
    for path in inputs:
        target.execute(path.read_bytes())
        print(f"fuzz: nothing found in {path}")
    return 0


def _fuzz(name: str, options: argparse.Namespace) -> int:
    """1 if something was found. The target runs in a process of its own, for it ends its process."""
    print(f"fuzz: {name}, seed {options.seed}", flush=True)
    with TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        corpus = (options.corpus or Path(scratch)) / name
        corpus.mkdir(parents=True, exist_ok=True)
        if not (child := os.fork()):
            from . import engine

            tempfile.tempdir = scratch
            engine.fuzz(name, options.runs, options.seconds, options.seed, corpus, options.artifacts)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        print(f"fuzz: found something; `python -m fuzz {name} FILE` does it again", file=sys.stderr)
    return int(code != 0)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description="Fuzzes a part of kvmsve and ends at the first outcome that is not documented.",
        epilog="targets: " + "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
        + ". exit status: 0 nothing found, 1 a finding, 2 a usage error",
    )  # fmt: skip
    parser.add_argument("target", choices=[*TARGETS, "all"], help="what to fuzz; all: one after the other")
    parser.add_argument("inputs", nargs="*", type=_file, metavar="FILE", help="instead execute these inputs once each")
    parser.add_argument("--runs", type=int, default=FOREVER, metavar="N", help="end after N executions")
    parser.add_argument("--seconds", type=float, default=FOREVER, metavar="N", help="end after N seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()) & 0x7FFF_FFFF, metavar="N",
                        help="of the random choices (default: the time)")  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="DIR",
                        help="inputs to go on from, and kept (default: seeds made from the recordings)")  # fmt: skip
    parser.add_argument("--artifacts", type=Path, default=Path(), metavar="DIR", help="where findings are written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
