"""A session with every operation and guest step, on every revision: recorded or not it has the same results."""

from __future__ import annotations

import errno
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model
import pytest

from kvmsve import Feature, GuestUndefined, Host, KvmError, abi, record
from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay

Z0, Z1, P2, V3 = model.Z_BASE, model.Z_BASE | 1 << 5, model.P_BASE | 2 << 5, model.CORE_V[3]
SME = ["rfc-v2", "rfc-v2-r123", "rfc-v2-r1"]
MACHINES = [
    *((name, {1, 2}, {1, 2, 4}) for name in SME),
    *((name, {1, 2, 3, 4}, {1, 2}) for name in SME),
    *((name, set(), {1, 2}) for name in SME[:2]),
    ("rfc-v2-posted", {1, 2}, set()),
    ("mainline-6.1", {1, 2}, set()),
    ("mainline-7.3", {1, 2, 4}, {1, 2}),
    ("mainline-6.12", set(), set()),
]


def replay(path: Path) -> None:
    recording = Recording(path)
    replayed = Replay(recording)
    for line, op in recording:
        replayed.play(line, op)


def machine(name: str, sve_vqs: set[int], sme_vqs: set[int]) -> Host:
    return Host(sve_vqs=sve_vqs, sme_vqs=sme_vqs, sme2=True, fa64=True, abi=abi(name))


