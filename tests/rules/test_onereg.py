"""The rules from register ID to region or errno: finite spaces swept whole, and the order of checks."""

import json
from errno import errorcode
from itertools import chain, combinations, islice, product

import model
import pytest
from examples import is_one_line
from places import TABLES

from kvmsve import MAINLINE_6_1, RFC_V2, RFC_V2_POSTED, RFC_V2_R1, RFC_V2_R123, Feature, Host, KvmError
from kvmsve.facts.revisions import REVISIONS, V12
from kvmsve.rules import onereg
from kvmsve.rules.onereg import Region, Store
from kvmsve.rules.views import VectorLengths, View, view

ERRNOS = json.loads((TABLES / "kvm-errnos.json").read_text())["states"]
SVE, SME = 0x6000_0000_0015_0000, 0x6000_0000_0017_0000
Z0, P0, FFR = SVE | 8 << 52, SVE | 5 << 52 | 0x400, SVE | 5 << 52 | 0x600
ZA0, ZT0 = SME | 8 << 52, SME | 6 << 52 | 0x600
PLAIN, SVE_ONLY, SME_ONLY, BOTH = VectorLengths(), VectorLengths(2, 0), VectorLengths(0, 4), VectorLengths(2, 4)


def sve_rule(reg_id, abi, lengths, finalized):
    return onereg.sve_reg_to_region(reg_id, view(abi, lengths, svcr=0, has_fa64=False), finalized)


def reach(abi, lengths, *, has_sme2=False, za_is_on=False, finalized=False):
    """A vCPU of which only that is known which decides about ZA and ZT0."""
    return onereg.Reach(abi, lengths, View(0, False, False, False), has_sme2, za_is_on, finalized)


def sme_rule(reg_id, abi, lengths, has_sme2, finalized):
    return onereg.sme_reg_to_region(reg_id, reach(abi, lengths, has_sme2=has_sme2, finalized=finalized))


def core_rule(reg_id, lengths):
    return onereg.core_reg_to_region(reg_id, view(RFC_V2, lengths, svcr=0, has_fa64=False).has_v)


def outcome(rule, *args):
    """What the rule returns, or the name of its errno; a refusal says why."""
    try:
        return rule(*args)
    except KvmError as refusal:
        return errorcode[refusal.errno] if is_one_line(refusal.strerror) else "no reason"


def differences(rule, args, ids, expected, otherwise=None):
    """The first IDs for which the rule, with these further arguments, does not end as expected."""
    wrong = (hex(reg_id) for reg_id in ids if outcome(rule, reg_id, *args) != expected.get(reg_id, otherwise))
    return list(islice(wrong, 10))


# Z, P and FFR


def sve_windows(vq: int, good: str | None) -> dict[int, object]:
    """Every ID in the windows of a vCPU with vectors, by rfc-v2.md 1.6; `good` is an errno instead of the regions."""
    regions = {Z0 + 32 * n: (16 * vq * n, 16 * vq, 256) for n in range(32)}
    regions |= {P0 + 32 * n: (512 * vq + 2 * vq * n, 2 * vq, 32) for n in range(17)}
    windows = {start + i: "ENOENT" for start in regions for i in range(32)}
    for reg_id, (offset, size, user_size) in regions.items():
        windows[reg_id] = good or Region(Store.SVE_STATE, offset, size, user_size - size)
    return windows


@pytest.mark.parametrize("max_vq", range(1, 17))
def test_all_registers_and_slices_at_all_lengths(max_vq):
    windows = sve_windows(max_vq, None)
    assert len(windows) == 49 * 32
    for abi, *lengths in (
        (MAINLINE_6_1, max_vq, 0),
        (RFC_V2_R123, 0, max_vq),
        (RFC_V2, 1, max_vq),
        (RFC_V2, max_vq, 1),
    ):
        args = (abi, VectorLengths(*lengths), True)
        assert differences(sve_rule, args, windows, windows) == []


