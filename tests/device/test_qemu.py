"""Unmodified QEMU on kvmsve's /dev/kvm: `pytest -m qemu`.

QEMU is the machine's own on arm64, or Debian's for arm64, fetched once (debian.py); KVMSVE_QEMU_SUITE=trixie takes that
suite's instead. What guests leave comes from guest_pattern.py, what QEMU ought to say from its documentation
(docs/system/arm/cpu-features.rst), what it says of what it refuses from itself.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import debian
import guest_pattern
import pytest
import recorded
from command_line import Capture, run
from examples import FFR, FPCR, FPSR, SMCR, SVCR, SVE_VLS, ZCR, bitmap, p, u64, z
from guest_pattern import pattern
from qemu import LIMIT_SECONDS, POLL_SECONDS, WAITS, Qemu, arguments, await_file, kvmsve_run, restore, save

from kvmsve import RFC_V2, Abi, Vcpu, abi
from kvmsve.device import Device
from kvmsve.device.host import create_host
from kvmsve.device.program import BadProgram, command, environment, find_program
from kvmsve.device.server import Server
from kvmsve.device.shim import MissingTool, shim
from kvmsve.lint.report import lint
from kvmsve.recording.file import Recording
from kvmsve.recording.recorder import record
from kvmsve.recording.replay import Replay

pytestmark = pytest.mark.qemu

MACHINE, QEMU = platform.machine(), "qemu-system-aarch64"
SUITE = os.environ.get("KVMSVE_QEMU_SUITE")
FEATURES_OF_QEMU = 1 << 0 | 1 << 2 | 1 << 4  # POWER_OFF, PSCI_0_2, SVE
KEPT_AT_16 = 128  # bytes of a Z register for which QEMU's migration stream has room


def find_qemu(machine: str) -> Path:
    """The QEMU that there is on this machine. Unavailable where it cannot be had."""
    own = shutil.which(QEMU) if machine == "aarch64" and SUITE is None else None
    return Path(own or debian.tree("qemu-system-arm", suite=SUITE) / "usr/bin" / QEMU)


def accelerators(qemu: Path) -> str:
    """What it says it has, without our /dev/kvm. Unavailable where it cannot be started."""
    program = find_program(str(qemu))
    variables = environment(program, "no-server", None)
    plain = {name: value for name, value in variables.items() if name not in ("LD_PRELOAD", "QEMU_SET_ENV")}
    done = subprocess.run([*command(program, ["-accel", "help"])], env=plain, capture_output=True, text=True)
    if done.returncode:
        raise debian.Unavailable(f"{qemu} cannot be started: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture(scope="session")
def program() -> Path:
    """QEMU, with all that it needs here; skipped where that cannot be had."""
    try:
        qemu = find_qemu(MACHINE)
        has_kvm = "kvm" in accelerators(qemu).split()
    except (MissingTool, BadProgram, debian.Unavailable) as reason:
        pytest.skip(str(reason))
    if not has_kvm:
        pytest.skip(f"{qemu} is built without KVM")
    return qemu


class Played(NamedTuple):
    """A recording done again, every operation as it was."""

    operations: list[dict[str, Any]]
    vcpus: dict[int, Vcpu]

    @property
    def last(self) -> int:
        """The vCPU that the last operation is about."""
        return int(next(op["vcpu"] for op in reversed(self.operations) if "vcpu" in op))

    @property
    def ran(self) -> int:
        """The vCPU whose guest did something."""
        return int(next(op["vcpu"] for op in self.operations if op.get("guest")))

    def sets(self, reg_id: int) -> list[bytes]:
        """What the register was set to, in order."""
        ids = f"{reg_id:016x}"
        return [bytes.fromhex(op["data"]) for op in self.operations if op["op"] == "set" and op["id"] == ids]


def play(path: Path) -> Played:
    recording = Recording(path)
    replay, operations = Replay(recording), []
    for line, op in recording:
        replay.play(line, op)
        operations.append(recorded.fields(op))
    return Played(operations, replay.vcpus)


def filled(vq: int) -> dict[int, bytes]:
    """By register ID, what a GET returns of a vCPU whose guest has filled its registers."""
    zregs = {z(n): pattern(16 * vq, seed).ljust(256, b"\0") for n, seed in enumerate(guest_pattern.Z_SEEDS)}
    pregs = {p(n): pattern(2 * vq, seed).ljust(32, b"\0") for n, seed in enumerate(guest_pattern.P_SEEDS)}
    ffr = pattern(2 * vq, guest_pattern.FFR_SEED).ljust(32, b"\0")
    status = {FPSR: guest_pattern.FPSR.to_bytes(4, "little"), FPCR: guest_pattern.FPCR.to_bytes(4, "little")}
    return zregs | pregs | status | {FFR: ffr, ZCR: u64(guest_pattern.ZCR)}


def held(vcpu: Vcpu) -> dict[int, bytes]:
    return {reg_id: vcpu.get_one_reg(reg_id) for reg_id in filled(1)}


def text(vqs: set[int]) -> str:
    return ",".join(map(str, sorted(vqs)))


# The lengths

POWERS_OF_2 = {1, 2, 4, 8}
ALL = set(range(1, 17))


@pytest.mark.parametrize("vqs", [{1}, {1, 2}, {1, 2, 4}, POWERS_OF_2, ALL, set()], ids=text)
def test_cpu_model_has_the_lengths_of_the_host(program: Path, tmp_path: Path, vqs: set[int]) -> None:
    """No power of 2 is missed, and no other length: under KVM, QEMU takes what SVE_VLS says, and asks for all of it."""
    path = tmp_path / "lengths.jsonl"
    with Qemu([*kvmsve_run(program, "--sve", text(vqs), "--record", path), *arguments("-S")]) as qemu:
        qemu.greet()
        model = qemu.ask("query-cpu-model-expansion", type="full", model={"name": "host"})["model"]["props"]
        qemu.quit()
    assert {vq for vq in ALL if model[f"sve{128 * vq}"]} == vqs
    assert model["sve"] is bool(vqs)
    played = play(path)
    assert played.sets(SVE_VLS) == [bitmap(*vqs)] * bool(vqs)
    assert played.vcpus[played.last].lengths.sve_vq == max(vqs, default=0)


@pytest.mark.parametrize(
    ("vqs", "properties", "left"),
    [
        ({1, 2, 4}, "sve512=off", {1, 2}),
        ({1, 2, 4}, "sve256=off", {1}),
        ({1, 2, 3, 4}, "sve384=off", {1, 2}),
        ({1, 2, 4}, "sve=off", set()),
    ],
)
def test_lengths_can_be_turned_off(
    program: Path, tmp_path: Path, vqs: set[int], properties: str, left: set[int]
) -> None:
    """A length that the host has goes with all that are larger: KVM has no vCPU with a gap that its host has not."""
    path = tmp_path / "lengths.jsonl"
    cpu = arguments("-S", cpu=f"host,{properties}")
    with Qemu([*kvmsve_run(program, "--sve", text(vqs), "--record", path), *cpu]) as qemu:
        qemu.greet()
        qemu.quit()
    played = play(path)
    assert played.sets(SVE_VLS) == [bitmap(*left)] * bool(left)
    vcpu = played.vcpus[played.last]
    assert vcpu.lengths.sve_vq == max(left, default=0)
    if left:
        assert vcpu.get_one_reg(SVE_VLS) == bitmap(*left)


@pytest.mark.parametrize(
    ("vqs", "properties", "complaint"),
    [
        ({1, 2, 4}, "sve384=on", "cannot enable sve384\nThis CPU does not support the vector length 384-bits."),
        ({1, 2, 4}, "sve128=off", "cannot disable sve128\nDisabling sve128 results in all vector lengths being disab"),
        (
            {1, 2, 4},
            "sve256=off,sve512=on",
            "cannot disable sve256\nThe KVM host requires all supported vector lengths sm",
        ),
        ({1, 2, 4}, "sve=off,sve256=on", "cannot enable sve256\nSVE must be enabled to enable vector lengths."),
        (set(), "sve256=on", "cannot enable sve256\nSVE not supported by KVM on this host"),
        (set(), "sve=on", "'sve' feature not supported by KVM on this host"),
    ],
)
def test_lengths_that_cannot_be(program: Path, vqs: set[int], properties: str, complaint: str) -> None:
    cpu = arguments(cpu=f"host,{properties}")
    with Qemu([*kvmsve_run(program, "--sve", text(vqs)), *cpu]) as qemu, pytest.raises(EOFError) as ended:
        qemu.greet()
    code, said = ended.value.args[0]
    assert code == 1
    assert complaint in said


# Migration of a running guest: two QEMUs on one device, so that one recording has both sides


@pytest.fixture(scope="module")
def migrated(request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording of a migration where the vq of the parameter is the largest."""
    folder = tmp_path_factory.mktemp("migration")
    host = create_host(RFC_V2, {1, 2, 4, 8, 16} & set(range(request.param + 1)), {1, 2, 4}, sme2=True, fa64=True)
    has_run = threading.Event()

    def guest(guest: Any, vcpu: int, n: int) -> None:
        guest_pattern.run(guest, vcpu, n)
        has_run.set()

    complaints: list[str] = []
    found = find_program(str(program))
    with record(folder / "both.jsonl", host) as machine:
        device = Device(host, machine, guest, pause=POLL_SECONDS)
        with Server(device, complaints.append) as server:
            variables = environment(found, server.name, None)
            with Qemu(command(found, arguments()), variables) as source:
                source.greet()
                assert has_run.wait(LIMIT_SECONDS)
                save(source, folder / "stream")
                with Qemu(command(found, arguments(*WAITS)), variables) as destination:
                    destination.greet()
                    restore(destination, folder / "stream")
                    destination.quit()
                source.quit()
    assert complaints == []
    return folder / "both.jsonl"


