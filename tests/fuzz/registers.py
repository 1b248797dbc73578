"""Calls on vCPUs: any ID, any buffer, any number, in any order, in every revision; and hosts of any arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import atheris

import kvmsve
from kvmsve import REVISIONS, Feature, Host, Vcpu
from kvmsve.facts import regid

from .arguments import NOTHINGS, Pair, Pick, buffer, content, number, register_id, writable
from .guests import GUEST_ACTS
from .machines import NAMES, Machines, counts, is_right, outcome

LONGEST = 80
WORDS: tuple[bytes, ...] = ()


def execute(data: bytes) -> None:
    pick = Pick(data)
    if pick.ConsumeIntInRange(0, 31) == 0:
        _build_host(pick)
        return
    machines = Machines(pick)
    _prepare(machines)
    while pick.remaining_bytes() > 1 and machines.vcpus:
        pair = pick.PickValueInList(machines.vcpus)
        act = pick.PickValueInList(ACTS)
        if act(machines, pair) == "HostOops":
            return
    for pair in machines.vcpus:
        _compare(pair)
    if machines.vcpus and pick.ConsumeIntInRange(0, 31) == 31:
        _save(machines, machines.vcpus[0])
    counts["programs to their end"] += 1


def _prepare(machines: Machines) -> None:
    """Mostly a vCPU with vectors, as a VMM makes one; else only the first steps of that."""
    pick = machines.pick
    if pick.ConsumeIntInRange(0, 7) == 0:
        _enable_cap(machines)
    _create(machines, 0)
    stage = pick.ConsumeIntInRange(0, 7)
    if stage > 0:
        features = {Feature.SVE} if machines.host.sve_vqs and pick.ConsumeIntInRange(0, 7) else set()
        if machines.host.has_sme and pick.ConsumeIntInRange(0, 7):
            features.add(Feature.SME)
        machines.both([vcpu.init for vcpu in machines.vcpus[0]], (features, features))
    if stage > 1:
        machines.both([vcpu.finalize for vcpu in machines.vcpus[0]], (Feature.VEC, 4))


def _compare(pair: tuple[Vcpu, Vcpu]) -> None:
    """What both kernels hold is the same, and as long as it should be."""
    one, other = pair
    assert one.sve_state.tobytes() == other.sve_state.tobytes()
    assert one.sme_state.tobytes() == other.sme_state.tobytes()
    assert one.vregs.tobytes() == other.vregs.tobytes()
    assert one.sysregs == other.sysregs
    assert (one.fp_state, one.fpsr, one.fpcr, one.lengths) == (other.fp_state, other.fpsr, other.fpcr, other.lengths)
    assert len(one.sve_state) == (546 * one.max_vq if one.finalized else 0)
    assert all(type(value) is int and 0 <= value < 1 << 64 for value in other.sysregs.values())


def _create(machines: Machines, index: int | None = None) -> str:
    arguments = number(machines.pick, machines.pick.ConsumeIntInRange(0, 3)) if index is None else (index, index)
    made: list[Vcpu] = []

    def create(vm: kvmsve.Vm) -> Callable[[Any], str]:
        return lambda index: made.append(vm.create_vcpu(index)) or "a vCPU"

    end = machines.both([create(vm) for vm in machines.vms], arguments)
    if len(made) == 2:
        machines.vcpus.append((made[0], made[1]))
    return end[0]


def _enable_cap(machines: Machines, pair: object = None) -> str:
    cap = number(machines.pick, 239)
    return machines.ioctl([vm.enable_cap for vm in machines.vms], cap)


def _check_extension(machines: Machines, pair: object) -> str:
    return machines.ioctl([vm.check_extension for vm in machines.vms], number(machines.pick, 170))


def _another_vcpu(machines: Machines, pair: object) -> str:
    return _create(machines) if len(machines.vcpus) < 3 else ""


def _init(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    if pick.ConsumeBool():
        numbers = [number(pick, pick.ConsumeIntInRange(0, 12)) for _ in range(pick.ConsumeIntInRange(0, 3))]
        try:
            features = {one for one, _ in numbers}, {other for _, other in numbers}
        except TypeError:  # what cannot be in a set
            return ""
    else:
        words = [number(pick, pick.ConsumeUInt(2))] + [number(pick, 0) for _ in range(6)]
        features = [one for one, _ in words], tuple(other for _, other in words)
    target = number(pick, 5)
    return machines.ioctl([vcpu.init for vcpu in pair], features, target)


def _finalize(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    feature: Pair = (Feature.SME, Feature.SME) if machines.pick.ConsumeBool() else number(machines.pick, 4)
    return machines.ioctl([vcpu.finalize for vcpu in pair], feature)


def _get(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    reg_id = register_id(machines.pick)
    end, value = machines.both([vcpu.get_one_reg for vcpu in pair], reg_id)
    assert end != "wrong argument" or not is_right(reg_id[0])
    assert end != "returned" or len(value) == regid.size_bytes(int(reg_id[0]))
    return end


def _get_into(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    reg_id = register_id(pick)
    size = regid.size_bytes(reg_id[0]) if isinstance(reg_id[0], int) else 8
    data = content(pick, size) if size <= 8192 else b""
    if not pick.ConsumeIntInRange(0, 15):
        nothing = pick.PickValueInList([data, None, "text", memoryview(bytearray(data))[::2], memoryview(data), [0]])
        if not isinstance(nothing, bytes | memoryview) or len(nothing) > 1:
            return machines.both([vcpu.get_one_reg_into for vcpu in pair], reg_id, (nothing, nothing))[0]
    buffers = bytearray(data), writable(pick, data)
    end = machines.both([vcpu.get_one_reg_into for vcpu in pair], reg_id, buffers)
    held = [bytes(memoryview(buffer).cast("B")) for buffer in buffers]
    assert held[0] == held[1]
    assert len(held[0]) == len(data)
    if end[0] == "returned" and not pair[0].is_written_by_get(reg_id[0]):
        assert held[0][size:] == data[size:], "written beyond the register"
        assert outcome(pair[0].get_one_reg, reg_id[0]) == ("returned", held[0][:size])
    return end[0]


def _set(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    reg_id = register_id(pick)
    size = regid.size_bytes(reg_id[0]) if isinstance(reg_id[0], int) else 8
    return machines.ioctl([vcpu.set_one_reg for vcpu in pair], reg_id, buffer(pick, content(pick, min(size, 8192))))


def _reg_list(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    n = (None, None) if machines.pick.ConsumeBool() else number(machines.pick, machines.pick.ConsumeUInt(2))
    end = machines.both([vcpu.get_reg_list for vcpu in pair], n)
    if end[0] == "returned":
        reg_ids = end[1]
        assert len(set(reg_ids)) == len(reg_ids)
        for reg_id in reg_ids[:: max(1, len(reg_ids) // 8)]:
            got = outcome(pair[0].get_one_reg, reg_id)
            assert outcome(pair[1].get_one_reg, reg_id) == got
    return end[0]


def _fail(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    n = machines.pick.ConsumeIntInRange(0, 2)
    for vcpu in pair:
        vcpu.fail_allocations(n)
    return ""


def _save(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    """Both are saved, and what was saved goes into a vCPU of a new VM."""
    end = machines.both([lambda vcpu=vcpu: kvmsve.save(vcpu) for vcpu in pair])
    if end[0] != "returned":
        return end[0]
    fresh = [machines.host.create_vm().create_vcpu(0) for _ in pair]
    return machines.both([lambda vcpu=vcpu: kvmsve.restore(vcpu, end[1]) for vcpu in fresh])[0]


def _run(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    if not pick.ConsumeIntInRange(0, 7):
        return machines.both([lambda vcpu=vcpu: vcpu.run(immediate_exit=True) for vcpu in pair])[0]
    runs: list[Any] = []

    def start(vcpu: Vcpu) -> Callable[[], str]:
        return lambda: runs.append(vcpu.run()) or "a run"

    end = machines.both([start(vcpu) for vcpu in pair])
    if len(runs) < 2:
        return end[0]
    if not pick.ConsumeIntInRange(0, 15):
        machines.both([vcpu.get_one_reg for vcpu in pair], (regid.FPSR, regid.FPSR))  # the guest has not begun
        assert machines.both([run.__enter__ for run in runs])[0] == "busy"
        return end[0]
    with runs[0] as one, runs[1] as other:
        for _ in range(pick.ConsumeIntInRange(0, 8)):
            pick.PickValueInList(GUEST_ACTS)(machines, (one, other))
        if not pick.ConsumeIntInRange(0, 15):
            act = pick.PickValueInList([_get, _get_into, _set, _reg_list, _init, _finalize, _run])
            assert act(machines, pair) in ("busy", "wrong argument", "")
    if not pick.ConsumeIntInRange(0, 15):
        machines.both([lambda guest=guest: guest.z[0] for guest in (one, other)])
    return end[0]


ACTS = [_get, _get, _get, _get_into, _get_into, _set, _set, _set, _set, _run, _run, _run, _reg_list, _init, _finalize,
        _enable_cap, _check_extension, _another_vcpu, _fail]  # fmt: skip


# Hosts


def _build_host(pick: Pick) -> None:
    """Of any arguments: TypeError or ValueError, or a host whose vCPU can be made and read."""
    words: dict[str, Any] = {}
    for name in ("sve_vqs", "sme_vqs", "features_offered"):
        if pick.ConsumeBool():
            words[name] = [number(pick, pick.ConsumeIntInRange(0, 17))[1] for _ in range(pick.ConsumeIntInRange(0, 3))]
        if not pick.ConsumeIntInRange(0, 15):
            words[name] = pick.PickValueInList(NOTHINGS)
    for name in ("sme2", "fa64", "fpmr", "big_endian"):
        words[name] = pick.ConsumeBool()
    if pick.ConsumeBool():
        words["id_regs"] = [(register_id(pick)[0], number(pick, pick.ConsumeUInt(8))[1])]
    words["abi"] = REVISIONS[pick.PickValueInList(NAMES)] if pick.ConsumeIntInRange(0, 15) else "v12"
    try:
        host = Host(**words)
    except (TypeError, ValueError):
        counts["hosts refused"] += 1
        return
    counts["hosts"] += 1
    vcpu = host.create_vm().create_vcpu(0)
    features = {4 for _ in host.sve_vqs} | {host.abi.sme_feature for _ in host.sme_vqs if host.abi.sme_feature}
    for call, argument in ((vcpu.init, features), (vcpu.finalize, 4)):
        assert outcome(call, argument)[0] in ("returned", "EINVAL", "ENOENT", "EIO", "ENOEXEC")
    for reg_id in (*host.id_regs, regid.zreg_id(0), regid.SVCR):
        assert outcome(vcpu.get_one_reg, reg_id)[0] != "wrong argument"


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    return bytes(atheris.Mutate(data, longest))


def seeds() -> Iterable[bytes]:
    pick = Random(3)
    for size in (16, 24, 32, 48, 80):
        for _ in range(24):
            yield pick.randbytes(size)
