"""The file that a recorded session leaves: its lines, when there is one, and that it replays."""

from __future__ import annotations

import json
import lzma
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import model
import model_by_mode
import pytest
import recorded

from kvmsve import RFC_V2_R1, V10, Feature, GuestUndefined, Host, HostOops, KvmError, Vcpu, record
from kvmsve.ops.outcome import Difference
from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay

ROUNDS = 100
Z1, V3 = model.Z_BASE | 1 << 5, model.CORE_V[3]


def replay(path: Path) -> Replay:
    """The model after all of the recording, in which nothing differed."""
    recording = Recording(path)
    replayed = Replay(recording)
    for line, op in recording:
        replayed.play(line, op)
    return replayed


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    with pytest.raises(KvmError):
        call(*arguments, **named)


def finalized(host: Any) -> Vcpu:
    """A vCPU with all that the host has, from a Host or from one that is recorded."""
    vcpu: Vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE, Feature.SME})
    vcpu.finalize(Feature.VEC)
    return vcpu


def test_lines_are_what_the_format_says(tmp_path: Path) -> None:
    """FORMAT.md, line for line."""
    path = tmp_path / "file.jsonl"
    with record(path, Host(sve_vqs={1, 2}, sme_vqs={1, 2})) as host:
        host.note("a heading")
        vm = host.create_vm()
        host.check_extension(170)
        vm.check_extension(999)
        vcpu = vm.create_vcpu(3)
        refused(vm.create_vcpu, 3)
        vcpu.init({Feature.SVE, Feature.PSCI_0_2})
        refused(vcpu.init, [0] * 7, 1)
        vcpu.finalize(Feature.VEC)
        vcpu.set_one_reg(Z1, bytes(range(100)) * 3)
        vcpu.set_one_reg(model.FPSR, b"\x1f\0\0\0")
        vcpu.get_one_reg(model.FPSR)
        refused(vcpu.get_one_reg, V3)
        refused(vcpu.get_reg_list, 0)
        with vcpu.run() as guest:
            guest.cpacr = 0x330000
            guest.zcr = 1
            guest.v[7] = bytes(range(16))
            with pytest.raises(GuestUndefined):
                _ = guest.zt0
            assert guest.z[7][:3] == b"\0\1\2"
            guest.p[0] = b"\1\2\3\4"
            assert guest.vl == 32
            assert guest.fpsr == 0x1F
        vcpu.run()
        refused(vcpu.run, immediate_exit=True)
    z1 = (bytes(range(100)) * 3)[:256].hex()
    v7 = bytes(range(16)).hex()
    steps = [
        {"msr": "cpacr", "value": "330000"}, {"msr": "zcr", "value": "1"}, {"write": "v7", "data": v7},
        {"undef": "zt0"}, {"read": "z7", "vl": 32, "data": v7 + "00" * 16},
        {"write": "p0", "vl": 32, "data": "01020304"}, {"rdvl": 32}, {"mrs": "fpsr", "value": "1f"},
    ]  # fmt: skip
    header, *ops = recorded.parse(path)
    assert ops == [
        {"op": "note", "text": "a heading"},
        {"op": "create_vm", "vm": 0, "ret": 0},
        {"op": "check_extension", "on": "kvm", "cap": 170, "ret": 1},
        {"op": "check_extension", "on": "vm", "cap": 999, "ret": 0},
        {"op": "create_vcpu", "vm": 0, "vcpu": 0, "index": 3, "ret": 0},
        {"op": "create_vcpu", "vm": 0, "vcpu": 1, "index": 3, "ret": -1, "errno": "EEXIST"},
        {"op": "vcpu_init", "vcpu": 0, "target": 0, "features": [20, 0, 0, 0, 0, 0, 0], "ret": 0},
        {"op": "vcpu_init", "vcpu": 0, "target": 1, "features": [0] * 7, "ret": -1, "errno": "EINVAL"},
        {"op": "finalize", "vcpu": 0, "feature": 4, "ret": 0},
        {"op": "set", "vcpu": 0, "id": "6080000000150020", "data": z1, "ret": 0},
        {"op": "set", "vcpu": 0, "id": "60200000001000d4", "data": "1f000000", "ret": 0},
        {"op": "get", "vcpu": 0, "id": "60200000001000d4", "data": "1f000000", "ret": 0},
        {"op": "get", "vcpu": 0, "id": "6040000000100060", "ret": -1, "errno": "EINVAL"},
        {"op": "reg_list", "vcpu": 0, "n_in": 0, "ret": -1, "errno": "E2BIG", "n_out": 278},
        {"op": "run", "vcpu": 0, "ret": 0, "guest": steps},
        {"op": "run", "vcpu": 0, "ret": 0, "guest": []},
        {"op": "run", "vcpu": 0, "immediate_exit": True, "ret": -1, "errno": "EINTR"},
    ]
    assert (header["host"]["reg_list_base"], header["host"]["features_valid"]) == (184, list(range(9)))


