"""The command line: replay, show, diff, lint, decode, regs, run, convert, and what each takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from ..facts import RFC_V2
from .common import complain
from .options import ABI_NAMES, to_abi, to_line, to_number, to_reg_id, to_vq, to_vqs


class PrintVersion(argparse.Action):
    """`--version`: the installed version is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"{parser.prog} {version('kvmsve')}")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, and which does not hide that its help cannot be written."""

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)", self.prog)
        raise SystemExit(2)


def create_parser() -> argparse.ArgumentParser:
    """The parser of every command and option; what it parses has the command's name in `command`."""
    parser = Parser(
        prog="kvmsve",
        description="The register interface that KVM/arm64 gives userspace for SVE and SME, as a model.",
        epilog="exit status: 0 success, 1 a difference or a finding, 2 a file or usage error",
    )
    parser.add_argument("--version", action=PrintVersion, nargs=0, help="show program's version number and exit")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(subparsers, "replay", "do a recording's operations again and report the first difference")
    command.add_argument("files", nargs="*", type=Path, metavar="FILE",
                         help="recordings, plain or .xz; without one, those that the package ships")  # fmt: skip
    command.add_argument("--all-registers", action="store_true",
                         help="compare also registers that say nothing of vectors, such as SCTLR_EL1")  # fmt: skip

    command = _command(subparsers, "show", "print the vCPU as it stands at a line of a recording")
    command.add_argument("file", type=Path, metavar="FILE", help="a recording, plain or .xz")
    command.add_argument("--at", type=to_line, metavar="LINE", help="the last line to replay (default: the whole)")

    command = _command(subparsers, "diff", "print what differs between two revisions for a userspace program")
    command.add_argument("revisions", nargs=2, type=to_abi, metavar="REV", help=ABI_NAMES)
    _add_length_options(command, sve=frozenset({1, 2}), sme=frozenset({1, 2, 4}))
    command.add_argument("--recording", type=Path, metavar="FILE",
                         help="instead do this recording's operations under both, on a host like the recorded one: "
                              "the first that end otherwise, and the registers at the end")  # fmt: skip

    command = _command(subparsers, "lint", "say what a recorded VMM loses or risks when it saves and restores a vCPU")
    command.epilog = (
        "The recorded calls are made on the model with the revision's rules; their recorded outcomes do not count. A "
        "recording has both sides where it goes on with a vCPU of the same index in another VM. exit status: 0 no "
        "finding, 1 findings, 2 a file or usage error"
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a recording, plain or .xz")
    command.add_argument("--abi", type=to_abi, metavar="REV", help=f"{ABI_NAMES} (default: the recording's)")

    command = _command(subparsers, "decode", "name a register ID, and the rule that refuses it if one does")
    command.add_argument("ids", nargs="+", type=to_reg_id, metavar="ID",
                         help="hexadecimal, with or without 0x, or a name: 6080000000150000, Z0, SVCR")  # fmt: skip
    _add_vcpu_options(command, sve=frozenset({1, 2, 4}), sme=None)

    command = _command(subparsers, "regs", "print the register list of a vCPU: ID, size in bytes, name")
    _add_vcpu_options(command, sve=frozenset(), sme=frozenset())

    command = _command(subparsers, "convert", "rewrite raw sve_state images to another vector length")
    command.add_argument("--from-vq", type=to_vq, required=True, metavar="A", help="the length of IN in quadwords")
    command.add_argument("--to-vq", type=to_vq, required=True, metavar="B", help="the length of OUT")
    command.add_argument("file", type=Path, metavar="IN", help="states of 546 * A bytes: Z, P and FFR, packed")
    command.add_argument("out", type=Path, metavar="OUT", help="the same states, 546 * B bytes each")

    command = _command(subparsers, "run", "run a program with a /dev/kvm that is this model")
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
                         help="the libraries of another system (default: the tree that PROGRAM lies in)")  # fmt: skip
    command.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="the program and its arguments")
    return parser


def _command(subparsers: argparse._SubParsersAction[Parser], name: str, what: str) -> argparse.ArgumentParser:
    """The parser of a command, which the module of its name carries out."""
    command = subparsers.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.set_defaults(command=name)
    return command


def _add_vcpu_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    _add_host_options(command, sve, sme)
    command.add_argument("--svcr", type=to_number, default=0, metavar="N", help="SVCR of the vCPU (default: 0)")


def _add_host_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    command.add_argument(
        "--abi", type=to_abi, default=RFC_V2, metavar="REV", help=f"{ABI_NAMES} (default: {RFC_V2.name})"
    )
    _add_length_options(command, sve, sme)
    command.add_argument("--sme2", action="store_true", help="the host has SME2")
    command.add_argument("--fa64", action="store_true", help="the host has FA64")
    command.add_argument("--fpmr", action="store_true", help="the host has FPMR")
    command.add_argument("--pmu", action="store_true", help="the host has a PMU for vCPUs")
    command.add_argument("--pauth", action="store_true", help="the host has pointer authentication")
    command.add_argument("--nested", action="store_true", help="the host has nested virtualization: vCPUs with EL2")


def _add_length_options(command: argparse.ArgumentParser, sve: frozenset[int], sme: frozenset[int] | None) -> None:
    def lengths(vqs: frozenset[int] | None) -> str:
        if vqs is None:
            return "1,2,4 where the revision has SME"
        return ",".join(map(str, sorted(vqs))) or "without"

    command.add_argument("--sve", type=to_vqs, default=sve, metavar="VQS",
                         help=f"SVE lengths in quadwords, as 1,2,4 (default: {lengths(sve)})")  # fmt: skip
    command.add_argument("--sme", type=to_vqs, default=sme, metavar="VQS",
                         help=f"streaming lengths likewise (default: {lengths(sme)})")  # fmt: skip