LENGTHS = [1, 2, 4, 8]
LOSES_AT_16 = pytest.mark.xfail(
    strict=True,
    reason="QEMU's bug: its migration stream holds 16 of the 32 doublewords of a Z register at vq 16 (vmstate_sve)",
)
migrations = pytest.mark.parametrize("migrated", [*LENGTHS, 16], indirect=True)


@pytest.mark.parametrize("migrated", [*LENGTHS, pytest.param(16, marks=LOSES_AT_16)], indirect=True)
def test_every_byte_arrives(request: pytest.FixtureRequest, migrated: Path) -> None:
    played = play(migrated)
    assert held(played.vcpus[played.last]) == filled(played.vcpus[played.last].lengths.sve_vq)


@migrations
def test_source_holds_every_byte_to_the_end(migrated: Path) -> None:
    played = play(migrated)
    vcpu = played.vcpus[played.ran]
    assert held(vcpu) == filled(vcpu.lengths.sve_vq)
    assert played.ran != played.last


@migrations
def test_other_registers_arrive(migrated: Path) -> None:
    """General registers, PSTATE, system registers and timers: the rest of the list is as on the source."""
    played = play(migrated)
    source, destination = played.vcpus[played.ran], played.vcpus[played.last]
    others = set(source.get_reg_list()) - set(filled(1))
    assert len(others) > 200
    assert {reg_id for reg_id in others if source.get_one_reg(reg_id) != destination.get_one_reg(reg_id)} == set()
    assert source.get_reg_list() == destination.get_reg_list()


