"""Random programs of ioctls and guest steps, done on the package and on a model alike (see test_random_programs.py).

The model is tests/model.py, for v3 to v12 tests/model_by_mode.py. Left out is what the two sides differ in and no
recording decides: EL2, v3 to v12 on big-endian hosts, and KVM_ENABLE_CAP before v5, where 239 is another capability.

Every operation is done by a function (twin, rng) that draws all it needs from `rng`; `run` also has a seed for each
step of its guest.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import kernels
import model
import model_by_mode
import model_id_registers
from guest_programs import guest_step, some_bytes
from model import SME
from model_by_mode import FPMR, IMP_MASK, PFR2, SERIES, SMIDR
from twin import Twin, agree, outcome

from kvmsve import Host, HostOops
from kvmsve.facts import regid
from kvmsve.facts.revisions import REVISIONS

# Repeats are weights
HOSTS = [*model.VALID_FEATURES, "rfc-v2", "rfc-v2", "rfc-v2", "rfc-v2-r123", "rfc-v2-r1", "rfc-v2-r1"]
HOSTS += [*SERIES, "v4", "v9", "v10", "v12"]
SVE_SETS = [(), (1,), (1, 2), (1, 2), (1, 2, 4), (1, 2, 3, 4), (1, 2, 3), (1, 2, 4, 8)] * 2 + [tuple(range(1, 17))]
SME_SETS = [(), (1,), (2,), (4,), (1, 2), (1, 2, 4), (2, 4), (1, 4), (2, 8)] * 2 + [(1, 2, 4, 8, 16), (16,)]
REGISTERS: list[Callable[[Any], int]] = [
    *[lambda rng: model.Z_BASE | rng.randrange(32) << 5] * 6,
    *[lambda rng: model.P_BASE | rng.randrange(16) << 5] * 4,
    *[lambda rng: model.FFR_ID] * 2,
    *[lambda rng: model.ZA_BASE | rng.randrange(1 << rng.randrange(9)) << 5] * 3,
    *[lambda rng: model.ZT0_ID] * 2,
    *[lambda rng: rng.choice((model.FPSR, model.FPCR))] * 2,
    *[lambda rng: rng.choice((model.ZCR, model.SMCR, model.TPIDR2, model.CPACR))] * 2,
    *[lambda rng: model.SVCR] * 2,
    lambda rng: rng.choice(model.CORE_U64),
    lambda rng: rng.choice(model.CORE_V),
    lambda rng: rng.choice(model.VLS_ID),
    lambda rng: rng.choice((model.PFR0, model.PFR1, model.ZFR0, model.SMFR0, model.SMIDR)),
]
SME_VLS = (0x6060_0000_0017_FFFF, 0x6060_0000_0017_FFFE)
BY_MODE_REGISTERS: list[Callable[[Any], int]] = [
    *REGISTERS,
    *[lambda rng: rng.choice((FPMR, SMIDR, SMIDR))] * 2,
    *[lambda rng: rng.choice((PFR2, model.PFR1, model.ZFR0, model.SMFR0))] * 3,
    lambda rng: rng.choice((regid.SMPRI_EL1, regid.SVE_VLS, *SME_VLS)),
]
PLAIN_IDS = sorted({*model.OTHER_IDS, *model.other_ids("7.3")})
ID_BITS = {  # what a write of an ID register that concerns vectors changes
    model.PFR0: (0, 1 << 32),
    PFR2: (0, 1 << 32, 1 << 33, 1),
    model.PFR1: (0, 1 << 24, 1 << 25, 3 << 24),
    model.ZFR0: (0, 1, 1 << 8),
    model.SMFR0: (0, 1 << 63, 1 << 56, 1 << 63 | 1 << 56, 1),
}
SVCR_VALUES = (0, 1, 2, 2, 3, 3)
UNTOUCHED = b"\xa5"


def any_register(twin: Twin, rng: Any, plain: bool = False) -> int:
    """An ID that the revision has, or nearly; `plain`: perhaps of a register that has no vector meaning."""
    registers = BY_MODE_REGISTERS if twin.by_mode else REGISTERS
    if plain and rng.randrange(1 + len(registers)) == 0:
        return int(rng.choice(PLAIN_IDS))
    return int(rng.choice(registers)(rng))


def some_host(rng: Any) -> tuple[Host, model.Host]:
    """A machine in some revision, as the package and as its model has it."""
    revision, sve_vqs, sme_vqs = rng.choice(HOSTS), some_sve_vqs(rng), some_sme_vqs(rng)
    flags = {name: rng.random() < chance for name, chance in (("sme2", 0.7), ("fa64", 0.5), ("big_endian", 0.2))}
    by_mode = revision in SERIES
    if by_mode:
        flags |= {"big_endian": False, "fpmr": rng.random() < 0.6}
    family = model_by_mode if by_mode else model
    other = family.Host(sve_vqs, sme_vqs, revision=revision, **flags)
    offered = None
    if rng.random() < 0.2:
        offered = {bit for bit in (2, 3, 4, 5, 6, 8, other.sme_feature) if rng.random() < 0.8}
    id_regs = some_id_regs(rng, other) if by_mode and rng.random() < 0.4 else {}
    if rng.random() < 0.5:
        id_regs |= some_scalar_id_regs(rng)
    known = {"features_offered": offered, "id_regs": id_regs}
    host = Host(sve_vqs=sve_vqs, sme_vqs=sme_vqs, abi=REVISIONS[revision], **flags, **known)
    return host, family.Host(sve_vqs, sme_vqs, revision=revision, **flags, **known)


def some_sve_vqs(rng: Any) -> tuple[int, ...]:
    """Mostly few and small, as big registers are slow; else any set that has the powers of two below its largest."""
    if rng.random() < 0.8:
        return rng.choice(SVE_SETS)
    largest = 1 + rng.randrange(16)
    return tuple(vq for vq in range(1, largest + 1) if vq in (1, 2, 4, 8, largest) or rng.random() < 0.5)


def some_sme_vqs(rng: Any) -> tuple[int, ...]:
    if rng.random() < 0.8:
        return rng.choice(SME_SETS)
    return tuple(vq for vq in (1, 2, 4, 8, 16) if rng.random() < 0.4)


class Pair:
    """One VM on one host, twice."""

    def __init__(self, rng: Any, host: Any, other: model.Host) -> None:
        """`host` is the package's Host, or something with its face."""
        described = (other.revision, sorted(other.vqs[0]), sorted(other.vqs[1]), other.sme2, other.fa64, other.fpmr)
        self.trace: deque[Any] = deque([described], maxlen=50)
        for cap in (70, 170, 231, 232, 239, 240, 243, 244, 247, 248, 252):
            agree(self.trace, ("cap", cap), partial(host.check_extension, cap), partial(other.check_extension, cap))
        self.vm, self.other_vm = host.create_vm(), other.create_vm()
        self.twins: list[Twin] = []
        since_v5 = SERIES.get(other.revision, 0) >= 5
        has_no_sme = other.revision in kernels.KERNELS
        if (since_v5 or has_no_sme) and rng.random() < 0.6:
            self._enable_cap(rng)
        for n in range(1 + rng.randrange(3)):
            index = n if rng.random() < 0.95 else rng.choice((-1, 0, 511, 512, 1 << 32, 1 << 32 | 1))
            self._create_vcpu(index)
        if since_v5 and rng.random() < 0.1:
            self._enable_cap(rng)
        if not self.twins:
            self._create_vcpu(7)

    @property
    def oopsed(self) -> bool:
        return any(twin.oopsed for twin in self.twins)

    def _create_vcpu(self, index: int) -> None:
        made: list[Any] = []
        refused = agree(
            self.trace,
            ("create_vcpu", index),
            lambda: made.append(self.vm.create_vcpu(index)),
            lambda: made.append(self.other_vm.create_vcpu(index)),
        )
        if not refused:
            self.twins.append(Twin(*made, self.trace))

    def _enable_cap(self, rng: Any) -> None:
        cap = rng.choice((239, 239, 239, 238, 247))
        agree(self.trace, ("enable_cap", cap), partial(self.vm.enable_cap, cap), partial(self.other_vm.enable_cap, cap))


