"""Calls on vCPUs: any ID, any buffer, any number, in any order, in every revision; and hosts of any arguments.

Each program runs on two machines alike. One gets plain bytes and ints; the other gets the same in whatever else has
their buffer or their value. Both must end in the same way, in one of those that the docstrings promise.
"""

from __future__ import annotations

import array
import ctypes
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from random import Random
from typing import Any

import atheris
import numpy as np

import kvmsve
from kvmsve import REVISIONS, Feature, Guest, GuestUndefined, Host, HostOops, KvmError, Vcpu, regid

LONGEST = 80
WORDS: tuple[bytes, ...] = ()
counts: Counter[str] = Counter()

Pick = atheris.FuzzedDataProvider
Pair = tuple[Any, Any]  # the same for one machine and for the other
Outcome = tuple[str, Any]

NAMES = list(REVISIONS)
SVE_SETS = [(), (1,), (1, 2), (1, 2, 4), (1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 4, 8, 16), (1, 3), (1, 16)]
SME_SETS = [(), (1,), (2,), (1, 2), (1, 2, 4), (4,), (1, 2, 4, 8), (16,), (2, 8)]
IDS = [
    *regid.NAMES, regid.SME_VLS_FFFF, regid.SME_VLS_FFFE,
    *(regid.zreg_id(0, n) for n in (1, 31)), *(regid.preg_id(16, n) for n in (1, 31)),
    *(regid.za_row_id(row, n) for row in (0, 1, 15, 16, 31, 32, 63, 64, 127, 255, 256) for n in (0, 1)),
    regid.ZREG_MAX, regid.ZREG_MAX + 1, regid.PREG_MAX + 1, regid.ARM64, regid.ARM64 | regid.U32 | regid.DEMUX,
    regid.ARM64 | regid.U64 | regid.FW, regid.ARM64 | regid.U64 | regid.FW_FEAT_BMAP,
]  # fmt: skip
KNOWN_IDS = frozenset(IDS)
NUMBERS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 31, 32, 64, 239, 255, 256, 511, 512, 1 << 31, (1 << 32) - 1, 1 << 32,
           1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200, -1, -2, -(1 << 31), -(1 << 63),
           -(1 << 64)]  # fmt: skip
NOTHINGS = [None, "1", "", 1.0, 0.5, float("nan"), (1,), (), {}, {1: 2}, object(), 1j, np.zeros(2), np.zeros(())]
GUEST_CONTROLS = ["svcr", "zcr", "smcr", "fpsr", "fpcr", "cpacr", "fpmr", "tpidr2", "smidr", "smpri", "vl", "svl"]
SIZES = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 512, 8192]


