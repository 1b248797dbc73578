"""The command: `python -m tests.faults` applies each deliberate fault to a scratch copy and tells what caught it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .entries import BadList, Fault, read_faults, select
from .scratch import BrokenCopy, make_clean_copy
from .trial import Outcome, Verdict, failing_without, try_faults

HOME = Path(__file__).parent
ROOT = HOME.parent.parent
DESCRIPTION = """\
Applies each fault of tests/faults/faults.toml to a scratch copy of the project and reports which test of the default
test run (pytest -x) catches it. Never touches the project itself."""
EPILOGUE = """\
A copy has all of the project but tests/faults, whose tests would notice any change. The tests of the faulted
module run first and the other files after them; together they are the default run, so only the time depends on it. At
the end every test that caught a fault is run on a copy without one, and must pass there. Tests that take longer than
--timeout have not caught their fault. A fault that does not build or cannot be imported is an error in the list.
Exit: 0 if all were caught, 1 if one escaped or timed out, 2 if the list or the project is not fit for it."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("select", nargs="*", metavar="NUMBER|FILE", help="only these faults, or those of these files")
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, metavar="N", help="copies at a time")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), metavar="K/N", help="each Nth fault, beginning with the Kth"
    )
    parser.add_argument("--timeout", type=_count, default=600, metavar="SECONDS",
                        help="for the tests of one fault, once it is built (default 600)")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show the faults and stop")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _part(text: str) -> tuple[int, int]:
    k, _, n = text.partition("/")
    if not (k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 1/4 or 4/4")
    return int(k), int(n)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line."""
    options = parse(arguments)
    try:
        faults = select(read_faults(HOME / "faults.toml", ROOT), options.select, options.part)
        if options.list:
            print(*faults, sep="\n", flush=True)
            return 0
        return asyncio.run(report(faults, options.jobs, options.timeout))
    except BadList as error:
        print(f"faults: {error}", file=sys.stderr)
    except BrokenCopy as broken:
        print(f"faults: a copy without any fault: {broken}", file=sys.stderr)
    except KeyboardInterrupt:
        print("faults: interrupted", file=sys.stderr)
    except BrokenPipeError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        print(f"faults: {error.filename or 'standard output'}: {error.strerror or error}", file=sys.stderr)
    return 2


def _drop_output() -> None:
    """What Python would still write at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def report(faults: Sequence[Fault], jobs: int, limit_seconds: float) -> int:
    """A line for each fault as soon as it is known, then a summary; the exit code."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvmsve-faults-") as place:
        clean = Path(place) / "kvmsve"
        await make_clean_copy(ROOT, clean)
        verdicts: list[Verdict] = []
        async for verdict in try_faults(faults, clean, jobs, limit_seconds):
            verdicts.append(verdict)
            print(verdict, flush=True)
        failing = await failing_without(verdicts, clean)
    for name in sorted(failing):
        print(f"faults: {name} fails without any fault too: what it caught is not caught", file=sys.stderr)
    print(summary(verdicts, time.monotonic() - start), flush=True)
    outcomes = {verdict.outcome for verdict in verdicts}
    return 2 if failing or Outcome.BAD in outcomes else int(outcomes != {Outcome.CAUGHT})


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    count = Counter(verdict.outcome for verdict in verdicts)
    timed_out = f"{count[Outcome.TIMED_OUT]} timed out (give them more with --timeout), "
    return (
        f"{len(verdicts)} faults: {count[Outcome.CAUGHT]} caught, {count[Outcome.ESCAPED]} escaped, "
        f"{timed_out if count[Outcome.TIMED_OUT] else ''}{count[Outcome.BAD]} bad, in {seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