def some_id_regs(rng: Any, host: model_by_mode.Host) -> dict[int, int]:
    """A host that says more, or less, of itself."""
    values = {SMIDR: rng.choice((0, 0x41 << 24 | 3)), model.SMFR0: host.id_regs[model.SMFR0]}
    if host.has[SME]:
        values[model.SMFR0] |= rng.choice((0, 1 << 32, 0xF << 36 | 1 << 48))
    if any(host.has):
        values[model.ZFR0] = rng.choice((1, 0x11, 0x1_0000_0001))
    if rng.random() < 0.2:
        values[PFR2] = 0
    return values


def some_scalar_id_regs(rng: Any) -> dict[int, int]:
    """Values of ID registers without a vector meaning, of implementation ID registers and of CTR_EL0."""
    scalar = sorted({*model_id_registers.ID_SPACE, model.CTR, *model.IMPLEMENTATION} - {*ID_BITS})
    scalar.remove(model_id_registers.MMFR3)  # says what registers there are
    return {reg_id: rng.getrandbits(64) & rng.choice((0xFFFF_FFFF, -1 % (1 << 64))) for reg_id in rng.sample(scalar, 8)}


# The ioctls


def init(twin: Twin, rng: Any) -> None:
    """Mostly the features that the VM has, or some that the host offers."""
    words, target = [0, 0, 0, 0, 0, 0, 0], 5
    host = twin.other.host
    sve, sme = 1 << 4, 1 << host.sme_feature
    words[0] = rng.choice((0, sve, sme, sve | sme, sve | sme, sve | sme))
    words[0] |= rng.choice((0, 0, 0, 1 << 3, 1 << 5 | 1 << 6, 1 << 3 | 1 << 5 | 1 << 6, 1 << 3 | 1 << 9))
    words[0] &= host.valid_features & sum(1 << bit for bit in host.features_offered)
    if twin.other.vm.features is not None and rng.random() < 0.8:
        words[0] = twin.other.vm.features | rng.randrange(2)
    if rng.random() < 0.1:
        words[0] ^= 1 << rng.randrange(12)
    if rng.random() < 0.03:
        words[rng.randrange(7)] = 1 << rng.randrange(32)
    if rng.random() < 0.03:
        target = rng.randrange(8)
    twin.both(("init", words, target), lambda: twin.vcpu.init(words, target), lambda: twin.other.init(words, target))


