"""What each command of the command line does; an exit code is its result."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING

from . import layout, regid
from .abi import Abi
from .compare import Difference
from .compare import describe as describe_op
from .device.launch import launch
from .device.machine import create_host
from .device.program import BadProgram
from .device.script import ScriptError, idle, load_script
from .device.shim import MissingTool
from .diff import columns, differences, table
from .divergence import Comparison, kinds
from .errors import HostOops, KvmError
from .features import Feature
from .lint import lint as lint_recording
from .output import whole_file
from .recording import Recording, RecordingError
from .regfile import rewrite
from .replay import Replay, misuse_at
from .schema import HEADINGS, Op
from .show import describe
from .vcpu import Host, Vcpu

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROGRESS_OPERATIONS = 20_000
CONVERTED_AT_ONCE = 1024
KINDS_SHOWN = 10
LINE_COLUMNS = 100


class UsageError(Exception):
    """What the caller asked for cannot be done; the message says what to do instead."""


def complain(line: str) -> None:
    """The line is on standard error, whole: threads do not mix theirs. Nobody can be told where that cannot be."""
    with suppress(OSError, AttributeError):  # full, or closed before Python started
        sys.stderr.write(f"kvmsve: {line}\n")
        sys.stderr.flush()


def replay(options: argparse.Namespace) -> int:
    """Every file is replayed and reported in one line; the worst outcome is the exit code."""
    return max(_replay_file(path) for path in options.files or _shipped_recordings())


def _replay_file(path: Path) -> int:
    try:
        recording = Recording(path)
        count = _count_operations(recording)
    except RecordingError as error:
        complain(str(error))
        return 2
    except Difference as difference:
        print(f"DIFFERS  {recording.header.abi.name:14} {path.name}")
        print(f"  {path}, {difference}")
        return 1
    print(f"ok       {recording.header.abi.name:14} {count:6} operations  {path.name}")
    return 0


def _count_operations(recording: Recording) -> int:
    """The number of operations of the recording, all of which have been done."""
    count = 0
    for _, op in _played(recording, Replay(recording)):
        count += op["op"] not in HEADINGS
        if count % PROGRESS_OPERATIONS == 0 and count and sys.stderr.isatty():
            print(f"{recording.path.name}: {count} operations ...", end="\r", file=sys.stderr, flush=True)
    return count


def _played(recording: Recording, replayed: Replay, last_line: int | None = None) -> Iterator[tuple[int, Op]]:
    """Each operation up to `last_line`, after it was done. Difference where one was not as recorded."""
    for line, op in recording:
        if last_line is not None and line > last_line:
            return
        with misuse_at(recording.path, line):
            replayed.play(line, op)
        yield line, op


def _shipped_recordings() -> Iterator[Path]:
    for entry in sorted(resources.files(__package__).joinpath("recordings").iterdir(), key=lambda entry: entry.name):
        with resources.as_file(entry) as path:
            yield path


def show(options: argparse.Namespace) -> int:
    """The vCPU of the last operation up to the line is printed as it stands then."""
    recording = Recording(options.file)
    replayed = Replay(recording)
    shown = None
    try:
        for line, op in _played(recording, replayed, options.at):
            if op.get("vcpu") in replayed.vcpus:
                shown = line, op, replayed.vcpus[op["vcpu"]]
    except Difference as difference:
        raise UsageError(f"{recording.path}, {difference}; show works up to the line before") from None
    if shown is None:
        raise UsageError(
            f"{recording.path} has no vCPU up to {'its end' if options.at is None else f'line {options.at}'}"
        )
    line, op, vcpu = shown
    source = f"{recording.path.name} ({recording.header.abi.name})"
    print(f"vCPU {op['vcpu']} of {source} after line {line}, {describe_op(op)}")
    print(*describe(vcpu), sep="\n")
    return 0


def diff(options: argparse.Namespace) -> int:
    """What differs between the two revisions is printed, of the interface or of one recording's operations."""
    first, second = options.revisions
    if options.recording is not None:
        return _diff_recording(Recording(options.recording), first, second)
    try:
        rows = differences(first, second, (options.sve, options.sme))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not rows:
        print("no difference")
        return 0
    print(*table(rows, first, second), sep="\n")
    return 1


def _diff_recording(recording: Recording, first: Abi, second: Abi) -> int:
    comparison = Comparison(recording, first, second)
    found, count = [], 0
    for line, op in recording:
        with misuse_at(recording.path, line):
            difference = comparison.play(line, op)
        count += op["op"] not in HEADINGS
        if difference is not None:
            found.append(difference)
        if comparison.crashed:
            break
    left = [(f"  vCPU {number}: {names}", *texts) for number, names, texts in comparison.registers()]
    if not found and not left:
        print(f"no difference in {count} operations")
        return 0
    cells = [(f"  {_first_of(alike)}", alike[0].expected, alike[0].actual) for alike in kinds(found)]
    title, *lines = columns([("", first.name, second.name), *cells[:KINDS_SHOWN], *left])
    more = f", {len(cells) - KINDS_SHOWN} kinds not shown" if len(cells) > KINDS_SHOWN else ""
    print(title, f"{len(found)} of {count} operations differ{more}", *lines[: len(lines) - len(left)], sep="\n")
    if comparison.crashed:
        print("a host has crashed there, nothing more was done")
    closing = "no difference in registers at the end" if comparison.open_vcpus else "no vCPU is open at the end"
    print("registers at the end" if left else closing, *lines[len(lines) - len(left) :], sep="\n")
    return 1


def _first_of(alike: list[Difference]) -> str:
    first = alike[0]
    where = f", {first.where}" if first.where else ""
    return f"line {first.line}, {describe_op(first.op)}{where}" + (f" ({len(alike)} alike)" if len(alike) > 1 else "")