@pytest.mark.parametrize("migrated", [16], indirect=True)
def test_what_is_lost_at_vq_16(migrated: Path) -> None:
    """The upper half of each Z, and nothing else; kvmsve lint says so."""
    played = play(migrated)
    kept = {z(n): filled(16)[z(n)][:KEPT_AT_16].ljust(256, b"\0") for n in range(32)}
    assert held(played.vcpus[played.last]) == filled(16) | kept
    assert [transfer.lost for transfer in lint(Recording(migrated), RFC_V2).transfers] == ["Z0-Z31 (4096 bytes)"]


@pytest.mark.parametrize("migrated", [4], indirect=True)
def test_lint_and_diff_take_the_recording(capsys: Capture, migrated: Path) -> None:
    """No rule is broken and nothing is lost, here and under later revisions: QEMU asks for no SME.

    v12's kernel has three registers only where ID_AA64MMFR3_EL1 says so, and the host's says nothing.
    """
    assert run(capsys, "replay", migrated)[0] == 0
    for revision in (RFC_V2.name, "v12"):
        code, out, err = run(capsys, "lint", "--abi", revision, migrated)
        assert (code, err) == (0, "")
        assert "in all lost: nothing" in out
    code, out, err = run(capsys, "diff", RFC_V2.name, "v12", "--recording", migrated)
    assert (code, err) == (1, "")
    assert set(re.findall(r"[gs]et of (\w+)", out)) == {"TCR2_EL1", "PIR_EL1", "PIRE0_EL1"}
    assert "no difference in registers at the end" in out