KINDS = {
    "plain": (RFC_V2, PLAIN, True, dict.fromkeys(sve_windows(1, None), "ENOENT")),
    "SVE+SME": (RFC_V2, BOTH, True, sve_windows(4, None)),
    "not finalized": (RFC_V2, BOTH, False, sve_windows(4, "EPERM")),
    "SME only, posted": (RFC_V2_R1, SME_ONLY, False, sve_windows(4, "EINVAL")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_payload_of_coprocessor_0x15(kind):
    *args, expected = KINDS[kind]
    ids = (SVE | code << 52 | payload for code in (5, 8) for payload in range(0x10000))
    assert differences(sve_rule, args, ids, expected, "EINVAL") == []


def test_other_sizes_of_coprocessor_0x15():
    *args, expected = KINDS["SVE+SME"]
    payloads = [*range(0x800), *range(0x800, 0x10000, 61), 0xFFFF]
    ids = (SVE | code << 52 | payload for code in range(16) for payload in payloads)
    assert differences(sve_rule, args, ids, expected, "EINVAL") == []


@pytest.mark.parametrize("bit", range(28, 32))
def test_bits_31_to_28_take_an_id_out_of_its_window(bit):
    for reg_id in (Z0, P0, FFR):
        assert outcome(sve_rule, reg_id | 1 << bit, RFC_V2, BOTH, True) == "EINVAL"
    assert outcome(sme_rule, ZA0 | 1 << bit, RFC_V2, BOTH, True, True) == "EINVAL"
    assert outcome(core_rule, 0x6030_0000_0010_0000 | 1 << bit, BOTH) == "ENOENT"


@pytest.mark.parametrize(
    ("reg_id", "abi", "lengths", "finalized", "expected"),
    [
        (Z0 - (3 << 52), RFC_V2, PLAIN, False, "EINVAL"),  # the size of P; no vectors
        (Z0 - (3 << 52) | 1, RFC_V2, BOTH, False, "EINVAL"),  # the size of P; slice
        (FFR + 32, RFC_V2, PLAIN, True, "EINVAL"),  # past FFR; no vectors
        (FFR + 32, RFC_V2, BOTH, False, "EINVAL"),  # past FFR; not finalized
        (Z0 | 1, RFC_V2, PLAIN, True, "ENOENT"),  # no vectors; slice
        (Z0, RFC_V2_POSTED, PLAIN, False, "ENOENT"),  # no vectors; no SVE length; not finalized
        (P0 | 31, RFC_V2_POSTED, SME_ONLY, False, "ENOENT"),  # slice; no SVE length
        (FFR | 1, RFC_V2, BOTH, False, "ENOENT"),  # slice; not finalized
        (Z0, RFC_V2_POSTED, SME_ONLY, False, "EINVAL"),  # no SVE length; not finalized
        (Z0, RFC_V2_POSTED, SME_ONLY, True, "EINVAL"),
        (Z0, RFC_V2, SME_ONLY, False, "EPERM"),
    ],
)
def test_order_of_checks_for_z_p_and_ffr(reg_id, abi, lengths, finalized, expected):
    assert outcome(sve_rule, reg_id, abi, lengths, finalized) == expected


# ZA and ZT0


def za_ids():
    """The first, second and last slice of all 2048 row numbers; other sizes at the edges, ZT0 among them."""
    yield from (ZA0 | row << 5 | slice_ for row in range(2048) for slice_ in (0, 1, 31))
    edges = (0, 0x20, 0x5E0, 0x600, 0x601, 0x620, 0xFFFE)
    yield from (SME | code << 52 | payload for code in range(16) for payload in edges)


@pytest.mark.parametrize("sme_vq", [0, 1, 2, 4, 8, 16])
@pytest.mark.parametrize("has_sme2", [False, True])
def test_za_rows_and_zt0(sme_vq, has_sme2):
    """rfc-v2.md R5: 16 * m rows; without SME the count wraps and every number is inside (3.4)."""
    inside = {ZA0 | row << 5 | i: "ENOENT" for row in range(16 * sme_vq or 2048) for i in range(32)}
    rows = {ZA0 | row << 5: (16 * sme_vq * row, 16 * sme_vq) for row in range(16 * sme_vq)}
    inside |= {reg_id: Region(Store.SME_STATE, at, size, 256 - size) for reg_id, (at, size) in rows.items()}
    usable = sme_vq and has_sme2
    inside[ZT0] = Region(Store.SME_STATE, 256 * sme_vq * sme_vq, 64, 0) if usable else "ENOENT"
    for sve_vq in (0, 3):
        args = (RFC_V2, VectorLengths(sve_vq, sme_vq), has_sme2, True)
        assert differences(sme_rule, args, za_ids(), inside, "EINVAL") == []


@pytest.mark.parametrize("abi", [RFC_V2_POSTED, RFC_V2_R1, RFC_V2_R123], ids=lambda abi: abi.name)
@pytest.mark.parametrize(
    ("sme_vq", "last"),
    [(0, 0xFDFF), (1, 0xFFFF), (2, 0x1FF), (4, 0x5FF), (8, 0xDFF), (16, 0x1DFF)],
)
def test_the_window_of_za_as_posted(abi, sme_vq, last):
    """rfc-v2.md 3.4: 16 * (m - 1) rows, all EINVAL in the end; ENOENT shows how far the window goes."""
    assert onereg.za_id_max(abi, sme_vq) == ZA0 | last
    inside = {ZA0 | payload: "ENOENT" for payload in range(last + 1) if payload & 31 or not sme_vq}
    for finalized in (False, True):
        args = (abi, VectorLengths(2, sme_vq), True, finalized)
        assert differences(sme_rule, args, [*za_ids(), ZT0], inside, "EINVAL") == []


def test_mainline_has_no_window():
    assert differences(sme_rule, (MAINLINE_6_1, SVE_ONLY, False, True), za_ids(), {}, "EINVAL") == []


@pytest.mark.parametrize("sme_vq", [1, 2, 4, 8, 16])
def test_the_last_row_of_za(sme_vq):
    last = ZA0 | (16 * sme_vq - 1) << 5 | 31
    assert onereg.za_id_max(RFC_V2, sme_vq) == last
    with_za = (RFC_V2, VectorLengths(0, sme_vq), False, True)
    assert outcome(sme_rule, last & ~31, *with_za).koffset == 16 * sme_vq * (16 * sme_vq - 1)


@pytest.mark.parametrize(
    ("reg_id", "abi", "lengths", "sme2", "finalized", "expected"),
    [
        (ZA0 - (3 << 52), RFC_V2, SVE_ONLY, True, False, "EINVAL"),  # wrong size; no SME
        (ZA0 | 64 << 5 | 1, RFC_V2, BOTH, True, False, "EINVAL"),  # past the last row; slice; not finalized
        (ZT0 | 1, RFC_V2, SVE_ONLY, False, False, "EINVAL"),  # ZT0 has no slices; no SME
        (ZT0, RFC_V2_R123, SVE_ONLY, False, False, "EINVAL"),  # no ZT0 in this revision; no SME
        (ZA0 | 1, RFC_V2, SVE_ONLY, True, False, "ENOENT"),  # no SME; slice; not finalized
        (ZA0, RFC_V2_POSTED, SVE_ONLY, True, False, "ENOENT"),  # no SME; ZA out of reach
        (ZT0, RFC_V2, PLAIN, True, False, "ENOENT"),  # no SME; not finalized
        (ZT0, RFC_V2, BOTH, False, False, "ENOENT"),  # no SME2; not finalized
        (ZA0 | 1, RFC_V2_POSTED, BOTH, True, True, "ENOENT"),  # slice; ZA out of reach
        (ZA0 | 31, RFC_V2, BOTH, True, False, "ENOENT"),  # slice; not finalized
        (ZA0, RFC_V2_POSTED, BOTH, True, False, "EINVAL"),  # ZA out of reach; not finalized
        (ZA0, RFC_V2, BOTH, False, False, "EPERM"),
        (ZT0, RFC_V2, BOTH, True, False, "EPERM"),
    ],
)
def test_order_of_checks_for_za_and_zt0(reg_id, abi, lengths, sme2, finalized, expected):
    assert outcome(sme_rule, reg_id, abi, lengths, sme2, finalized) == expected


# v3 on; abi-revisions.md 5.2


def rows_as_in(revision: str, sme_vq: int) -> list[tuple[int, int]]:
    """Offset and size of each row of ZA that an ID reaches."""
    if revision in ("v3", "v9"):  # one quadword too short, and row numbers modulo 32
        size = 16 * (sme_vq - 1)
        return [(size * (row % 32), size) for row in range(size)]
    modulus = 32 if revision == "v10" else 256
    return [(16 * sme_vq * (row % modulus), 16 * sme_vq) for row in range(16 * sme_vq)]


@pytest.mark.parametrize("revision", ["v3", "v9", "v10", "v11", "v12"])
@pytest.mark.parametrize("sme_vq", [2, 4, 16])
def test_rows_of_za_in_later_revisions(revision, sme_vq):
    rows = rows_as_in(revision, sme_vq)
    inside = {ZA0 | row << 5 | i: "ENOENT" for row in range(len(rows)) for i in range(32)}
    inside |= {ZA0 | n << 5: Region(Store.SME_STATE, at, size, 256 - size) for n, (at, size) in enumerate(rows)}
    state = {"has_sme2": False, "za_is_on": True, "finalized": True}

    def rule(reg_id):
        return onereg.sme_reg_to_region(reg_id, reach(REVISIONS[revision], VectorLengths(1, sme_vq), **state))

    edges = (*inside, ZA0 - 1, ZA0 | len(rows) << 5)
    assert differences(rule, (), edges, inside, "EINVAL") == []


@pytest.mark.parametrize(
    ("revision", "without_za", "not_finalized", "row_bytes"),
    [
        ("rfc-v2", ["EPERM", None], "EPERM", 64),
        ("v3", ["EPERM", "EINVAL"], "EPERM", 48),
        ("v9", ["EPERM", "EINVAL"], "EPERM", 48),
        ("v10", ["EBUSY", "EBUSY"], "EPERM", 64),
        ("v12", ["EBUSY", "EBUSY"], "EPERM", 64),
    ],
)
def test_za_asks_for_svcr_za(revision, without_za, not_finalized, row_bytes):
    """m = 4, with SVCR.ZA off and on, not finalized and finalized. Where an ID reaches ZT0 it is like a row."""
    abi = REVISIONS[revision]
    regions = {ZA0: Region(Store.SME_STATE, 0, row_bytes, 256 - row_bytes)}
    if abi.zt0:
        regions[ZT0] = Region(Store.SME_STATE, 4096, 64, 0)
    for reg_id, region in regions.items():
        for (za_is_on, finalized), answer in zip(
            product((False, True), repeat=2), [*without_za, not_finalized, None], strict=True
        ):
            state = {"has_sme2": True, "za_is_on": za_is_on, "finalized": finalized}
            there = reach(abi, BOTH, **state)
            ended = outcome(lambda reg_id, there=there: onereg.sme_reg_to_region(reg_id, there), reg_id)
            assert ended == (answer or region)


# Core registers


def field_of(slot: int, has_vec: bool) -> int | None:
    """rfc-v2.md 1.3: the bytes of the register at a slot of struct kvm_regs."""
    fields = dict.fromkeys(range(0, 0x52, 2), 8) | {0xD4: 4, 0xD5: 4}
    return (fields if has_vec else fields | dict.fromkeys(range(0x54, 0xD4, 4), 16)).get(slot)


@pytest.mark.parametrize("features", [set(), {4}, {8}, {4, 8}], ids=["plain", "SVE", "SME", "SVE+SME"])
def test_every_core_slot_in_every_size(features):
    lengths = VectorLengths(2 if 4 in features else 0, 4 if 8 in features else 0)
    twin = model.Host([1, 2], [1, 2, 4]).create_vm().create_vcpu(0)
    twin.init([sum(1 << bit for bit in features), 0, 0, 0, 0, 0, 0])
    for slot, code in product(range(0x110), range(16)):
        reg_id = 0x6000_0000_0010_0000 | code << 52 | slot
        size = field_of(slot, bool(features))
        if slot >= 216 or slot + (1 << code) // 4 >= 216:
            expected = "ENOENT"
        else:
            expected = Region(Store.KVM_REGS, 4 * slot, size, 0) if size == 1 << code else "EINVAL"
        assert outcome(core_rule, reg_id, lengths) == expected, hex(reg_id)
        try:
            answer = len(twin.get(reg_id))
        except model.Refused as refusal:
            answer = errorcode[refusal.errno]
        assert answer == (size if isinstance(expected, Region) else expected), hex(reg_id)


def test_core_reg_size_at_every_slot():
    assert [onereg.core_reg_size(slot) for slot in range(0x110)] == [field_of(slot, False) for slot in range(0x110)]


@pytest.mark.parametrize(
    ("state", "sve", "finalized"),
    [("no SVE", False, False), ("SVE, not finalized", True, False), ("SVE, finalized", True, True)],
)
def test_every_read_that_linux_6_1_was_asked_for(state, sve, finalized):
    vcpu = Host(sve_vqs={1, 2, 4}, abi=MAINLINE_6_1).create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE} if sve else set())
    if finalized:
        vcpu.finalize(Feature.VEC)
    answers = {int(reg_id, 16): answer for answer, ids in ERRNOS[state]["get"].items() for reg_id in ids}
    assert len(answers) > 400
    for reg_id, answer in answers.items():
        result = outcome(vcpu.get_one_reg, reg_id)
        assert ("OK" if isinstance(result, bytes) else result) == answer, hex(reg_id)


