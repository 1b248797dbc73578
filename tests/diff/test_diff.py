"""The table of two revisions tells what abi-revisions.md (5.2, 6.7, 11) says, and no field of Abi escapes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import recorded
from places import RECORDINGS

import kvmsve
from kvmsve import Feature
from kvmsve.cli import main
from kvmsve.diff.revisions import Row, compare, differences, portrait, table
from kvmsve.facts import regid
from kvmsve.facts.abi import Abi, OtherRegs, UserFormat, ViewRule, Za, ZaGate
from kvmsve.facts.revisions import MAINLINE_6_12, MAINLINE_7_3, REVISIONS, RFC_V2, V10, V12
from kvmsve.report.table import lines_of_table

LENGTHS = frozenset({1, 2}), frozenset({1, 2, 4})
REC = RECORDINGS


@cache
def diff(first: str, second: str) -> dict[str, tuple[str, str]]:
    """What the table has, by aspect and condition."""
    return said(compare(seen(REVISIONS[first]), seen(REVISIONS[second])))


@cache
def seen(revision: Abi) -> Any:
    return portrait(revision, LENGTHS)


def said(rows: list[Row]) -> dict[str, tuple[str, str]]:
    keyed = {", ".join(filter(None, (row.aspect, row.condition))): (row.first, row.second) for row in rows}
    assert len(keyed) == len(rows)
    return keyed


# What is known of the revisions


def test_v3_and_v4_differ_in_one_write() -> None:
    assert diff("v3", "v4") == {
        "SET of ID_AA64PFR1_EL1.SME to 0": ("EINVAL", "ok"),
        "writable ID registers, bits of them": ("41, 1391", "41, 1395"),
    }


def test_v4_and_v5_differ_in_numbers_and_in_a_set_of_svcr() -> None:
    assert diff("v4", "v5") == {
        "KVM_VCPU_MAX_FEATURES": ("9", "10"),
        "KVM_ARM_VCPU_SME": ("8", "9"),
        "KVM_CAP_ARM_SME": ("239", "240"),
        "feature bits that INIT takes alone": ("0 1 2 3 4 8", "0 1 2 3 4 8 9"),
        "FPSR after a change of SM": ("kept", "0x800009f"),
        "FPMR after a change of SM": ("kept", "zero"),
        "ZA after a change of ZA": ("kept", "zero"),
        "Z after a change of SM": ("other registers' bytes", "zero"),
        "P after a change of SM, SM=1": ("other registers' bytes", "zero"),
        "SET of SVCR to 4": ("reads back 4", "EINVAL"),
    }


def test_v5_and_v6_differ_in_the_capability() -> None:
    assert diff("v5", "v6") == {"KVM_CAP_ARM_SME": ("240", "243")}


def test_v7_and_v8_do_not_differ() -> None:
    assert diff("v7", "v8") == {}
    assert diff("v11", "v12") == {}


def test_v8_and_v9_differ_in_the_id_of_sme_vls() -> None:
    assert diff("v8", "v9") == {
        "KVM_CAP_ARM_SME": ("244", "247"),
        "ID of SME_VLS": ("0x606000000017ffff", "0x606000000017fffe"),
    }


@pytest.mark.parametrize(
    ("aspect", "v9", "v10"),
    [
        ("ID of ZT0", "none", "0x6060000000170600"),
        ("GET of ZA.H[0], with SME, after FINALIZE, ZA=0", "EINVAL", "EBUSY"),
        ("GET of ZA.H[0], with SME, before FINALIZE, ZA=0", "EPERM", "EBUSY"),
        ("GET of ZA.H[63] (last), after FINALIZE, ZA=1", "EINVAL", "ok"),
        ("GET of ZT0, after FINALIZE, ZA=1, SME2", "EINVAL", "ok"),
        ("GET of ZT0, with SME, after INIT, ZA=0, SME2", "EINVAL", "EBUSY"),
        ("GET of a ZA row", "returns nothing", "returns it"),
        ("a ZA row after a GET", "zero", "kept"),
        ("SET of ZA.H[1] arrives at", "row 0, byte 48: 48 bytes", "row 1, byte 0: 64 bytes"),
        ("SET of ZA.H[0], ZA.H[32] arrives at", "row 0, byte 0: 48 bytes", "row 0, byte 0: 64 bytes"),
        ("GET of Z0, P0, SME alone, after FINALIZE, SM=1", "ENOENT", "ok"),
        ("GET of FFR, SVE+SME, after FINALIZE, SM=1, no FA64", "ok", "ENOENT"),
        ("core/SVE/SME/other, SVE+SME", "43/50/0/188", "43/50/66/188"),
        ("core/SVE/SME/other, SME alone, SM=1", "43/0/0/187", "43/0/66/187, 48 counted only"),
    ],
)
def test_v9_and_v10(aspect: str, v9: str, v10: str) -> None:
    assert diff("v9", "v10")[aspect] == (v9, v10)


@pytest.mark.parametrize(
    ("aspect", "v10", "v12"),
    [
        ("core/SVE/SME/other, SVE+SME, SM=0, ZA=0", "43/50/66/188", "43/50/1/188"),
        ("core/SVE/SME/other, SVE+SME, SM=1, ZA=0", "43/50/66/188", "43/49/1/188"),
        ("core/SVE/SME/other, SVE+SME, SM=1, ZA=1", "43/50/66/188", "43/49/66/188"),
        ("core/SVE/SME/other, SME alone, SM=0, ZA=0", "75/0/66/187", "75/0/1/187"),
        ("core/SVE/SME/other, SME alone, SM=1, ZA=0", "43/0/66/187, 48 counted only", "43/48/1/187"),
        ("core/SVE/SME/other, SME alone, SM=1, ZA=1", "43/0/66/187, 48 counted only", "43/48/66/187"),
        ("ZA.H[0] listed, with SME, ZA=0", "yes", "no"),
        ("FFR listed, SVE+SME, SM=1, no FA64", "yes", "no"),
        ("SET of ZA.H[32] arrives at", "row 0, byte 0: 64 bytes", "row 32, byte 0: 64 bytes"),
        ("GET of ZA.H[n] is EINVAL from n =", "2048", "256"),
        ("SMIDR_EL1 of a new VM", "zero", "the host's"),
    ],
)
def test_v10_and_v12(aspect: str, v10: str, v12: str) -> None:
    assert diff("v10", "v12")[aspect] == (v10, v12)
    assert not [aspect for aspect in diff("v10", "v12") if "after a change" in aspect]


@pytest.mark.parametrize(
    ("aspect", "rfc", "v12"),
    [
        ("bytes of Z, SVE+SME, SM=0", "64", "32"),
        ("GET of V0, SME alone, after INIT, SM=0", "EINVAL", "ok"),
        ("GET of Z0, P0, FFR, SME alone, after FINALIZE, SM=0", "ok", "ENOENT"),
        ("GET of ZA.H[0], ZA.H[63] (last), with SME, after FINALIZE, ZA=0", "ok", "EBUSY"),
        ("GET of ZT0, with SME, after FINALIZE, ZA=0, SME2", "ok", "EBUSY"),
        ("GET of FPMR, after INIT", "ENOENT", "ok"),
        ("FPSR after a change of SM", "kept", "0x800009f"),
        ("Z, P after a change of SM, after FINALIZE", "kept", "zero"),
        ("Z after a change of SM, after KVM_RUN", "other registers' bytes", "zero"),
        ("ZT0, ZA after a change of ZA", "kept", "zero"),
        ("GET of ZT0, SME2 hidden", "ok", "ENOENT"),
    ],
)
def test_rfc_v2_and_v12(aspect: str, rfc: str, v12: str) -> None:
    assert diff("rfc-v2", "v12")[aspect] == (rfc, v12)


@pytest.mark.parametrize(
    ("aspect", "r1", "rfc"),
    [
        ("FINALIZE, SME alone", "EIO", "ok"),
        ("KVM_RUN, no vectors", "host crash", "ok"),
        ("INIT with SME on a host without", "ok", "EINVAL"),
        ("GET of ZA.H[0], ZA.H[63] (last), SVE+SME, after FINALIZE", "EINVAL", "ok"),
        ("GET of SMIDR_EL1, with SME, after INIT", "host crash", "ok"),
    ],
)
def test_what_the_repairs_of_rfc_v2_repair(aspect: str, r1: str, rfc: str) -> None:
    assert diff("rfc-v2-r1", "rfc-v2")[aspect] == (r1, rfc)


def without_fpmr(first: bool) -> dict[str, tuple[str, str]]:
    """The rows of a host with FPMR beside the same with a kernel that does not know it."""
    rows = {"FPMR listed": ("yes", "no"), "GET of FPMR, after INIT": ("ok", "ENOENT")}
    return rows if first else {name: pair[::-1] for name, pair in rows.items()}


def test_a_vcpu_without_sme_is_nearly_the_same_in_mainline_and_in_rfc_v2() -> None:
    assert diff("mainline-6.12", "rfc-v2") == {
        "Linux": ("6.12", "6.7"),
        "KVM_VCPU_MAX_FEATURES": ("7", "9"),
        "KVM_ARM_VCPU_SME": ("none", "8"),
        "KVM_CAP_ARM_SME": ("none", "231"),
        "ID of SME_VLS": ("none", "0x606000000017ffff"),
        "ID of ZT0": ("none", "0x6060000000170600"),
        "feature bits that INIT takes alone": ("0 1 2 3 4", "0 1 2 3 4 8"),
        "INIT, with SME": ("no such feature", "ok"),
        "core/SVE/SME/other, SVE alone": ("43/50/0/186", "43/50/0/185"),
        "core/SVE/SME/other, no vectors": ("75/0/0/185", "75/0/0/184"),
        "writable ID registers, bits of them": ("35, 1111", "32, 1065"),
        **without_fpmr(first=True),
    }


def test_mainline_6_1_and_6_12() -> None:
    assert diff("mainline-6.1", "mainline-6.12") == {
        "Linux": ("6.1", "6.12"),
        "KVM_CREATE_VCPU of 2^32": ("ok", "EINVAL"),
        "INIT with SVE beside a vCPU without": ("ok", "EINVAL"),
        "core/SVE/SME/other, SVE alone": ("43/50/0/168", "43/50/0/186"),
        "core/SVE/SME/other, no vectors": ("75/0/0/167", "75/0/0/185"),
        "SET of ID_AA64ZFR0_EL1 to 0": ("EINVAL", "ok"),
        "writable ID registers, bits of them": ("1, 8", "35, 1111"),
        "fields of ID registers with a least value": ("0", "3"),
        "SET of ID_AA64PFR0_EL1.CSV3 after KVM_RUN": ("EINVAL", "EBUSY"),
        **without_fpmr(first=False),
    }


def test_mainline_7_2_to_7_4() -> None:
    strict = "INIT with PMU_V3 and PMU_V3_STRICT"
    assert diff("mainline-7.2", "mainline-7.3") == {
        "Linux": ("7.2", "7.3"), "KVM_VCPU_MAX_FEATURES": ("9", "10"), strict: ("ENOENT", "ok"),
    }  # fmt: skip
    failed = "SET of ID_AA64PFR0_EL1.CSV3 after a KVM_RUN that failed"
    assert diff("mainline-7.3", "mainline-7.4") == {"Linux": ("7.3", "7.4"), failed: ("EINVAL", "EBUSY")}


def test_mainline_6_12_and_7_2_list_in_another_order() -> None:
    first = diff("mainline-6.12", "mainline-7.2")["first system registers of the list"]
    assert first == ("TIMER_CTL, TIMER_CNT", "DBGBVR0_EL1, DBGBCR0_EL1")


def test_what_the_recorded_v10_has_of_v9() -> None:
    """The recordings of v10 were made with v9's ID registers (abi-revisions.md 11E, 22)."""
    assert diff("v10-recorded", "v10") == {
        "KVM_CAP_ARM_SME": ("252", "248"),
        "core/SVE/SME/other, SVE alone": ("43/50/0/185", "43/50/0/184"),
        "core/SVE/SME/other, no vectors": ("75/0/0/184", "75/0/0/183"),
        "SMIDR_EL1 listed, without SME": ("yes", "no"),
        "GET of SMIDR_EL1, without SME, after INIT": ("ok", "ENOENT"),
        "value of ID_AA64ZFR0_EL1, SME alone": ("0x0", "0x1"),
        "SET of SMIDR_EL1, without SME": ("EINVAL", "ENOENT"),
        "SET of SMIDR_EL1 with KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, without SME": ("sets all vCPUs", "ENOENT"),
        "SMIDR_EL1 of a new VM": ("the host's", "zero"),
    }