# Migration between two kernels of some revision, which have SME where there is any


@pytest.mark.parametrize("revision", ["mainline-7.3", "v4", "v12"])
def test_migration_in_other_revisions(program: Path, tmp_path: Path, revision: str) -> None:
    """QEMU does not ask for SME, so it gets the list of a vCPU without, and what it does not know does not stop it."""
    sides = migrate_between_hosts(program, tmp_path, ["--abi", revision], {1, 2, 4}, {1, 2, 4})
    for side, vcpu in ((sides[0], sides[0].ran), (sides[1], sides[1].last)):
        assert held(side.vcpus[vcpu]) == filled(4)
        inits = [op["features"] for op in side.operations if op["op"] == "vcpu_init"]
        assert {features[0] & ~FEATURES_OF_QEMU for features in inits} == {0}
        assert {op.get("sme", 0) for op in side.operations if op["op"] == "reg_list"} == {0}


def test_migration_to_a_host_with_shorter_vectors(program: Path, tmp_path: Path) -> None:
    """QEMU takes the stream without a word, and the guest's upper halves are gone: also its bug."""
    _, destination = migrate_between_hosts(program, tmp_path, [], {1, 2, 4, 8}, {1, 2, 4})
    shorter = {reg_id: data for reg_id, data in filled(8).items() if reg_id in (FPSR, FPCR, ZCR)}
    shorter |= {z(n): filled(8)[z(n)][:64].ljust(256, b"\0") for n in range(32)}
    shorter |= {p(n): filled(8)[p(n)][:8].ljust(32, b"\0") for n in range(17)}
    assert held(destination.vcpus[destination.last]) == shorter


def migrate_between_hosts(
    program: Path, folder: Path, options: list[str], vqs: set[int], other_vqs: set[int]
) -> list[Played]:
    """Both sides of a migration, each recorded by a kvmsve run of its own."""
    paths, has_run = [folder / "source.jsonl", folder / "destination.jsonl"], folder / "has-run"
    guest = ["--guest", guest_pattern.__file__]
    source_run = kvmsve_run(program, *options, "--sve", text(vqs), "--record", paths[0], *guest)
    other_run = kvmsve_run(program, *options, "--sve", text(other_vqs), "--record", paths[1])
    with (
        Qemu([*source_run, *arguments()], {**os.environ, "GUEST_HAS_RUN": str(has_run)}) as source,
        Qemu([*other_run, *arguments(*WAITS)]) as destination,
    ):
        source.greet()
        destination.greet()
        await_file(has_run, source)
        save(source, folder / "stream")
        restore(destination, folder / "stream")
        source.quit()
        destination.quit()
    return [play(path) for path in paths]


# A QEMU that asks for SME, and is otherwise as it was

