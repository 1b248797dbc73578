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
    "registers": "calls on vCPUs of every revision, with any ID and any buffer, and guests between them",
    "rewrite": "kvmsve.rewrite of arrays of any shape, type and stride, and hosts of any arguments",
}
FOREVER = 1 << 62
MEMORY = Path("/dev/shm")  # a file system without a disk, on Linux


def main() -> int:
    options = _parser().parse_args()
    try:
        from . import engine
    except ModuleNotFoundError as missing:
        if missing.name != "atheris":
            raise
        print("fuzz: atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    with TemporaryDirectory(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        tempfile.tempdir = scratch
        if options.inputs:
            return _execute(engine.load(options.target), options.inputs)
        corpus = options.corpus or Path(scratch) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        sys.stdout.flush()
        if not (child := os.fork()):
            engine.fuzz(options.target, options.runs, options.seconds, options.seed, corpus, options.artifacts)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        print(f"fuzz: found something; `python -m fuzz {options.target} FILE` does it again", file=sys.stderr)
    return 1 if code else 0


def _execute(target: engine.Target, inputs: list[Path]) -> int:
    for path in inputs:
        target.execute(path.read_bytes())
        print(f"fuzz: nothing found in {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description="Fuzzes a part of kvmsve and ends at the first exception that is not documented.",
        epilog="targets: " + "; ".join(f"{name}: {what}" for name, what in TARGETS.items())
        + ". exit status: 0 nothing found, 1 a finding, 2 a usage error",
    )  # fmt: skip
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("inputs", nargs="*", type=Path, metavar="FILE", help="instead execute these inputs once each")
    parser.add_argument("--runs", type=int, default=FOREVER, metavar="N", help="end after N executions")
    parser.add_argument("--seconds", type=float, default=FOREVER, metavar="N", help="end after N seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()) & 0x7FFF_FFFF, metavar="N",
                        help="of the random choices (default: the time)")  # fmt: skip
    parser.add_argument("--corpus", type=Path, metavar="DIR",
                        help="inputs to go on from, and kept (default: seeds, made from the recordings)")  # fmt: skip
    parser.add_argument("--artifacts", type=Path, default=Path(), metavar="DIR", help="where findings are written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