def set_vls(twin: Twin, rng: Any) -> None:
    """Mostly the host's lengths up to one of them."""
    kind = rng.randrange(2)
    host_vqs = sorted(twin.other.host.vqs[kind]) or [1]
    highest = rng.choice(host_vqs)
    vqs = {vq for vq in host_vqs if vq <= highest}
    if rng.random() < 0.2:
        vqs ^= {1 + rng.randrange(1 << rng.randrange(10))}
    data = sum(1 << vq - 1 for vq in vqs if rng.random() < 0.97).to_bytes(64, "little")
    twin.set(twin.other.host.vls_ids[kind], data if rng.random() < 0.9 else data[: rng.randrange(64)])


def finalize(twin: Twin, rng: Any) -> None:
    feature = 4 if rng.random() < 0.9 else rng.randrange(10)
    twin.both(("finalize", feature), lambda: twin.vcpu.finalize(feature), lambda: twin.other.finalize(feature))


def get(twin: Twin, rng: Any) -> None:
    twin.get(any_register(twin, rng, plain=True))


def set_(twin: Twin, rng: Any) -> None:
    reg_id = any_register(twin, rng, plain=True)
    data = some_bytes(rng, model.width(reg_id) + rng.choice((0, 0, 9)))
    if twin.other.features is not None and reg_id in twin.other.host.id_rules.registers:
        data = id_value(twin, rng, reg_id)
    elif reg_id == SMIDR and rng.random() < 0.7:
        data = (int.from_bytes(data[:8], "little") & rng.choice((0, 1 << 24 | 7, IMP_MASK[SMIDR]))).to_bytes(
            8, "little"
        )
    twin.set(reg_id, data)


def set_id(twin: Twin, rng: Any) -> None:
    reg_id = rng.choice([reg_id for reg_id in ID_BITS if twin.by_mode or reg_id != PFR2])
    if rng.random() < 0.5:
        reg_id = rng.choice(sorted({*twin.other.host.id_rules.registers, *model.IMPLEMENTATION}))
    twin.set(reg_id, id_value(twin, rng, reg_id))


