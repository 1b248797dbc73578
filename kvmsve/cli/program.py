"""The program kvmsve: a command line in, an exit code out.

Exit 0 is success, 1 a difference or a finding, 2 a file or usage error, 128 + n the end by signal n.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from ..errors import BadInput
from .common import complain
from .parser import create_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line."""
    _end_on_signals()
    options = create_parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        code: int = import_module(f".{options.command}", __package__).run(options)
        print(end="", flush=True)
    except BadInput as error:
        complain(str(error))
        return 2
    except BrokenPipeError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        complain(f"standard output: {error.strerror}")
        return 2
    except MemoryError:
        complain("out of memory")
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 128 + signal.SIGINT
    return code


def _end_on_signals() -> None:
    """A signal that would kill the program ends it with its exit code, and with nothing half-written left behind."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _drop_output() -> None:
    """What Python would still write at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
