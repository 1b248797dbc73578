"""The revisions of the ABI: their numbers in the spec and in the recordings, and that data alone makes a new one."""

import errno
import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
from places import RECORDINGS

import kvmsve
from kvmsve import Feature, Host, KvmError
from kvmsve.facts.abi import SmidrRule, UserFormat, Za, ZaGate
from kvmsve.facts.revisions import REVISIONS, RFC_V2, RFC_V2_POSTED, V10_RECORDED, abi

FILES = sorted(RECORDINGS.glob("*.xz"))
MAINLINE = ["mainline-6.1", "mainline-6.12", "mainline-7.2", "mainline-7.3", "mainline-7.4"]
LATER = [*(f"v{number}" for number in range(3, 13)), "v10-recorded"]
RFC = ["rfc-v2-posted", "rfc-v2-r1", "rfc-v2-r123", "rfc-v2"]
SME_VLS = 0x6060_0000_0017_FFFF


def header_of(path: Path) -> dict:
    with lzma.open(path, "rt") as lines:
        return json.loads(next(lines))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.partition(".")[0])
def test_a_recorded_kernel_knows_the_feature_bits_below_max_features(path):
    header = header_of(path)
    if header["abi"] in (*MAINLINE, *RFC):
        assert header["host"]["features_valid"] == list(range(abi(header["abi"]).max_features))


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.name.startswith(("linux", "rfc"))],
    ids=lambda path: path.name.partition(".")[0],
)
def test_sme_vls_is_the_only_512_bit_sme_register_that_a_recorded_kernel_has(path):
    with lzma.open(path, "rt") as lines:
        revision = abi(json.loads(next(lines))["abi"])
        ids = {
            json.loads(line)["id"]
            for line in lines
            if '"op":"get"' in line and '"6060000000' in line and '"ret":0' in line
        }
    assert {reg_id for reg_id in ids if reg_id[8:12] == "0017"} <= {f"{revision.sme_vls or 0:016x}"}


def test_a_recording_was_read_for_these():
    recorded = {header_of(path)["abi"] for path in FILES}
    assert recorded == {*MAINLINE, *RFC, "v4", "v9", "v10", "v12"} - {
        "mainline-6.12",
        "mainline-7.2",
        "mainline-7.4",
        "rfc-v2",
    }


@pytest.mark.parametrize(
    ("name", "max_features"),
    [("mainline-6.1", 7), ("mainline-6.12", 7), ("mainline-7.2", 9), ("mainline-7.3", 10), ("mainline-7.4", 10),
     ("rfc-v2-posted", 8), ("rfc-v2-r1", 9), ("rfc-v2-r123", 9), ("rfc-v2", 9)],
)  # fmt: skip
def test_abi_finds_every_revision_by_its_name(name, max_features):
    assert abi(name).name == name
    assert abi(name).max_features == max_features
    assert REVISIONS[name] is abi(name)


def test_the_package_names_every_revision():
    exported = {value for name in kvmsve.__all__ if isinstance(value := getattr(kvmsve, name), kvmsve.Abi)}
    exported.add(V10_RECORDED)
    assert {revision.name for revision in exported} == {*REVISIONS} == {*MAINLINE, *RFC, *LATER}
    assert len({revision.summary for revision in exported}) == len(exported)


@pytest.mark.parametrize(
    ("wrong", "near"), [("rfc-v2-r12", "rfc-v2-r1"), ("rfcv2", "rfc-v2"), ("mainline-6.2", "mainline-6.1")]
)
def test_a_wrong_name_is_answered_with_a_near_one(wrong, near):
    with pytest.raises(ValueError, match=rf"{wrong}'; did you mean {near}"):
        abi(wrong)


def test_a_name_unlike_any_is_answered_with_all():
    with pytest.raises(ValueError, match="no revision is called 'xyzzy'") as caught:
        abi("xyzzy")
    assert all(name in str(caught.value) for name in (*MAINLINE, *RFC))


@pytest.mark.parametrize("name", MAINLINE)
def test_mainline_has_no_sme(name):
    revision = abi(name)
    assert not revision.has_sme
    assert (revision.sme_feature, revision.sme_cap, revision.sme_vls) == (None, None, None)
    assert (revision.za, revision.zt0) == (None, None)
    assert revision.user_format is UserFormat.NEVER


def test_what_6_1_did_otherwise():
    """Linux 6.7 bound all vCPUs of a VM to one feature set, and fixes ID registers in the first run."""
    assert [abi(name).one_feature_set_per_vm for name in (*MAINLINE, *RFC)] == [False, *[True] * 8]
    assert [abi(name).id_regs_freeze for name in (*MAINLINE, *RFC)] == [False, *[True] * 8]


@pytest.mark.parametrize("name", RFC)
def test_the_numbers_of_section_1_1(name):
    revision = abi(name)
    assert revision.has_sme
    assert (revision.sme_feature, revision.sme_cap, revision.sme_vls) == (8, 231, SME_VLS)
    assert revision.zt0_allocation_bytes == 512