# What holds of every table


@pytest.mark.parametrize("name", REVISIONS)
def test_a_revision_does_not_differ_from_itself(name: str) -> None:
    assert diff(name, name) == {}


PAIRS = [("v10", "v12"), ("v4", "v12"), ("rfc-v2", "v12"), ("rfc-v2-posted", "v9"), ("mainline-7.3", "v12"),
         ("rfc-v2-r1", "rfc-v2-r123")]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_other_way_round_it_says_the_same(first: str, second: str) -> None:
    mirrored = {aspect: (theirs, ours) for aspect, (ours, theirs) in diff(second, first).items()}
    assert mirrored == diff(first, second)
    assert all(ours != theirs for ours, theirs in mirrored.values())


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_table_fits_two_screens(first: str, second: str) -> None:
    revisions = REVISIONS[first], REVISIONS[second]
    first, second = revisions
    rows = list(table(compare(*map(seen, revisions))))
    lines = list(lines_of_table(("", first.name, second.name), rows))
    assert len(lines) <= 66
    assert max(map(len, lines)) <= 140


# No field of Abi is missed

INVISIBLE = {"name", "summary", "zt0_allocation_bytes"}
INVISIBLE |= {"el2_refuses_sve", "sme_with_el2", "smprimap_is_zero"}  # no probe has EL2
INVISIBLE |= {"imp_id_cap"}  # the table tells what the capability does, not its number
BASES = {
    "one_feature_set_per_vm": MAINLINE_6_12, "user_format": RFC_V2, "sme_without_sve": RFC_V2,
    "reset_zeroes_sme_only": RFC_V2, "sme_vls": V10, "has_strict_pmu": MAINLINE_7_3,
}  # fmt: skip