def lint(options: argparse.Namespace) -> int:
    """What the recorded VMM loses or risks is printed, with the reason and the way out."""
    recording = Recording(options.file)
    revision = options.abi or recording.header.abi
    report = lint_recording(recording, revision)
    for finding in report.findings:
        print(f"line {finding.line}, vCPU {finding.vcpu}: {finding.rule.name}")
        for text in (finding.consequence, f"why: {finding.rule.why}", f"fix: {finding.rule.fix}"):
            print(textwrap.fill(text, LINE_COLUMNS, initial_indent=" " * 4, subsequent_indent=" " * 8))
    for transfer in report.transfers:
        print(textwrap.fill(str(transfer), LINE_COLUMNS, subsequent_indent=" " * 8))
    count = len(report.findings)
    print(f"{recording.path.name} under {revision.name}: {count} finding{'s' if count != 1 else ''}")
    return int(count > 0)


def decode(options: argparse.Namespace) -> int:
    """Each ID is taken apart, and read from a vCPU to see which rule refuses it."""
    vcpu = _create_vcpu(options)
    for reg_id in options.ids:
        name = regid.name(reg_id, vcpu.abi.sme_vls)
        size, coproc = regid.size_bytes(reg_id), regid.COPROC_NAMES.get(regid.coproc(reg_id), "unknown")
        slice_note = f", slice {regid.slice_of(reg_id)}" if regid.coproc(reg_id) in (regid.SVE, regid.SME) else ""
        print(f"0x{reg_id:016x}  {name}: {size} bytes, coprocessor {coproc}{slice_note}")
        print(f"    {_reading(vcpu, reg_id)}")
    return 0


def _reading(vcpu: Vcpu, reg_id: int) -> str:
    try:
        value = vcpu.get_one_reg(reg_id)
    except KvmError as error:
        return str(error)
    except HostOops as oops:
        return f"the host crashes: {oops}"
    return f"readable: 0x{int.from_bytes(value, 'little'):x}" if len(value) <= 8 else "readable"


def regs(options: argparse.Namespace) -> int:
    """The list that a VMM would get of the vCPU."""
    vcpu = _create_vcpu(options)
    try:
        ids = vcpu.get_reg_list()
    except KvmError as error:
        raise UsageError(f"KVM_GET_REG_LIST: {error.strerror}") from None
    for reg_id in ids:
        print(f"0x{reg_id:016x}  {regid.size_bytes(reg_id):4}  {regid.name(reg_id, vcpu.abi.sme_vls)}")
    print(f"{len(ids)} registers", file=sys.stderr)
    return 0


def _sme_vqs(options: argparse.Namespace) -> frozenset[int]:
    """The streaming lengths of the options; without any 1, 2 and 4 where the revision can use them."""
    if options.sme is not None:
        return frozenset(options.sme)
    has_sme = options.abi.sme_feature is not None and options.abi.sme_feature < options.abi.max_features
    return frozenset({1, 2, 4} if has_sme else ())


def _create_vcpu(options: argparse.Namespace) -> Vcpu:
    """The finalized vCPU that the options describe."""
    sme = _sme_vqs(options)
    try:
        host = Host(abi=options.abi, sve_vqs=options.sve, sme_vqs=sme, sme2=options.sme2, fa64=options.fa64)
        features = {Feature.SVE} if options.sve else set()
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init(features | {Feature.SME} if sme else features)
        if options.svcr:
            vcpu.set_one_reg(regid.SVCR, options.svcr.to_bytes(8, "little"))
        if options.sve or sme:
            vcpu.finalize(Feature.VEC)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except KvmError as error:
        raise UsageError(f"{options.abi.name} has no such vCPU: {error.symbol}, {error.strerror}") from None
    return vcpu


def run(options: argparse.Namespace) -> int:
    """The program has run with a /dev/kvm of the host that the options describe; its exit code."""
    program = options.program[options.program[:1] == ["--"] :]
    if not program:
        raise UsageError("no program to run: kvmsve run [options] -- PROGRAM ARG...")
    try:
        host = create_host(options.abi, options.sve, _sme_vqs(options), options.sme2, options.fa64)
        script = idle if options.guest is None else load_script(options.guest)
        return launch(
            host, program, complain=complain, trace=complain if options.trace else None, script=script,
            recording=options.record, sysroot=options.sysroot,
        )  # fmt: skip
    except (BadProgram, MissingTool, ScriptError, ValueError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or program[0]}: {error.strerror or error}") from None


def convert(options: argparse.Namespace) -> int:
    """The states of one file are in another, at another vector length."""
    state_bytes = layout.sve_state_bytes(options.from_vq)
    try:
        with _blaming(options.file), options.file.open("rb") as source:
            chunks = _chunks(options.file, source, state_bytes)
            with _blaming(options.out), whole_file(options.out) as partial, partial.open("wb") as out:
                for states in chunks:
                    out.write(rewrite(states, options.to_vq, options.from_vq).tobytes())
    except ValueError:
        raise UsageError(
            f"{options.file}: not a number of whole states of vq {options.from_vq}, {state_bytes} bytes each"
        ) from None
    return 0


def _chunks(path: Path, source: IO[bytes], state_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """The states of a file, some thousand at a time; ValueError where it has none or ends within one."""
    import numpy as np

    with _blaming(path):
        yield np.frombuffer(source.read(state_bytes), np.uint8).reshape(1, state_bytes)
        while chunk := source.read(CONVERTED_AT_ONCE * state_bytes):
            yield np.frombuffer(chunk, np.uint8).reshape(-1, state_bytes)


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """An OSError of the block is a UsageError that names the file."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