class Whole:
    """A number by __index__ alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


# Arguments


def _number(pick: Pick, usual: int | None = None) -> Pair:
    """A number, the same for both machines but for its type; rarely nothing of the kind."""
    kind = pick.ConsumeIntInRange(0, 31)
    if kind == 0:
        nothing = pick.PickValueInList(NOTHINGS)
        return nothing, nothing
    if usual is None or kind < 4:
        usual = pick.PickValueInList(NUMBERS) if kind % 2 else pick.ConsumeUInt(8)
    return usual, _other_number(pick, usual)


def _other_number(pick: Pick, value: int) -> Any:
    for fits, dtype in (
        (range(2), bool),
        (range(1 << 63), np.int64),
        (range(1 << 64), np.uint64),
        (range(256), np.uint8),
    ):
        if value in fits and not pick.ConsumeIntInRange(0, 3):
            return dtype(value)
    return Whole(value)


def _id(pick: Pick) -> Pair:
    reg_id = pick.PickValueInList(IDS)
    match pick.ConsumeIntInRange(0, 7):
        case 0:
            reg_id ^= 1 << pick.ConsumeIntInRange(0, 63)
        case 1:
            reg_id = reg_id & ~regid.SIZE_MASK | pick.ConsumeIntInRange(0, 15) << regid.SIZE_SHIFT
        case 2:
            reg_id = reg_id & ~0xFFFF | pick.ConsumeUInt(2)
    return _number(pick, reg_id)


def _data(pick: Pick, size: int) -> bytes:
    """Bytes of this size, or of another."""
    if pick.ConsumeIntInRange(0, 3) == 0:
        size = pick.PickValueInList(SIZES)
    few = pick.ConsumeBytes(pick.ConsumeIntInRange(0, 8)) or b"\0"
    return (few * (size // len(few) + 1))[:size]


def _buffer(pick: Pick, data: bytes) -> Pair:
    """These bytes, and something else that holds them; rarely nothing that has a buffer."""
    if pick.ConsumeIntInRange(0, 31) == 0:
        nothing = pick.PickValueInList(
            [None, "text", 5.5, (1, 2), object(), memoryview(b"abcd")[::2], np.zeros((4, 4))[::2]]
        )
        return nothing, nothing
    return data, _writable(pick, data) if pick.ConsumeBool() else memoryview(data)


def _writable(pick: Pick, data: bytes) -> Any:
    """A buffer of some type and shape, with these bytes in it, that can be written to."""
    kinds: list[Callable[[], Any]] = [
        lambda: bytearray(data),
        lambda: array.array("B", data),
        lambda: np.frombuffer(data, np.uint8).copy(),
        lambda: (ctypes.c_uint8 * len(data)).from_buffer_copy(data),
        lambda: memoryview(bytearray(data)),
        lambda: memoryview(bytearray(b"\0" + data + b"\0"))[1:-1],
    ]
    if len(data) % 8 == 0 and data:
        kinds += [
            lambda: array.array("d", data),
            lambda: np.frombuffer(data, np.uint64).copy().reshape(-1, 1),
            lambda: memoryview(bytearray(data)).cast("Q"),
            lambda: np.frombuffer(data, "c8").copy().reshape(1, -1),
            lambda: np.frombuffer(data, "M8[s]").copy().view("u8"),
            lambda: np.frombuffer(data, "u1,u1,u2,u4").copy().view(np.uint8),
        ]
    return pick.PickValueInList(kinds)()


# Outcomes

WHILE_BUSY = "KVM_RUN holds the vCPU"


def outcome(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """How a call ends. Anything but a documented error comes through."""
    try:
        return "returned", call(*arguments)
    except KvmError as error:
        return error.symbol, error.strerror
    except (HostOops, GuestUndefined) as end:
        return type(end).__name__, str(end)
    except (TypeError, ValueError, IndexError):
        return "wrong argument", None
    except RuntimeError as error:
        assert WHILE_BUSY in str(error) or "has ended" in str(error), error
        return "busy", str(error)


class Machines:
    """Two machines alike, and what both have been asked."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.host = _host(
            pick.PickValueInList(NAMES), pick.PickValueInList(SVE_SETS), pick.PickValueInList(SME_SETS),
            pick.ConsumeIntInRange(0, 15),
        )  # fmt: skip
        self.vms = [self.host.create_vm() for _ in range(2)]
        self.vcpus: list[tuple[Vcpu, Vcpu]] = []

    def ioctl(self, calls: Iterable[Callable[..., Any]], *arguments: Pair) -> str:
        """How a call on either machine ends; never for its arguments if they are right."""
        end = self.both(calls, *arguments)[0]
        if end == "wrong argument":
            assert not all(_is_right(pair[0]) for pair in arguments), f"refused: {arguments}"
        return end

    def both(self, calls: Iterable[Callable[..., Any]], *arguments: Pair) -> Outcome:
        """The outcome of a call on either machine, which is the same."""
        ends = [outcome(call, *(pair[side] for pair in arguments)) for side, call in enumerate(calls)]
        assert ends[0] == ends[1], f"{ends[0]} and {ends[1]} of {arguments}"
        counts[ends[0][0] if ends[0][0] in COUNTED else "refused"] += 1
        return ends[0]