ASKS_FOR_SME = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <linux/kvm.h>
int ioctl(int on, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    struct kvm_vcpu_init *init = va_arg(arguments, void *);
    va_end(arguments);
    if (request == KVM_ARM_VCPU_INIT && init->features[0] & 1 << KVM_ARM_VCPU_PSCI_0_2)
        init->features[0] |= 1 << SME;
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(on, request, init);
}
"""


@pytest.mark.parametrize("revision", [RFC_V2, abi("v9")], ids=lambda revision: revision.name)
def test_a_qemu_that_asks_for_sme_starts(program: Path, tmp_path: Path, revision: Abi) -> None:
    """Up to v9 the list has SVCR, SMCR_EL1 and SMIDR_EL1 of SME: 64 bits each, which is all that QEMU has to know."""
    run = sme_run(revision, "--record", tmp_path / "sme.jsonl")
    with Qemu([*run, *asking_for_sme(program, revision, tmp_path), *arguments("-S")]) as qemu:
        qemu.greet()
        qemu.quit()
    played = play(tmp_path / "sme.jsonl")
    assert played.vcpus[played.last].lengths == (2, 4)
    assert played.sets(SVCR)
    assert played.sets(SMCR)


@pytest.mark.parametrize("revision", [abi("v10"), abi("v12")], ids=lambda revision: revision.name)
def test_a_qemu_that_asks_for_sme_stops_at_its_registers(program: Path, tmp_path: Path, revision: Abi) -> None:
    """From v10 on the list has a register of the SME coprocessor that is neither 32 nor 64 bits: SME_VLS."""
    with Qemu([*sme_run(revision), *asking_for_sme(program, revision, tmp_path), *arguments()]) as qemu:
        with pytest.raises(EOFError) as ended:
            qemu.greet()
        code, said = ended.value.args[0]
    assert code == 1
    assert "Can't handle size of register in kernel list" in said


def sme_run(revision: Abi, *options: object) -> list[str]:
    """The start of a command line, with `env`: what it is to set follows, and the program."""
    return kvmsve_run(Path("env"), "--abi", revision.name, "--sve", "1,2", "--sme", "1,2,4", *options)


def asking_for_sme(qemu: Path, revision: Abi, folder: Path) -> list[str]:
    """QEMU, preceded by what puts a library before the shim: it adds the feature bit where QEMU asks for PSCI, which is
    for the vCPUs that it is to run.
    """
    library, program = folder / "asks_for_sme.so", find_program(str(qemu))
    is_native = program.machine == MACHINE
    compiler = "cc" if is_native else "aarch64-linux-gnu-gcc"
    flags = ["-shared", "-fPIC", f"-DSME={revision.sme_feature}", "-x", "c", "-"]
    subprocess.run([compiler, *flags, "-o", library, "-ldl"], input=ASKS_FOR_SME, text=True, check=True)
    preload = f"LD_PRELOAD={library}:{shim('aarch64')}"
    if is_native:
        return [preload, *command(program, [])]
    variables = environment(program, "", None)
    return [
        f"QEMU_SET_ENV={preload},KVMSVE_EMULATED=1",
        f"QEMU_LD_PREFIX={variables['QEMU_LD_PREFIX']}",
        *command(program, []),
    ]


# A machine around the vCPUs


def test_virt_machine_with_two_cpus(program: Path, tmp_path: Path) -> None:
    """A GICv3, memory, timers and two vCPUs, of which one runs and the other waits for PSCI."""
    path = tmp_path / "virt.jsonl"
    machine = arguments("-smp", "2", "-m", "64", machine="virt,gic-version=3")
    with Qemu([*kvmsve_run(program, "--sve", "1,2", "--record", path), *machine]) as qemu:
        qemu.greet()
        assert qemu.ask("query-status")["status"] == "running"
        assert len(qemu.ask("query-cpus-fast")) == 2
        qemu.quit()
    played = play(path)
    ran = {op["vcpu"] for op in played.operations if op["op"] == "run"}
    assert len(ran) == 2
    assert {played.vcpus[vcpu].lengths.sve_vq for vcpu in ran} == {2}


# Sudden ends

MOMENTS = {"starting": "KVM_GET_REG_LIST", "running": "KVM_RUN"}  # what the trace has said by then


@pytest.fixture(params=MOMENTS)
def traced(request: pytest.FixtureRequest, program: Path, tmp_path: Path) -> Iterator[Qemu]:
    """A QEMU at some moment of its life, recorded in a file of tmp_path."""
    run = kvmsve_run(program, "--trace", "--record", tmp_path / "cut.jsonl")
    with Qemu([*run, *arguments()]) as qemu:
        assert qemu.process.stderr is not None
        while MOMENTS[request.param] not in qemu.process.stderr.readline():
            assert qemu.process.poll() is None
        yield qemu


def test_qemu_is_killed(traced: Qemu, tmp_path: Path) -> None:
    """kvmsve run ends as QEMU did, and what was recorded until then is whole."""
    os.kill(traced.child(), signal.SIGKILL)
    assert traced.end()[0] == 128 + signal.SIGKILL
    assert traced.processes() == []
    assert play(tmp_path / "cut.jsonl").operations


def test_kvmsve_is_killed(traced: Qemu) -> None:
    """QEMU is told that there is no device any more, and ends, or can be told to."""
    traced.process.kill()
    traced.process.wait()
    with suppress(EOFError, BrokenPipeError):
        traced.greet()
        traced.ask("quit")
    deadline = time.monotonic() + LIMIT_SECONDS
    while traced.processes() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert traced.processes() == []