def id_value(twin: Twin, rng: Any, reg_id: int) -> bytes:
    """What the VM has, but for a bit or four, or zero."""
    present = twin.other._id_value(reg_id)
    if reg_id in ID_BITS and rng.random() < 0.7:
        value = present ^ rng.choice(ID_BITS[reg_id])
    else:
        shift = rng.choice(range(0, 64, 4))
        value = present & ~(0xF << shift) | rng.randrange(16) << shift
    if rng.random() < 0.2:
        value = 0
    return int(value).to_bytes(8, "little")


def set_mode(twin: Twin, rng: Any) -> None:
    reg_id, value = model.SVCR, rng.choice(SVCR_VALUES)
    if twin.by_mode and rng.random() < 0.15:
        value |= 1 << rng.randrange(64)
    if rng.random() < 0.2:
        reg_id, value = model.SMCR, 3 << 30 | rng.randrange(16)
    twin.set(reg_id, value.to_bytes(8, "little"))


def set_short(twin: Twin, rng: Any) -> None:
    reg_id = any_register(twin, rng, plain=True)
    twin.set(reg_id, some_bytes(rng, rng.randrange(1 + model.width(reg_id))))


def get_short(twin: Twin, rng: Any) -> None:
    reg_id = any_register(twin, rng, plain=True)
    get_into(twin, reg_id, rng.randrange(3 + model.width(reg_id)))


def get_into(twin: Twin, reg_id: int, room: int) -> None:
    """A get into a user buffer of any size, and what it holds afterwards."""
    buffer = bytearray(UNTOUCHED * room)

    def expected() -> tuple[Any, bytes]:
        kept = {"user": UNTOUCHED * model.width(reg_id)} if twin.by_mode else {}
        try:
            result, data = None, twin.other.get(reg_id, room, **kept)
        except model.Refused as refused:
            result, data = ("errno", refused.errno, None), refused.wrote and twin.other.get(reg_id)
        return result, twin.reordered(reg_id, data)[:room].ljust(room, UNTOUCHED)

    def actual() -> tuple[Any, bytes]:
        result = outcome(lambda: twin.vcpu.get_one_reg_into(reg_id, buffer))
        if result == "oops":
            raise HostOops
        return result, bytes(buffer)

    twin.both(("get", hex(reg_id), room), actual, expected)


def wrong_id(twin: Twin, rng: Any) -> None:
    """An ID with one or two bits changed."""
    reg_id = any_register(twin, rng, plain=True)
    for _ in range(1 + rng.randrange(2)):
        reg_id ^= 1 << rng.choice((rng.randrange(16), rng.randrange(16, 32), rng.randrange(52, 56), rng.randrange(64)))
    if rng.random() < 0.5:
        twin.get(reg_id)
    else:
        twin.set(reg_id, bytes(model.width(reg_id)) if rng.random() < 0.8 else b"")


def reg_list(twin: Twin, rng: Any) -> None:
    n = rng.choice((None, None, 0, *range(-2, 3)))
    twin.list(n and max(0, twin.count() + n))


def fail_allocations(twin: Twin, rng: Any) -> None:
    n = rng.choice((0, 1, 1, 2))
    twin.both(("fail_allocations", n), lambda: twin.vcpu.fail_allocations(n), lambda: twin.other.fail_allocations(n))


def run(twin: Twin, rng: Any, guest_seeds: Sequence[int]) -> None:
    """The vCPU enters its guest, which takes a step for each seed."""
    immediate = rng.random() < 0.25
    runs: list[Any] = []
    refused = twin.both(
        ("run", immediate),
        lambda: runs.append(twin.vcpu.run(immediate_exit=immediate)),
        lambda: runs.append(twin.other.run(immediate)),
    )
    if refused:
        return
    with runs[0] as guest:
        for seed in guest_seeds:
            guest_step(twin, guest, runs[1], random.Random(seed))
            assert twin.vcpu.fp_state.name == twin.other.fp_state, list(twin.trace)
    twin.other.put(runs[1])


OPERATIONS = (
    *(init, set_vls, finalize, reg_list, set_short, set_short, get_short, get_short, wrong_id, wrong_id),
    *([get] * 8 + [set_] * 8 + [set_mode] * 4 + [fail_allocations] + [run] * 10),
)