def test_a_set_of_fewer_bytes_than_the_kernel_fetches(tmp_path: Path) -> None:
    """rfc-v2.md 3.3: 8 for a system register, though its ID says 4; with 8 there the ID is ENOENT."""
    reg_id = model.SVCR & ~(0xF << 52) | 2 << 52
    path = tmp_path / "file.jsonl"
    with record(path, Host(sve_vqs={1}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        for size in (3, 4, 7, 8):
            refused(vcpu.set_one_reg, reg_id, bytes(size))
    replay(path)
    outcomes = [(op["op"], op["errno"], op.get("avail")) for op in recorded.parse(path)[-4:]]
    assert outcomes == [("set_short", "EFAULT", size) for size in (3, 4, 7)] + [("set", "ENOENT", None)]


def test_runs_are_written_whole_whatever_is_done_between_their_steps(tmp_path: Path) -> None:
    """A guest comes late, or never; meanwhile another vCPU is used, or the same one."""
    path = tmp_path / "file.jsonl"
    with record(path, Host(sve_vqs={1}, sme_vqs={1})) as host:
        first, second = finalized(host), finalized(host)
        run = first.run()
        first.fail_allocations()
        second.get_one_reg(Z1)
        with run as guest:
            guest.v[1] = bytes(16)
        first.run()
        second.get_one_reg(Z1)
        first.get_one_reg(Z1)
        second.get_one_reg(Z1)
        first.run()
    replay(path)
    done = [(op["op"], op["vcpu"], len(op.get("guest", ""))) for op in recorded.parse(path) if "vcpu" in op]
    expected = [
        ("run", 0, 1), ("fail_allocations", 0, 0), ("get", 1, 0),
        ("run", 0, 0), ("get", 1, 0), ("get", 0, 0), ("get", 1, 0),
        ("run", 0, 0),
    ]  # fmt: skip
    assert done[-len(expected) :] == expected


def test_threads_are_recorded_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    interval = sys.getswitchinterval()
    with record(path, Host(sve_vqs={1, 2})) as host:
        vm = host.create_vm()

        def work(n: int) -> None:
            vcpu = vm.create_vcpu(n)
            vcpu.init({Feature.SVE})
            vcpu.finalize(Feature.VEC)
            for turn in range(ROUNDS):
                vcpu.set_one_reg(Z1, bytes([turn]) * 256)
                with vcpu.run() as guest:
                    guest.v[2] = bytes(16)
                vcpu.get_one_reg(Z1)

        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, range(4)))
        finally:
            sys.setswitchinterval(interval)
    replay(path)
    done = Counter((op["op"], op["vcpu"], len(op.get("guest", ""))) for op in recorded.parse(path) if "vcpu" in op)
    for n in range(4):
        assert (done["set", n, 0], done["run", n, 1], done["get", n, 0]) == (ROUNDS,) * 3


def test_a_file_that_cannot_be_written_fails_the_recording_and_no_call() -> None:
    def set_and_get() -> None:
        with record("/dev/full", Host(sve_vqs={1}, sme_vqs={1})) as host:
            vcpu = finalized(host)
            for n in range(200):
                vcpu.set_one_reg(Z1, bytes([n]) * 256)
            values.append(vcpu.get_one_reg(Z1)[0])

    values: list[int] = []
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        set_and_get()
    assert values == [199]