def others(value: Any) -> Iterator[Any]:
    """Other values than this for a field."""
    match value:
        case bool():
            yield not value
        case Enum():
            yield from (each for each in type(value) if each is not value)
        case Za():
            yield from (replace(value, **change) for change in (
                {"vq_bias": -1}, {"window_modulus": 8192}, {"row_modulus": 32}, {"get_writes": True},
                *({"gate": gate} for gate in ZaGate if gate is not value.gate),
            ))  # fmt: skip
        case OtherRegs():
            yield from (replace(value, **change) for change in (
                {"fw_bitmaps": 3}, {"first": tuple(regid.TIMERS)}, {"absent": frozenset({regid.CPACR_EL1})},
                {"by_id_regs": False}, {"ccsidrs": (0, 1, 2)},
            ))  # fmt: skip
        case (int(), int()):
            yield (6, 1)
        case tuple():
            yield value[1:]
        case int():
            yield value + 1


def changes() -> Iterator[Any]:
    for field in fields(Abi):
        base = BASES.get(field.name, V12)
        value = V10.sme_cap if field.name == "sme_cap" else getattr(base, field.name)
        found = [other for other in others(value) if field.name not in INVISIBLE]
        assert found or field.name in INVISIBLE, field.name
        yield from (pytest.param(base, field.name, other, id=f"{field.name}-{n}") for n, other in enumerate(found))