COUNTED = {"returned", "wrong argument", "HostOops", "GuestUndefined", "busy"}


def _is_right(argument: Any) -> bool:
    """Surely what any ioctl takes there, if only to refuse it."""
    if isinstance(argument, set | list):
        return all(type(bit) is int and bit in range(224) for bit in argument)
    if type(argument) is int:
        return argument in range(1 << 31) or argument in KNOWN_IDS
    return isinstance(argument, bytes | bytearray)


@cache
def _host(name: str, sve_vqs: tuple[int, ...], sme_vqs: tuple[int, ...], flags: int) -> Host:
    return Host(
        abi=REVISIONS[name], sve_vqs=sve_vqs, sme_vqs=sme_vqs,
        sme2=bool(flags & 1), fa64=bool(flags & 2), fpmr=bool(flags & 4), big_endian=bool(flags & 8),
    )  # fmt: skip


# A program


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
    arguments = _number(machines.pick, machines.pick.ConsumeIntInRange(0, 3)) if index is None else (index, index)
    made: list[Vcpu] = []

    def create(vm: kvmsve.Vm) -> Callable[[Any], str]:
        return lambda index: made.append(vm.create_vcpu(index)) or "a vCPU"

    end = machines.both([create(vm) for vm in machines.vms], arguments)
    if len(made) == 2:
        machines.vcpus.append((made[0], made[1]))
    return end[0]


def _enable_cap(machines: Machines, pair: object = None) -> str:
    cap = _number(machines.pick, 239)
    return machines.ioctl([vm.enable_cap for vm in machines.vms], cap)


def _check_extension(machines: Machines, pair: object) -> str:
    return machines.ioctl([vm.check_extension for vm in machines.vms], _number(machines.pick, 170))


def _another_vcpu(machines: Machines, pair: object) -> str:
    return _create(machines) if len(machines.vcpus) < 3 else ""