def test_short_buffers(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with record(path, Host(sve_vqs={1}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        vcpu.set_one_reg(Z1, b"\x11" * 16)
        refused(vcpu.set_one_reg, Z1, b"\x22" * 9)
        buffer = bytearray(20)
        refused(vcpu.get_one_reg_into, Z1, buffer)
        assert buffer == b"\x22" * 9 + bytes(11)
        refused(vcpu.get_one_reg_into, model.SVCR, bytearray(5))
        vcpu.get_one_reg_into(model.FPSR, bytearray(9))
    replay(path)
    set_short, get_short, sysreg, whole = recorded.parse(path)[-4:]
    fault = {"vcpu": 0, "ret": -1, "errno": "EFAULT"}
    z1 = {"id": "6080000000150020", **fault}
    assert set_short == {"op": "set_short", "avail": 9, "buf": "22" * 9, "copied": 9, **z1}
    assert get_short == {"op": "get_short", "avail": 20, "buf": "22" * 9 + "00" * 11, "copied": 20, **z1}
    assert sysreg == {
        "op": "get_short", "id": "603000000013da12", "avail": 5, "buf": "a5" * 5, "copied": 0, **fault
    }  # fmt: skip
    assert whole == {"op": "get", "vcpu": 0, "id": "60200000001000d4", "data": "00000000", "ret": 0}


def test_copied_is_said_of_faults_only(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={1})) as host:
        finalized(host).set_one_reg(Z1, b"\x11" * 99)
    set_short = recorded.parse(tmp_path / "file")[-1]
    assert (set_short["op"], set_short["avail"], set_short["ret"]) == ("set_short", 99, 0)
    assert "copied" not in set_short


def test_short_buffer_gets_what_it_gets_without_recording(tmp_path: Path) -> None:
    """Also bytes of a5, which a recording has for untouched ones."""
    results = []
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={1})) as recorded_host:
        for host in (Host(sve_vqs={1}, sme_vqs={1}), recorded_host):
            vcpu, buffer = finalized(host), bytearray(8)
            vcpu.set_one_reg(Z1, b"\xa5" * 16)
            refused(vcpu.get_one_reg_into, Z1, buffer)
            results.append(buffer)
    assert results == [b"\xa5" * 8] * 2


def test_a_recording_is_packed_where_its_name_says_so(tmp_path: Path) -> None:
    for name, unpacked in (("file.xz", lzma.decompress), ("file", bytes)):
        with record(tmp_path / name, Host()) as host:
            host.create_vm()
        header, create_vm = map(json.loads, unpacked((tmp_path / name).read_bytes()).splitlines())
        assert (header["format"], create_vm["op"]) == ("kvmsve-recording", "create_vm")


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["file.jsonl", "file.xz"])
def test_exception_in_the_block_leaves_no_file(tmp_path: Path, name: str, raised: type[BaseException]) -> None:
    def session() -> None:
        with record(tmp_path / name, Host(sve_vqs={1}, sme_vqs={1})) as host, finalized(host).run() as guest:
            guest.smstart()
            raise raised("enough")

    with pytest.raises(raised, match="enough"):
        session()
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_with_is_recorded_where_it_was(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1, 2}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        vcpu.run()
        vcpu.get_one_reg(Z1)
        vcpu.run()
    replay(tmp_path / "file")
    assert [op["op"] for op in recorded.parse(tmp_path / "file")[-3:]] == ["run", "get", "run"]


def test_guest_that_ends_in_an_exception_is_recorded(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1, 2}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        with suppress(IndexError), vcpu.run() as guest:
            guest.smstart(sm=True)
            _ = guest.z[32]
    replay(tmp_path / "file")
    assert recorded.parse(tmp_path / "file")[-1]["guest"] == [{"smstart": "sm"}]