@pytest.mark.parametrize(
    ("reg_id", "expected"),
    [
        (0x6040_0000_0010_00D4, "ENOENT"),  # FPSR with a size that reaches the end
        (0x6080_0000_0010_00A0, "ENOENT"),  # V19: too large a size; V of a vCPU with vectors
        (0x6020_0000_0010_00D7, "ENOENT"),  # the last slot, which is padding
        (0x6020_0000_0010_00D6, "EINVAL"),  # the padding before
        (0x6030_0000_0010_0054, "EINVAL"),  # V0 in a wrong size, with vectors
    ],
)
def test_order_of_checks_for_core_registers(reg_id, expected):
    assert outcome(core_rule, reg_id, BOTH) == expected


# The rest


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: sve_rule(Z0 | 5 << 5 | 1, RFC_V2, BOTH, True), "Z5 slice 1"),
        (lambda: sve_rule(P0 | 3 << 5, RFC_V2, PLAIN, True), "P3"),
        (lambda: sve_rule(FFR, RFC_V2, BOTH, False), "FFR"),
        (lambda: onereg.sve_reg_to_region(FFR, view(V12, BOTH, svcr=1, has_fa64=False), True), "FFR"),
        (lambda: sme_rule(ZA0 | 7 << 5, RFC_V2, PLAIN, True, True), "ZA.H[7]"),
        (lambda: sme_rule(ZT0, RFC_V2, BOTH, False, True), "ZT0"),
        (lambda: core_rule(0x6040_0000_0010_0058, BOTH), "V1"),
        (lambda: onereg.fault(Z0, 32, 31), "Z0"),
    ],
)
def test_a_refusal_names_the_register(call, name):
    with pytest.raises(KvmError) as caught:
        call()
    assert caught.value.strerror.startswith(f"{name}: ")


