"""The program kvmsve: a command line in, an exit code out.

Exit 0 is success, 1 a difference or a finding, 2 a file or usage error, 128 + n the end by signal n.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn, TextIO

from ..errors import BadInput
from .common import complain
from .parser import create_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line."""
    _end_on_signals()
    try:
        code = _run(arguments)
    except SystemExit as end:
        if _all_is_written() or end.code:
            raise
        raise SystemExit(2) from None
    return code if _all_is_written() else code or 2


def _run(arguments: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        options = _parse(arguments)
        code: int = import_module(f".{options.command}", __package__).run(options)
        print(end="", flush=True)
    except BadInput as error:
        complain(str(error))
        return 2
    except BrokenPipeError:
        _drop(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop(sys.stdout)
        complain(f"standard output: {error.strerror}")
        return 2
    except MemoryError:
        complain("out of memory")
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    return code


def _parse(arguments: Sequence[str] | None) -> Namespace:
    """SystemExit behind the help, the version or the complaint; OSError where it cannot be written."""
    try:
        return create_parser().parse_args(arguments)
    except SystemExit:
        print(end="", flush=True)
        raise


def _all_is_written() -> bool:
    """Whether what was said is where it should be; what cannot be written is dropped, lest Python tries it again."""
    lost = []
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed before Python started
        try:
            stream.flush()
        except OSError:
            _drop(stream)
            lost.append(stream)
    return not lost


def _end_on_signals() -> None:
    """A signal that would kill the program ends it with its exit code, and with nothing half-written left behind."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _drop(stream: TextIO) -> None:
    """What Python would still write there at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
