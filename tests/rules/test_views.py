"""What userspace reaches, by revision, features and mode: the tables of abi-revisions.md 5.1, 5.2 and 6.7."""

import pytest

from kvmsve import Feature, Host, KvmError
from kvmsve.facts import regid
from kvmsve.facts.revisions import REVISIONS
from kvmsve.rules.views import VectorLengths, view

BY_MODE = [f"v{number}" for number in range(3, 13)]
AS_POSTED = BY_MODE[: BY_MODE.index("v10")]  # Z and P need SVE; FFR does not ask for FA64


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("svcr", range(4))
def test_sve_alone_is_the_same_everywhere(revision, svcr):
    for vq in (1, 2, 16):
        seen = view(REVISIONS[revision], VectorLengths(vq, 0), svcr & 2, has_fa64=False)
        assert (seen.vq, seen.has_zp, seen.has_ffr, seen.has_v) == (vq, True, True, False)


@pytest.mark.parametrize("revision", BY_MODE)
def test_the_view_follows_the_mode(revision):
    both, abi = VectorLengths(2, 4), REVISIONS[revision]
    assert [view(abi, both, svcr, has_fa64=True).vq for svcr in range(4)] == [2, 4, 2, 4]
    assert [view(abi, both, svcr, has_fa64=True).has_v for svcr in range(4)] == [False] * 4
    has_ffr = [view(abi, both, svcr, has_fa64=False).has_ffr for svcr in (0, 1)]
    assert has_ffr == [True, revision in AS_POSTED]


@pytest.mark.parametrize("revision", BY_MODE)
def test_v_comes_and_goes_without_sve(revision):
    alone, abi = VectorLengths(0, 4), REVISIONS[revision]
    assert [view(abi, alone, svcr, has_fa64=True).has_v for svcr in range(4)] == [True, False, True, False]
    has_zp = [view(abi, alone, svcr, has_fa64=True).has_zp for svcr in (0, 1)]
    assert has_zp == [False, revision not in AS_POSTED]


@pytest.mark.parametrize("revision", ["rfc-v2", "rfc-v2-r123"])
def test_rfc_v2_has_the_larger_length_in_every_mode(revision):
    for lengths, vq in (((2, 4), 4), ((4, 2), 4), ((0, 4), 4), ((3, 0), 3)):
        seen = {view(REVISIONS[revision], VectorLengths(*lengths), svcr, has_fa64=False) for svcr in range(4)}
        assert {(each.vq, each.has_zp, each.has_ffr, each.has_v) for each in seen} == {(vq, True, True, False)}


def listed(revision: str, features: set[Feature], svcr: int, fa64: bool = False) -> tuple[int, int, int]:
    """Entries of the core, SVE and SME blocks of a vCPU with SVE vq 2, SME vq 4 and SME2."""
    host = Host(sve_vqs={1, 2}, sme_vqs={1, 2, 4}, sme2=True, fa64=fa64, abi=REVISIONS[revision])
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init(features)
    vcpu.finalize(Feature.VEC)
    vcpu.set_one_reg(regid.SVCR, svcr.to_bytes(8, "little"))
    ids = vcpu.get_reg_list()
    if revision in ("v11", "v12"):
        assert vcpu.get_reg_list(len(ids)) == ids
    kinds = [regid.coproc(reg_id) for reg_id in ids]
    return kinds.count(regid.CORE), kinds.count(regid.SVE), kinds.count(regid.SME)


@pytest.mark.parametrize("revision", ["v11", "v12"])
def test_the_list_of_one_vcpu_follows_svcr(revision):
    """64 rows of ZA while SVCR.ZA is 1; FFR not in streaming mode without FA64 (abi-revisions.md 5.2)."""
    vcpu = Host(sve_vqs={1, 2}, sme_vqs={4}, abi=REVISIONS[revision]).create_vm().create_vcpu(0)
    vcpu.init(BOTH)
    vcpu.finalize(Feature.VEC)
    for svcr in (0, 3, 1, 2, 0):
        vcpu.set_one_reg(regid.SVCR, svcr.to_bytes(8, "little"))
        ids = vcpu.get_reg_list()
        assert sum(map(regid.is_za_row, ids)) == (64 if svcr & 2 else 0)
        assert (regid.FFR_ID in ids) == (not svcr & 1)


BOTH, ALONE = {Feature.SVE, Feature.SME}, {Feature.SME}


@pytest.mark.parametrize(
    ("revision", "features", "svcr", "fa64", "sizes"),
    [
        ("v12", BOTH, 0, False, (43, 50, 1)), ("v12", BOTH, 1, False, (43, 49, 1)),
        ("v12", BOTH, 2, False, (43, 50, 66)), ("v12", BOTH, 3, False, (43, 49, 66)),
        ("v12", BOTH, 1, True, (43, 50, 1)), ("v12", BOTH, 3, True, (43, 50, 66)),
        ("v12", ALONE, 0, False, (75, 0, 1)), ("v12", ALONE, 1, False, (43, 48, 1)),
        ("v12", ALONE, 3, False, (43, 48, 66)), ("v12", ALONE, 1, True, (43, 49, 1)),
        ("v10", BOTH, 0, False, (43, 50, 66)), ("v10", BOTH, 3, False, (43, 50, 66)),
        ("v10", ALONE, 1, False, (43, 0, 66)), ("v9", BOTH, 3, False, (43, 50, 0)),
        ("v9", ALONE, 0, False, (75, 0, 0)), ("v9", ALONE, 1, False, (43, 0, 0)),
        ("rfc-v2", BOTH, 1, False, (43, 50, 0)), ("rfc-v2", ALONE, 1, False, (43, 0, 0)),
    ],
)  # fmt: skip
def test_the_worked_sizes_of_the_register_list(revision, features, svcr, fa64, sizes):
    assert listed(revision, features, svcr, fa64) == sizes


def test_v10_counts_more_than_it_writes():
    host = Host(sme_vqs={1, 2, 4}, sme2=True, abi=REVISIONS["v10"])
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SME})
    vcpu.finalize(Feature.VEC)
    vcpu.set_one_reg(regid.SVCR, b"\1" + bytes(7))
    assert vcpu.listing.unwritten == 48
    with pytest.raises(KvmError, match="E2BIG") as caught:
        vcpu.get_reg_list(len(vcpu.listing.ids))
    assert caught.value.n == len(vcpu.listing.ids) + 48