def test_switch_of_nothing_is_a_use_of_fp(tmp_path: Path) -> None:
    """SVCR then has the bits that hardware has, in the replay too."""
    with record(tmp_path / "file", Host(sve_vqs={1, 2}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        vcpu.set_one_reg(model.SVCR, b"\xf2" + bytes(7))
        with vcpu.run() as guest:
            guest.smstop(sm=False, za=False)
        assert vcpu.get_one_reg(model.SVCR) == b"\x02" + bytes(7)
    replay(tmp_path / "file")


def test_what_another_vcpu_does_during_a_run_comes_after_its_start(tmp_path: Path) -> None:
    """The run fixes the ID registers of the VM (rfc-v2.md 1.4)."""
    with record(tmp_path / "file", Host(sve_vqs={1, 2}, sme_vqs={1})) as host:
        vm = host.create_vm()
        vcpus = [vm.create_vcpu(index) for index in range(2)]
        for vcpu in vcpus:
            vcpu.init({Feature.SVE, Feature.SME})
            vcpu.finalize(Feature.VEC)
        with vcpus[0].run() as guest:
            refused(vcpus[1].set_one_reg, model.ZFR0, bytes(8))
            guest.smstart()
    replay(tmp_path / "file")


def test_list_that_counts_more_than_it_writes_replays(tmp_path: Path) -> None:
    """v10, of a vCPU with SME only in streaming mode (abi-revisions.md 7, 8): Z, P and FFR are counted only."""
    with record(tmp_path / "file", Host(sme_vqs={1}, fa64=True, abi=V10)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init({Feature.SME})
        vcpu.finalize(Feature.VEC)
        vcpu.set_one_reg(model.SVCR, b"\1" + bytes(7))
        ids = vcpu.get_reg_list()
    replay(tmp_path / "file")
    op = recorded.parse(tmp_path / "file")[-1]
    assert (op["unwritten"], op["n_out"]) == (49, len(ids) + 49)


def test_big_endian_host_replays(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(big_endian=True)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init(set())
        with vcpu.run() as guest:
            guest.v[3] = bytes(range(16))
        assert vcpu.get_one_reg(V3) == bytes(range(16))[::-1]
    replay(tmp_path / "file")


UNDEFINED = {
    "vl": [lambda guest: guest.vl, lambda guest: guest.z[0], lambda guest: guest.p[0], lambda guest: guest.narrow(16)],
    "za": [lambda guest: guest.za[3]],
    "ffr": [lambda guest: guest.ffr],
    "zt0": [lambda guest: guest.zt0],
    "svl": [lambda guest: guest.svl],
    "svcr": [lambda guest: guest.smstart(), lambda guest: guest.svcr],
    "zcr": [lambda guest: guest.zcr],
    "tpidr2": [lambda guest: guest.tpidr2],
}


@pytest.mark.parametrize("what", UNDEFINED)
def test_undefined_instruction_is_a_step(tmp_path: Path, what: str) -> None:
    """Of a guest without vectors, and a guest that has them replays to a difference."""
    for call in UNDEFINED[what]:
        with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={1}, sme2=True)) as host:
            vcpu = host.create_vm().create_vcpu(0)
            vcpu.init(set())
            with vcpu.run() as guest, pytest.raises(GuestUndefined):
                call(guest)
        replay(tmp_path / "file")
        *others, run = recorded.parse(tmp_path / "file")
        assert run["guest"] == [{"undef": what}]
        run["guest"].insert(0, {"smstart": "za"})
        features = {"op": "vcpu_init", "features": [0x110, *[0] * 6]}
        others[-1].update(features)
        finalize = {"op": "finalize", "vcpu": 0, "feature": 4, "ret": 0}
        recorded.write(tmp_path / "file", [*others, finalize, run])
        if what != "zt0":  # which SMCR_EL1 would have to allow
            with pytest.raises(Difference, match="expected UNDEFINED, actual an access"):
                replay(tmp_path / "file")


def test_svl_is_a_step(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={1, 2})) as host, finalized(host).run() as guest:
        guest.smcr = 1
        assert guest.svl == 32
    replay(tmp_path / "file")
    assert recorded.parse(tmp_path / "file")[-1]["guest"] == [{"msr": "smcr", "value": "1"}, {"rdsvl": 32}]


def test_failing_allocations_and_what_the_kernel_holds(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={2}, fpmr=True, abi=V10)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init({Feature.SVE, Feature.SME})
        vcpu.fail_allocations()
        refused(vcpu.finalize, Feature.VEC)
        vcpu.finalize(Feature.VEC)
        vcpu.set_one_reg(model.SVCR, b"\2" + bytes(7))
        vcpu.set_one_reg(model.FPSR, b"\x1f\0\0\0")
        vcpu.set_one_reg(model.FPCR, b"\0\0\0\1")
        vcpu.set_one_reg(model_by_mode.FPMR, b"\x49" + bytes(7))
        vcpu.look()
    replay(tmp_path / "file")
    made = recorded.parse(tmp_path / "file")
    assert made[4] == {"op": "fail_allocations", "vcpu": 0, "n": 1}
    assert made[5] == {"op": "finalize", "vcpu": 0, "feature": 4, "ret": -1, "errno": "ENOMEM"}
    held = made[-1]
    assert held == {
        "op": "held", "vcpu": 0, "fp_state": "FREE", "max_vq": 2, "svcr": 2, "fpmr": 0x49, "fpsr": 31,
        "fpcr": 0x1000000, "sve_state": "00" * 1092, "sme_state": "00" * 1024, "vregs": "00" * 512,
    }  # fmt: skip
    wrong = {"max_vq": 4, "fp_state": "USER_OWNED", "sve_state": "00" * 1091 + "01", "vregs": "", "svcr": 1, "fpsr": 0}
    for what, value in wrong.items():
        recorded.write(tmp_path / "file", [*made[:-1], held | {what: value}])
        with pytest.raises(Difference, match=what):
            replay(tmp_path / "file")


@pytest.mark.parametrize(
    ("features", "crash"),
    [(set(), lambda vcpu: vcpu.run()), ({Feature.SME}, lambda vcpu: vcpu.get_one_reg(model.SMIDR))],
)
def test_crash_of_the_host(tmp_path: Path, features: set[Feature], crash: Callable[[Any], Any]) -> None:
    """rfc-v2.md Q6 and Q27."""
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={2}, abi=RFC_V2_R1)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init(features)
        with pytest.raises(HostOops):
            crash(vcpu)
    replay(tmp_path / "file")
    *others, last = recorded.parse(tmp_path / "file")
    assert (last["ret"], last["crash"]) == (-1, True)
    changed = {name: value for name, value in last.items() if name != "crash"} | {"errno": "EINVAL"}
    recorded.write(tmp_path / "file", [*others, changed])
    with pytest.raises(Difference, match="expected EINVAL, actual a crash of the host"):
        replay(tmp_path / "file")


