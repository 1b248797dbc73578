"""The command line: replay, show, diff, lint, decode, regs, run, convert.

Exit 0 is success, 1 a difference or a finding, 2 a file or usage error, 128 + n the end by signal n.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from . import commands, layout, regid
from .abi import REVISIONS, RFC_V2, Abi, abi
from .commands import UsageError, complain
from .recording import RecordingError


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command line."""
    _end_on_signals()
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be text
    try:
        code: int = options.run(options)
        print(end="", flush=True)
    except (UsageError, RecordingError) as error:
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


# What options may be

_NAMES = ", ".join(REVISIONS)


def _abi(name: str) -> Abi:
    try:
        return abi(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _vq(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= layout.VQ_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in quadwords, 1 to {layout.VQ_MAX}")
    return int(text)


def _vqs(text: str) -> frozenset[int]:
    return frozenset(_vq(vq.strip()) for vq in text.split(",")) if text else frozenset()


def _number(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of up to 64 bits")
    return value


def _line(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a line number")
    return int(text)


def _reg_id(text: str) -> int:
    """An ID in hexadecimal, with or without 0x, or a register's name."""
    by_name = {name: reg_id for reg_id, name in regid.NAMES.items()}
    if text.upper() in by_name:
        return by_name[text.upper()]
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a register ID in hexadecimal (64 bits) nor a register's name"
        )
    return value


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


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="kvmsve",
        description="The register interface that KVM/arm64 gives userspace for SVE and SME, as a model.",
        epilog="exit status: 0 success, 1 a difference or a finding, 2 a file or usage error",
    )
    parser.add_argument("--version", action="version", version=f"kvmsve {version('kvmsve')}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(subparsers, commands.replay, "do a recording's operations again and report the first difference")
    command.add_argument("files", nargs="*", type=Path, metavar="FILE",
                         help="recordings, plain or .xz; without one, those that the package ships")  # fmt: skip

    command = _command(subparsers, commands.show, "print the vCPU as it stands at a line of a recording")
    command.add_argument("file", type=Path, metavar="FILE", help="a recording, plain or .xz")
    command.add_argument("--at", type=_line, metavar="LINE", help="the last line to replay (default: the whole)")

    command = _command(subparsers, commands.diff, "print what differs between two revisions for a userspace program")
    command.add_argument("revisions", nargs=2, type=_abi, metavar="REV", help=_NAMES)
    _add_length_options(command, sve=frozenset({1, 2}), sme=frozenset({1, 2, 4}))
    command.add_argument("--recording", type=Path, metavar="FILE",
                         help="instead do this recording's operations under both, on a host like the recorded one: "
                              "the first that end otherwise, and the registers at the end")  # fmt: skip

    command = _command(
        subparsers, commands.lint, "say what a recorded VMM loses or risks when it saves and restores a vCPU"
    )
    command.epilog = (
        "The recorded calls are made on the model with the revision's rules; their recorded outcomes do not count. A "
        "recording has both sides where it goes on with a vCPU of the same index in another VM. exit status: 0 no "
        "finding, 1 findings, 2 a file or usage error"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording, plain or .xz")
    command.add_argument("--abi", type=_abi, metavar="REV", help=f"{_NAMES} (default: the recording's)")

    command = _command(subparsers, commands.decode, "name a register ID, and the rule that refuses it if one does")
    command.add_argument("ids", nargs="+", type=_reg_id, metavar="ID",
                         help="hexadecimal, with or without 0x, or a name: 6080000000150000, Z0, SVCR")  # fmt: skip
    _add_vcpu_options(command, sve=frozenset({1, 2, 4}), sme=None)

    command = _command(subparsers, commands.regs, "print the register list of a vCPU: ID, size in bytes, name")
    _add_vcpu_options(command, sve=frozenset(), sme=frozenset())

    command = _command(subparsers, commands.convert, "rewrite raw sve_state images to another vector length")
    command.add_argument("--from-vq", type=_vq, required=True, metavar="A", help="the length of IN in quadwords")
    command.add_argument("--to-vq", type=_vq, required=True, metavar="B", help="the length of OUT")
    command.add_argument("file", type=Path, metavar="IN", help="states of 546 * A bytes: Z, P and FFR, packed")
    command.add_argument("out", type=Path, metavar="OUT", help="the same states, 546 * B bytes each")

    command = _command(subparsers, commands.run, "run a program with a /dev/kvm that is this model")
    command.usage = "%(prog)s [options] -- PROGRAM ARG..."
    command.epilog = (
        "An aarch64 program is run under qemu-aarch64 where this machine is another. KVM_RUN executes no guest code: "
        "the guest does what --guest says, else nothing. exit status: the program's, 2 a usage error"
    )
    _add_host_options(command, sve=frozenset({1, 2, 4}), sme=None)
    command.add_argument("--record", type=Path, metavar="FILE", help="write a recording of what the program does")
    command.add_argument("--trace", action="store_true", help="print a line for each ioctl to standard error")
    command.add_argument("--guest", type=Path, metavar="FILE",
                         help="what guests do: a .py file with a function run(guest, vcpu, n), or a recording"
                         )  # fmt: skip
    command.add_argument("--sysroot", type=Path, metavar="DIR",
                         help="the arm64 libraries (default: the tree that PROGRAM lies in)")  # fmt: skip
    command.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    return parser


def _command(
    subparsers: argparse._SubParsersAction[Parser], run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    command = subparsers.add_parser(run.__name__, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.set_defaults(run=run)
    return command


def _add_vcpu_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    _add_host_options(command, sve, sme)
    command.add_argument("--svcr", type=_number, default=0, metavar="N", help="SVCR of the vCPU (default: 0)")


def _add_host_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    command.add_argument("--abi", type=_abi, default=RFC_V2, metavar="REV", help=f"{_NAMES} (default: {RFC_V2.name})")
    _add_length_options(command, sve, sme)
    command.add_argument("--sme2", action="store_true", help="the host has SME2")
    command.add_argument("--fa64", action="store_true", help="the host has FA64")


def _add_length_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    def lengths(vqs: frozenset[int] | None) -> str:
        if vqs is None:
            return "1,2,4 where the revision has SME"
        return ",".join(map(str, sorted(vqs))) or "without"

    command.add_argument("--sve", type=_vqs, default=sve, metavar="VQS",
                         help=f"SVE lengths in quadwords, as 1,2,4 (default: {lengths(sve)})")  # fmt: skip
    command.add_argument("--sme", type=_vqs, default=sme, metavar="VQS",
                         help=f"streaming lengths likewise (default: {lengths(sme)})")  # fmt: skip