def test_an_id_of_another_architecture():
    for good in (0x6000_0000_0000_0000, 0x60F0_0000_FFFF_FFFF, Z0):
        assert outcome(onereg.check_arm64, good) is None
        for bit in chain(range(32, 52), range(56, 64)):
            assert outcome(onereg.check_arm64, good ^ 1 << bit) == "EINVAL"


@pytest.mark.parametrize("host_vqs", [{1, 2, 4, 8}, {2, 4}, {1}, {1, 2, 3, 5, 9}, set()], ids=str)
def test_every_set_of_lengths(host_vqs):
    """rfc-v2.md 2.3: accepted are exactly the host's lengths up to one of them."""
    accepted = {frozenset(vq for vq in host_vqs if vq <= top): top for top in host_vqs}
    some = [*range(1, 10), 16]
    for wanted in chain.from_iterable(combinations(some, count) for count in range(len(some) + 1)):
        for far in ((), (65,), (512,)):
            expected = accepted.get(frozenset(wanted + far), "EINVAL")
            assert outcome(onereg.check_vls, "SVE_VLS", wanted + far, frozenset(host_vqs)) == expected


def test_lengths_say_what_the_vcpu_has():
    assert [lengths.has_vec for lengths in (PLAIN, SVE_ONLY, SME_ONLY, BOTH)] == [False, True, True, True]
    assert [lengths.max_vq for lengths in (PLAIN, SVE_ONLY, SME_ONLY, BOTH, VectorLengths(8, 4))] == [0, 2, 4, 4, 8]
