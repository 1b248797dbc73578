"""save and restore: a vCPU in any state comes back, as far as its revision lets userspace see and set it."""

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmsve import Feature, GuestUndefined, Host, KvmError, Vcpu, restore, save
from kvmsve.facts import regid
from kvmsve.facts.abi import SmidrRule, ZaGate
from kvmsve.facts.revisions import REVISIONS

LENGTHS = [((1, 2), ()), ((), (1, 2, 4)), ((1, 2), (1, 2, 4)), ((1, 2, 4), (1, 2)), ((1, 2), (2,)), ((1,), (1,))]


def can_have(revision: str, sve_vqs: tuple[int, ...], sme_vqs: tuple[int, ...]) -> bool:
    abi = REVISIONS[revision]
    if not sme_vqs:
        return True
    return abi.sme_feature is not None and abi.sme_feature < abi.max_features and (bool(sve_vqs) or abi.sme_without_sve)


STATES = [
    (revision, sve_vqs, sme_vqs, svcr)
    for revision, (sve_vqs, sme_vqs) in product(REVISIONS, LENGTHS)
    if can_have(revision, sve_vqs, sme_vqs)
    for svcr in (range(4) if sme_vqs else (0,))
]


def registers(guest: Any, svcr: int) -> list[tuple[str, Callable[[], Any], Callable[[bytes], None], int]]:
    """Name, reader, writer and size of every register that the guest has now."""
    found: list[Any] = [(f"V{n}", lambda n=n: guest.v[n], lambda data, n=n: guest.v.__setitem__(n, data), 16)
                        for n in range(32)]  # fmt: skip
    try:
        vl = guest.vl
        for bank, count, size in (("z", 32, vl), ("p", 16, vl // 8)):
            for n in range(count):
                rows = getattr(guest, bank)
                found.append((f"{bank}{n}", lambda rows=rows, n=n: rows[n],
                              lambda data, rows=rows, n=n: rows.__setitem__(n, data), size))  # fmt: skip
        _ = guest.ffr
        found.append(("FFR", lambda: guest.ffr, lambda data: setattr(guest, "ffr", data), vl // 8))
    except GuestUndefined:
        pass
    if svcr & 2:
        found += [(f"ZA{row}", lambda row=row: guest.za[row], lambda data, row=row: guest.za.__setitem__(row, data),
                   guest.svl) for row in range(guest.svl)]  # fmt: skip
        try:
            _ = guest.zt0
            found.append(("ZT0", lambda: guest.zt0, lambda data: setattr(guest, "zt0", data), 64))
        except GuestUndefined:
            pass
    return found


def make(revision: str, sve_vqs: tuple[int, ...], sme_vqs: tuple[int, ...], svcr: int, seed: int) -> tuple[Host, Vcpu]:
    """A vCPU whose guest has filled every register that it has."""
    rng = random.Random(seed)
    flags = {"sme2": bool(sme_vqs) and rng.random() < 0.5, "fa64": bool(sme_vqs) and rng.random() < 0.5}
    host = Host(sve_vqs=sve_vqs, sme_vqs=sme_vqs, fpmr=True, abi=REVISIONS[revision], **flags)
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({feature for feature, vqs in ((Feature.SVE, sve_vqs), (Feature.SME, sme_vqs)) if vqs})
    vcpu.finalize(Feature.VEC)
    with vcpu.run() as guest:
        if sve_vqs:
            guest.zcr = 15
        if sme_vqs:
            guest.smcr, guest.svcr = 3 << 30 | 15, svcr
        for _, _, write, size in registers(guest, svcr):
            write(rng.randbytes(size))
        guest.fpsr, guest.fpcr = rng.getrandbits(32), rng.getrandbits(32)
    return host, vcpu


def seen(vcpu: Vcpu, svcr: int) -> dict[str, Any]:
    """Everything as the guest finds it at its next run."""
    with vcpu.run() as guest:
        found = {name: read() for name, read, *_ in registers(guest, svcr)}
        return found | {"FPSR": guest.fpsr, "FPCR": guest.fpcr}


def lost(revision: str, vcpu: Vcpu, svcr: int) -> set[str]:
    """What no order of calls can carry over, by abi-revisions.md 5.2 and 7 and rfc-v2.md 3.4."""
    abi, (sve_vq, sme_vq) = REVISIONS[revision], vcpu.lengths
    names: set[str] = set()
    if svcr & 2 and abi.za is not None:
        unreachable = abi.za.gate is ZaGate.UNREACHABLE or abi.za.get_writes
        names |= {f"ZA{row}" for row in range(0 if unreachable else abi.za.row_modulus, 16 * sme_vq)}
        names |= {"ZT0"} if unreachable else set()
    if svcr & 1 and not sve_vq and abi.zp_needs_sve:
        names |= {f"{bank}{n}" for bank, count in (("z", 32), ("p", 16), ("V", 32)) for n in range(count)} | {"FFR"}
    return names


@pytest.mark.parametrize(("revision", "sve_vqs", "sme_vqs", "svcr"), STATES)
def test_a_restored_vcpu_is_the_saved_one(revision, sve_vqs, sme_vqs, svcr):
    for seed in range(4):
        host, vcpu = make(revision, sve_vqs, sme_vqs, svcr, seed)
        saved = save(vcpu)
        copy = host.create_vm().create_vcpu(0)
        restore(copy, saved)
        assert save(copy) == saved
        assert (copy.lengths, copy.svcr) == (vcpu.lengths, vcpu.svcr)
        before, after = seen(vcpu, svcr), seen(copy, svcr)
        assert {name for name in before if before[name] != after[name]} <= lost(revision, vcpu, svcr)


@settings(max_examples=100, deadline=None)
@given(state=st.sampled_from(STATES), seed=st.integers(0, 1 << 32))
def test_a_copy_of_a_copy_is_the_copy(state, seed):
    host, vcpu = make(*state, seed)
    saved = save(vcpu)
    for _ in range(2):
        copy = host.create_vm().create_vcpu(0)
        restore(copy, saved)
        assert save(copy) == saved


@pytest.mark.parametrize("revision", ["rfc-v2", "v11", "v12", "mainline-7.3"])
def test_nothing_is_lost_where_the_revision_lets_all_be_reached(revision):
    for (sve_vqs, sme_vqs), svcr in product(LENGTHS, range(4)):
        if (revision, sve_vqs, sme_vqs, svcr) in STATES:
            _, vcpu = make(revision, sve_vqs, sme_vqs, svcr, seed=1)
            assert lost(revision, vcpu, svcr) == set()


def test_svcr_comes_before_what_it_zeroes():
    _, vcpu = make("v12", (1, 2), (1, 2, 4), 3, seed=2)
    order = [reg_id for reg_id, _ in save(vcpu).registers]
    assert order[0] == regid.SVCR
    assert {regid.SVE_VLS, REVISIONS["v12"].sme_vls} <= {reg_id for reg_id, _ in save(vcpu).before_finalize}


@pytest.mark.parametrize("revision", [name for name in REVISIONS if name in {f"v{n}" for n in range(3, 13)}])
def test_a_save_leaves_za(revision):
    """In v3 to v9 a GET of a row would copy the buffer into it (abi-revisions.md 5.2)."""
    _, vcpu = make(revision, (1, 2), (1, 2, 4), 2, seed=5)
    before = bytes(vcpu.sme_state)
    assert any(before)
    save(vcpu)
    assert bytes(vcpu.sme_state) == before


def test_smidr_is_not_read_where_that_crashes_the_host():
    assert REVISIONS["rfc-v2-r1"].smidr is SmidrRule.OOPS
    _, vcpu = make("rfc-v2-r1", (1, 2), (1, 2), 1, seed=3)
    assert regid.SMIDR_EL1 not in {reg_id for reg_id, _ in save(vcpu).registers}


def test_what_is_listed_behind_smidr_is_saved_where_that_is_not_read():
    host = Host(sve_vqs={1}, sme_vqs={1}, abi=REVISIONS["rfc-v2-r1"])
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE, Feature.SME})
    vcpu.finalize(Feature.VEC)
    listed = vcpu.get_reg_list()
    behind = listed[listed.index(regid.SMIDR_EL1) + 1 :]
    assert len(behind) >= 14
    assert {*behind} <= {reg_id for reg_id, _ in save(vcpu).registers}


def test_save_and_restore_are_refused_as_the_calls_in_them():
    host = Host(sve_vqs={1, 2})
    fresh = host.create_vm().create_vcpu(0)
    with pytest.raises(KvmError, match="ENOEXEC"):
        save(fresh)
    fresh.init({Feature.SVE})
    with pytest.raises(KvmError, match="EPERM"):
        save(fresh)
    _, longer = make("rfc-v2", (1, 2, 4), (1, 2), 0, seed=4)
    with pytest.raises(KvmError, match="EINVAL"):
        restore(host.create_vm().create_vcpu(0), save(longer))
