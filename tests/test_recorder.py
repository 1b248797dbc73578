"""The file that a recorded session leaves: its lines, when there is one, and that it replays."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import model
import pytest
from recorded import Op

from kvmsve import Feature, GuestUndefined, Host, KvmError, Vcpu, record
from kvmsve.recording import Recording
from kvmsve.replay import Replay

Z1, V3 = model.Z_BASE | 1 << 5, model.CORE_V[3]


def lines(path: Path) -> list[Op]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def replay(path: Path) -> None:
    recording = Recording(path)
    replayed = Replay(recording)
    for line, op in recording:
        replayed.play(line, op)


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
        {"read": "z7", "vl": 32, "data": v7 + "00" * 16}, {"write": "p0", "vl": 32, "data": "01020304"},
        {"rdvl": 32}, {"mrs": "fpsr", "value": "1f"},
    ]  # fmt: skip
    header, *ops = lines(path)
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
    set_short, get_short, sysreg, whole = lines(path)[-4:]
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
    set_short = lines(tmp_path / "file")[-1]
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
    assert [op["op"] for op in lines(tmp_path / "file")[-3:]] == ["run", "get", "run"]


def test_guest_that_ends_in_an_exception_is_recorded(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(sve_vqs={1, 2}, sme_vqs={1})) as host:
        vcpu = finalized(host)
        with suppress(IndexError), vcpu.run() as guest:
            guest.smstart(sm=True)
            _ = guest.z[32]
    replay(tmp_path / "file")
    assert lines(tmp_path / "file")[-1]["guest"] == [{"smstart": "sm"}]


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


def test_big_endian_host_replays(tmp_path: Path) -> None:
    with record(tmp_path / "file", Host(big_endian=True)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init(set())
        with vcpu.run() as guest:
            guest.v[3] = bytes(range(16))
        assert vcpu.get_one_reg(V3) == bytes(range(16))[::-1]
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