def test_the_repairs_of_section_8():
    """One column per revision in the order of RFC; R3 turns the rule of Q6 and Q17 into a question about the vCPU."""
    posted, never = Za(ZaGate.UNREACHABLE, vq_bias=-1), UserFormat.HOST_HAS_SME
    columns = {
        "sme_without_sve": [False, False, True, True],  # R2
        "user_format": [never, never, UserFormat.VCPU_HAS_SME, UserFormat.VCPU_HAS_SME],  # R3
        "reset_zeroes_sme_only": [False, False, False, True],  # R4
        "za": [posted, posted, posted, Za(ZaGate.OPEN)],  # R5
        "zt0": [None, None, None, 0x6060_0000_0017_0600],  # R5
        "init_checks_host_sme": [False, False, False, True],  # R1, second half
        "smidr": [SmidrRule.OOPS, SmidrRule.OOPS, SmidrRule.OOPS, SmidrRule.ZERO],  # Q27
    }
    for field, expected in columns.items():
        assert [getattr(abi(name), field) for name in RFC] == expected, field
    assert (Za(ZaGate.OPEN).row_modulus, Za(ZaGate.OPEN).window_modulus) == (8192, 8192)


def test_a_revision_cannot_be_changed():
    with pytest.raises(AttributeError):
        RFC_V2.max_features = 10
    with pytest.raises(AttributeError):
        RFC_V2.za.vq_bias = -1
    assert RFC_V2 != RFC_V2_POSTED == replace(RFC_V2_POSTED)


# A revision that differs in data alone is one replace() away


def vcpu_of(revision: kvmsve.Abi, words: set | list, finalize: bool = True, **host) -> kvmsve.Vcpu:
    host = Host(**{"sve_vqs": {1, 2}, "sme_vqs": {1, 2, 4}, "abi": revision} | host)
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init(words)
    if finalize:
        vcpu.finalize(Feature.VEC)
    return vcpu


def test_sme_at_another_feature_bit():
    moved = replace(RFC_V2, sme_feature=9, max_features=10)
    assert Feature.SME.bit(moved) == 9
    for words in ({Feature.SVE, Feature.SME}, {4, 9}, [1 << 9 | 1 << 4, 0, 0, 0, 0, 0, 0]):
        assert vcpu_of(moved, words).lengths == (2, 4)
    for revision, bit, refusal in ((moved, 8, errno.EINVAL), (moved, 10, errno.ENOENT), (RFC_V2, 9, errno.ENOENT)):
        with pytest.raises(KvmError) as caught:
            vcpu_of(revision, {4, bit})
        assert caught.value.errno == refusal


def test_sme_vls_at_another_id():
    moved = vcpu_of(replace(RFC_V2, sme_vls=SME_VLS - 1), {Feature.SME})
    assert moved.get_one_reg(SME_VLS - 1).hex() == "0b" + "00" * 63
    with pytest.raises(KvmError) as caught:
        moved.get_one_reg(SME_VLS)
    assert caught.value.errno == errno.EINVAL


def test_sme_under_another_capability():
    host = Host(sve_vqs={1}, sme_vqs={1}, abi=replace(RFC_V2, sme_cap=247))
    assert [host.check_extension(cap) for cap in (70, 170, 231, 247)] == [1, 1, 0, 1]
    assert [Host(sve_vqs={1}, sme_vqs={1}).check_extension(cap) for cap in (70, 170, 231, 247)] == [1, 1, 1, 0]


def test_zt0_with_the_room_it_needs():
    tight = vcpu_of(replace(RFC_V2, zt0_allocation_bytes=64), {Feature.SVE, Feature.SME}, sme2=True)
    assert len(tight.sme_state) == 64 * 64 + 64
    assert len(vcpu_of(RFC_V2, {Feature.SVE, Feature.SME}, sme2=True).sme_state) == 4608  # rfc-v2.md 1.7


def test_no_user_format():
    z0 = 0x6080_0000_0015_0000
    for user_format, kept in ((UserFormat.NEVER, 64), (UserFormat.VCPU_HAS_SME, 32)):
        vcpu = vcpu_of(replace(RFC_V2, user_format=user_format), {Feature.SVE, Feature.SME})
        vcpu.set_one_reg(z0, b"\x5a" * 256)
        with vcpu.run():
            pass
        assert vcpu.get_one_reg(z0) == b"\x5a" * kept + bytes(256 - kept)


def test_other_za_rows():
    short = vcpu_of(replace(RFC_V2, za=Za(ZaGate.OPEN, vq_bias=-1)), {Feature.SME})
    assert len(short.get_one_reg(0x6080_0000_0017_0000 | 47 << 5)) == 256
    with pytest.raises(KvmError):
        short.get_one_reg(0x6080_0000_0017_0000 | 48 << 5)
    assert len(vcpu_of(RFC_V2, {Feature.SME}).get_one_reg(0x6080_0000_0017_0000 | 63 << 5)) == 256