@pytest.mark.parametrize(("base", "field", "value"), list(changes()))
def test_a_change_of_any_field_shows(base: Abi, field: str, value: object) -> None:
    changed = replace(base, **{field: value})
    assert compare(seen(base), seen(changed))


def test_the_view_and_the_user_format_show_in_the_lengths() -> None:
    larger = said(differences(V12, replace(V12, view=ViewRule.LARGER), LENGTHS))
    assert larger["bytes of Z, SVE+SME, SM=0"] == ("32", "64")
    never = said(differences(RFC_V2, replace(RFC_V2, user_format=UserFormat.NEVER), LENGTHS))
    assert never["bytes of Z after KVM_RUN, SVE+SME, SM=0"] == ("32", "64")


# Under a recording


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    code = main(["diff", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_recording_of_v4_shows_what_v5_flushes(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(capsys, "v4", "v5", "--recording", REC / "v4-s2m4.jsonl.xz")
    assert code == 1
    assert cells(lines[0]) == ["", "v4", "v5"]
    assert lines[1] == "321 of 6241 operations differ"
    assert [cells(line) for line in lines[2:5]] == [
        ["line 244, get of FPSR, byte 0 (36 alike)", "0x00", "0x9f"],
        ["line 1170, get of FPMR, byte 0 (16 alike)", "0x2a", "0x00"],
        ["line 1171, get of Z0, byte 0 (180 alike)", "0x81", "0x00"],
    ]
    assert lines[-1] == "no vCPU is open at the end"


@pytest.mark.parametrize("name", ["v4-s2m4", "v9-s4m2", "rfc-r1-s2m4", "linux73-vq1"])
def test_a_recording_goes_the_same_under_the_same_revision(capsys: pytest.CaptureFixture[str], name: str) -> None:
    revision = recorded.lines(name)[0]["abi"]
    code, lines = printed(capsys, revision, revision, "--recording", REC / f"{name}.jsonl.xz")
    assert (code, len(lines)) == (0, 1)
    assert lines[0].startswith("no difference in ")


@pytest.mark.parametrize(("first", "second"), [("v7", "v8"), ("v8", "v9"), ("v3", "v4")])
def test_numbers_that_moved_are_no_difference(capsys: pytest.CaptureFixture[str], first: str, second: str) -> None:
    """SME_VLS has another ID in v9, and the recorded kernel another feature bit than v3."""
    code, _ = printed(capsys, first, second, "--recording", REC / "v4-s2m4.jsonl.xz")
    assert code == 0


def test_gates_of_za_differ_by_errno(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(capsys, "v9", "v10-recorded", "--recording", REC / "v9-abi.jsonl.xz")
    assert code == 1
    assert lines[1] == "2809 of 29973 operations differ, 60 kinds not shown"
    assert ["line 4603, get of ZA.H[0] (321 alike)", "EPERM", "EBUSY"] in [cells(line) for line in lines]
    assert ["line 4605, get of ZT0 (48 alike)", "EINVAL", "EBUSY"] in [cells(line) for line in lines]
    assert len(lines) == 13


def session(path: Path, abi: Abi) -> None:
    """A vCPU whose Z registers are set, which then is streaming, and stays open."""
    with kvmsve.record(path, kvmsve.Host(sve_vqs={1, 2}, sme_vqs={4}, sme2=True, abi=abi)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init({Feature.SVE, Feature.SME})
        vcpu.finalize(Feature.VEC)
        for n in range(32):
            vcpu.set_one_reg(regid.zreg_id(n), b"\x11" * 256)
        vcpu.set_one_reg(regid.SVCR, b"\1\0\0\0\0\0\0\0")


def test_registers_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session(tmp_path / "session.jsonl", REVISIONS["v4"])
    code, lines = printed(capsys, "rfc-v2", "v12", "--recording", tmp_path / "session.jsonl")
    assert code == 1
    end = [cells(line) for line in lines[lines.index("registers at the end") + 1 :]]
    assert ["vCPU 0: Z0-Z31", "64 bytes", "zero"] in end
    assert ["vCPU 0: FPSR", "0x0", "0x800009f"] in end
    assert lines[1] == "0 of 37 operations differ"


@pytest.mark.parametrize(("revisions", "end"), [(("v12", "rfc-v2"), 2), (("rfc-v2", "v12"), 1)])
def test_a_guest_that_gets_less_far_is_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], revisions: tuple[str, str], end: int
) -> None:
    """RFC v2 knows no FPMR: there its write, of which the caller sees nothing, ends the guest's part."""
    with kvmsve.record(tmp_path / "session.jsonl", kvmsve.Host(sve_vqs={1}, fpmr=True, abi=V12)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init({Feature.SVE})
        vcpu.finalize(Feature.VEC)
        with vcpu.run() as guest:
            guest.fpmr = 5
    code, lines = printed(capsys, *revisions, "--recording", tmp_path / "session.jsonl")
    assert code == 1
    assert lines[1] == "1 of 5 operations differ"
    assert (cells(lines[2])[end], cells(lines[2])[3 - end]) == ("guest step 0: UNDEFINED", "nothing more")


def test_nothing_is_done_after_a_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with kvmsve.record(tmp_path / "session.jsonl", kvmsve.Host(sve_vqs={1}, sme_vqs={1}, abi=RFC_V2)) as host:
        vcpu = host.create_vm().create_vcpu(0)
        vcpu.init({Feature.SVE, Feature.SME})
        vcpu.get_one_reg(regid.SMIDR_EL1)
        vcpu.finalize(Feature.VEC)
    code, lines = printed(capsys, "rfc-v2", "rfc-v2-r1", "--recording", tmp_path / "session.jsonl")
    assert code == 1
    assert lines[1] == "1 of 4 operations differ"
    assert cells(lines[2])[1:] == [
        "success",
        "a crash of the host",
    ]
    assert lines[3] == "a host has crashed there, nothing more was done"


# The command


def test_the_table_has_headings_and_both_names(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = printed(capsys, "v3", "v4")
    assert code == 1
    assert cells(lines[0]) == ["", "v3", "v4"]
    assert lines[1] == "ID registers"
    assert cells(lines[2]) == ["SET of ID_AA64PFR1_EL1.SME to 0", "EINVAL", "ok"]
    assert len(lines) == 4


def test_lengths_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = printed(capsys, "rfc-v2", "v12", "--sve", "1,2,4", "--sme", "1")
    assert ["bytes of Z, SVE+SME, SM=1", "64", "16"] in [cells(line) for line in lines]


def test_no_difference_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "v7", "v8") == (0, ["no difference"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["v4"], "the following arguments are required: REV"),
        (["v4", "v44"], "no revision is called 'v44'; did you mean v4?"),
        (["v4", "v5", "--sve", "2"], "a CPU with SVE has the length vq 1"),
        (["v4", "v5", "--sme", "3"], "no CPU has the SME length vq 3"),
        (["v4", "v5", "--recording", "nowhere"], "nowhere: No such file"),
        (["v4", "v5", "--recording", __file__], "is this a recording?"),
    ],
)
def test_wrong_input_is_one_line_and_2(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([sys.executable, "-m", "kvmsve", "diff", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert complaint in done.stderr