@pytest.mark.parametrize(
    "call",
    [
        lambda vm, vcpu: vm.create_vcpu(1 << 40),
        lambda vm, vcpu: vcpu.finalize(1 << 40),
        lambda vm, vcpu: vcpu.get_reg_list(-1),
        lambda vm, vcpu: vcpu.get_one_reg(1 << 64),
        lambda vm, vcpu: vcpu.get_one_reg(-1),
        lambda vm, vcpu: vm.check_extension(1 << 31),
        lambda vm, vcpu: vm.check_extension(-1),
    ],
)
def test_whatever_is_recorded_can_be_read(tmp_path: Path, call: Callable[..., Any]) -> None:
    """Numbers that no ioctl could have been given do not make a file that no reader takes."""
    with record(tmp_path / "file", Host(sve_vqs={1}, sme_vqs={1})) as host:
        vm, vcpu = host.create_vm(), finalized(host)
        with suppress(KvmError, ValueError, OverflowError):
            call(vm, vcpu)
    replay(tmp_path / "file")


def test_a_row_of_za_is_written_as_a_row(tmp_path: Path) -> None:
    """A guest that fills ZA row by row makes a file in proportion to its bytes, not to their square."""
    host = Host(sve_vqs={1}, sme_vqs={1, 2, 4, 8, 16})
    with record(tmp_path / "file", host) as recorder, finalized(recorder).run() as guest:
        guest.smcr = 15
        guest.smstart(za=True)
        for row in range(256):
            guest.za[row] = bytes([row]) * 256
        assert guest.za[7] == bytes([7]) * 256
    *_, run = recorded.parse(tmp_path / "file")
    assert run["guest"][2] == {"write": "za0", "vl": 256, "data": "00" * 256}
    assert run["guest"][-1] == {"read": "za7", "vl": 256, "data": "07" * 256}
    assert (tmp_path / "file").stat().st_size < 3 * 256 * 256
    rows = replay(tmp_path / "file").vcpus[0].sme_state
    assert [rows[256 * row] for row in range(256)] == list(range(256))


def test_a_run_of_many_steps_is_read_again(tmp_path: Path) -> None:
    """Nothing that is written is refused: here a line of more than 16 MB."""
    host = Host(sve_vqs={1}, sme_vqs={1, 16})
    with record(tmp_path / "file", host) as recorder, finalized(recorder).run() as guest:
        guest.smcr = 15
        guest.smstart()
        for _ in range(1100):
            for n in range(32):
                guest.z[n] = bytes(256)
    assert (tmp_path / "file").stat().st_size > 16 << 20
    replay(tmp_path / "file")