def _init(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    if pick.ConsumeBool():
        numbers = [_number(pick, pick.ConsumeIntInRange(0, 12)) for _ in range(pick.ConsumeIntInRange(0, 3))]
        try:
            features = {one for one, _ in numbers}, {other for _, other in numbers}
        except TypeError:  # what cannot be in a set
            return ""
    else:
        words = [_number(pick, pick.ConsumeUInt(2))] + [_number(pick, 0) for _ in range(6)]
        features = [one for one, _ in words], tuple(other for _, other in words)
    target = _number(pick, 5)
    return machines.ioctl([vcpu.init for vcpu in pair], features, target)


def _finalize(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    feature: Pair = (Feature.SME, Feature.SME) if machines.pick.ConsumeBool() else _number(machines.pick, 4)
    return machines.ioctl([vcpu.finalize for vcpu in pair], feature)


def _get(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    reg_id = _id(machines.pick)
    end, value = machines.both([vcpu.get_one_reg for vcpu in pair], reg_id)
    assert end != "wrong argument" or not _is_right(reg_id[0])
    assert end != "returned" or len(value) == regid.size_bytes(int(reg_id[0]))
    return end


def _get_into(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    pick = machines.pick
    reg_id = _id(pick)
    size = regid.size_bytes(reg_id[0]) if isinstance(reg_id[0], int) else 8
    data = _data(pick, size) if size <= 8192 else b""
    if not pick.ConsumeIntInRange(0, 15):
        nothing = pick.PickValueInList([data, None, "text", memoryview(bytearray(data))[::2], memoryview(data), [0]])
        if not isinstance(nothing, bytes | memoryview) or len(nothing) > 1:
            return machines.both([vcpu.get_one_reg_into for vcpu in pair], reg_id, (nothing, nothing))[0]
    buffers = bytearray(data), _writable(pick, data)
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
    reg_id = _id(pick)
    size = regid.size_bytes(reg_id[0]) if isinstance(reg_id[0], int) else 8
    return machines.ioctl([vcpu.set_one_reg for vcpu in pair], reg_id, _buffer(pick, _data(pick, min(size, 8192))))


def _reg_list(machines: Machines, pair: tuple[Vcpu, Vcpu]) -> str:
    n = (None, None) if machines.pick.ConsumeBool() else _number(machines.pick, machines.pick.ConsumeUInt(2))
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


# A guest


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


Guests = tuple[Guest, Guest]


def _read_control(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(GUEST_CONTROLS)
    return machines.both([lambda guest=guest: getattr(guest, name) for guest in guests])[0]


def _write_control(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(GUEST_CONTROLS[:7])
    value = _number(machines.pick, machines.pick.PickValueInList([0, 1, 2, 3, 15, 0x8000000F, 0x4000000F, 0xC0000003]))
    return machines.both([lambda value, guest=guest: setattr(guest, name, value) for guest in guests], value)[0]


def _switch(machines: Machines, guests: Guests) -> str:
    name = machines.pick.PickValueInList(["smstart", "smstop"])
    modes = machines.pick.PickValueInList([{}, {"sm": True}, {"za": True}, {"sm": True, "za": True}, {"sm": False}])
    return machines.both([lambda guest=guest: getattr(guest, name)(**modes) for guest in guests])[0]


def _narrow(machines: Machines, guests: Guests) -> str:
    vl = _number(machines.pick, 16 * machines.pick.ConsumeIntInRange(0, 17))
    return machines.both([guest.narrow for guest in guests], vl)[0]


def _read_bank(machines: Machines, guests: Guests) -> str:
    bank = machines.pick.PickValueInList(["z", "p", "v", "za"])
    n = _number(machines.pick, machines.pick.ConsumeIntInRange(0, 35))
    return machines.both([getattr(guest, bank).__getitem__ for guest in guests], n)[0]


def _write_bank(machines: Machines, guests: Guests) -> str:
    """Data is mostly of the length that the register has."""
    pick = machines.pick
    bank = pick.PickValueInList(["z", "p", "v", "za"])
    n = _number(pick, pick.ConsumeIntInRange(0, 33))
    now = outcome(getattr(guests[0], bank).__getitem__, n[0])
    outcome(getattr(guests[1], bank).__getitem__, n[0])
    data = _buffer(pick, _data(pick, len(now[1]) if now[0] == "returned" else 16))
    return machines.both([getattr(guest, bank).__setitem__ for guest in guests], n, data)[0]


def _write_special(machines: Machines, guests: Guests) -> str:
    pick = machines.pick
    name = pick.PickValueInList(["ffr", "zt0"])
    now = outcome(getattr, guests[0], name)
    outcome(getattr, guests[1], name)
    data = _buffer(pick, _data(pick, len(now[1]) if now[0] == "returned" else 16))
    return machines.both([lambda data, guest=guest: setattr(guest, name, data) for guest in guests], data)[0]


GUEST_ACTS = [_read_control, _write_control, _switch, _narrow, _read_bank, _write_bank, _write_bank, _write_special]
ACTS = [_get, _get, _get, _get_into, _get_into, _set, _set, _set, _set, _run, _run, _run, _reg_list, _init, _finalize,
        _enable_cap, _check_extension, _another_vcpu, _fail]  # fmt: skip


# Hosts


def _build_host(pick: Pick) -> None:
    """Of any arguments: TypeError or ValueError, or a host whose vCPU can be made and read."""
    words: dict[str, Any] = {}
    for name in ("sve_vqs", "sme_vqs", "features_offered"):
        if pick.ConsumeBool():
            words[name] = [_number(pick, pick.ConsumeIntInRange(0, 17))[1] for _ in range(pick.ConsumeIntInRange(0, 3))]
        if not pick.ConsumeIntInRange(0, 15):
            words[name] = pick.PickValueInList(NOTHINGS)
    for name in ("sme2", "fa64", "fpmr", "big_endian"):
        words[name] = pick.ConsumeBool()
    if pick.ConsumeBool():
        words["id_regs"] = [(_id(pick)[0], _number(pick, pick.ConsumeUInt(8))[1])]
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