def outcome(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        result = call(*arguments, **named)
        return "a run" if hasattr(result, "__enter__") else result
    except KvmError as error:
        return errno.errorcode[error.errno], error.n
    except GuestUndefined:
        return "undefined"


def session(host: Any, features: set[Feature]) -> list[Any]:
    """Every operation, on two vCPUs in turn; what came out."""
    vm = host.create_vm()
    results = [outcome(host.check_extension, cap) for cap in (70, 170, 231)] + [vm.check_extension(170)]
    vcpus = [vm.create_vcpu(index) for index in (0, 5)]
    results += [outcome(vm.create_vcpu, index) for index in (5, 512, -1)]
    for vcpu in vcpus:
        results += [outcome(call) for call in (vcpu.get_reg_list, vcpu.run, lambda v=vcpu: v.get_one_reg(Z0))]
        results += [outcome(vcpu.init, features, 6), outcome(vcpu.init, [0, 1, 0, 0, 0, 0, 0])]
        results += [outcome(vcpu.init, features), outcome(vcpu.run)]
        results += [outcome(vcpu.set_one_reg, model.VLS_ID[0], b"\1" + bytes(63)), outcome(vcpu.finalize, 7)]
        results += [outcome(vcpu.finalize, Feature.VEC), outcome(vcpu.finalize, Feature.VEC)]
    for vcpu in vcpus:
        ids = [Z0, P2, model.FFR_ID, V3, model.FPSR, model.SVCR, model.ZA_BASE, model.ZT0_ID, model.ZCR, 0, 1 << 63]
        for reg_id in ids:
            data = bytes(n % 7 + 1 for n in range(256)) if reg_id != model.SVCR else b"\1" + bytes(7)
            results += [outcome(vcpu.set_one_reg, reg_id, data), outcome(vcpu.get_one_reg, reg_id)]
        results += [outcome(vcpu.get_reg_list), outcome(vcpu.get_reg_list, 3), outcome(vcpu.run, immediate_exit=True)]
        results += [short(vcpu, reg_id, size) for reg_id in ids[:6] for size in (0, 1, 3, 16, 31, 64, 255, 256)]
        outcome(vcpu.run)
        results += [bytes(vcpu.sve_state), bytes(vcpu.vregs), bytes(vcpu.sme_state), vcpu.fp_state, vcpu.svcr]
    for vcpu in (*vcpus, vcpus[0]):
        with vcpu.run() as guest:
            results += [outcome(vcpus[1 - vcpus.index(vcpu)].get_one_reg, Z1)]
            results += guest_steps(guest)
        results += [outcome(vcpu.get_one_reg, reg_id) for reg_id in (Z0, Z1, P2, V3, model.FPSR, model.SVCR)]
        results += [bytes(vcpu.sve_state), bytes(vcpu.vregs), bytes(vcpu.sme_state), vcpu.fp_state]
    return results


def short(vcpu: Any, reg_id: int, size: int) -> tuple[Any, ...]:
    """A get into a buffer of this size, then a set from one: outcomes, and what they leave."""
    buffer = bytearray(b"\x5c" * size)
    got = outcome(vcpu.get_one_reg_into, reg_id, memoryview(buffer))
    return got, bytes(buffer), outcome(vcpu.set_one_reg, reg_id, bytes(range(size))), outcome(vcpu.get_one_reg, reg_id)


def guest_steps(guest: Any) -> list[Any]:
    """Everything that a guest can do; what it read."""
    results = []

    def act(name: str, *value: Any) -> None:
        results.append(outcome(lambda: setattr(guest, name, *value) if value else getattr(guest, name)))

    def turn_over(read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        """A register's bytes become others, as many as there are."""
        results.append(outcome(read))
        size = len(results[-1]) if isinstance(results[-1], bytes) else 16
        results.append(outcome(write, bytes(size + k & 0xFF for k in range(size))))

    act("cpacr", 0x3330000)
    for switch in ({}, {"sm": True}, {"za": True}, {"sm": True, "za": True}):
        for name, value in (("zcr", 1), ("smcr", 0xC0000001), ("fpsr", 0x1F), ("fpcr", 0x7C00000), ("cpacr", 1 << 32)):
            act(name, value)
            act(name)
        for name in ("svcr", "vl", "svl", "tpidr2"):
            act(name)
        for name in ("ffr", "zt0"):
            turn_over(lambda name=name: getattr(guest, name), lambda data, name=name: setattr(guest, name, data))
        for bank, n in ((guest.z, 1), (guest.p, 2), (guest.v, 3), (guest.za, 4)):
            turn_over(lambda bank=bank, n=n: bank[n], lambda data, bank=bank, n=n: bank.__setitem__(n, data))
        results.append(outcome(lambda: guest.narrow(16)))
        results.append(outcome(lambda: guest.smstop(sm=True)))
        results.append(outcome(lambda switch=switch: guest.smstart(**switch)))
    act("svcr", 0)
    results.append(outcome(guest.smstop))
    return results


@pytest.mark.parametrize(("name", "sve_vqs", "sme_vqs"), MACHINES)
def test_recorded_session_has_the_same_results_and_replays(
    tmp_path: Path, name: str, sve_vqs: set[int], sme_vqs: set[int]
) -> None:
    features = {Feature.SVE} if sve_vqs else set()
    if sme_vqs and name.startswith("rfc"):
        features |= {Feature.SME}
    expected = session(machine(name, sve_vqs, sme_vqs), features)
    with record(tmp_path / "file.xz", machine(name, sve_vqs, sme_vqs), "a test") as host:
        assert session(host, features) == expected
    replay(tmp_path / "file.xz")
    header, *ops = map(json.loads, lzma.decompress((tmp_path / "file.xz").read_bytes()).splitlines())
    assert (header["format"], header["version"], header["abi"]) == ("kvmsve-recording", 1, name)
    assert header["source"] == "a test"
    assert (header["host"]["sve_vqs"], header["host"]["sme_vqs"]) == (sorted(sve_vqs), sorted(sme_vqs))
    kinds = {"check_extension", "create_vm", "create_vcpu", "vcpu_init", "finalize", "get", "set", "get_short"}
    assert {op["op"] for op in ops} == {*kinds, "set_short", "reg_list", "run"}
    assert [op["vcpu"] for op in ops if op["op"] == "run" and op.get("guest")] == [0, 1, 0]
