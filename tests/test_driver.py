"""The random programs: what they reach, and that a mistake in the package leaves a short recording that shows it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import programs
import pytest
import recorded
from command_line import Capture, run
from driver import Program, Step, check, drawn, record, shortest, shrunk
from programs import some_host

from kvmsve.facts import layout
from kvmsve.facts.revisions import REVISIONS
from kvmsve.machine import ownership, registers
from kvmsve.machine.cpu import CpuRegs
from kvmsve.machine.guest import Guest
from kvmsve.machine.regfile import RegFile
from kvmsve.machine.system import SystemRegs
from kvmsve.machine.vcpu import Vcpu
from kvmsve.rules import onereg
from kvmsve.rules.reglist import Listing


def test_hosts_are_of_every_kind() -> None:
    hosts = [some_host(random.Random(seed))[1] for seed in range(500)]
    assert {host.revision for host in hosts} == set(REVISIONS)
    sve_sets, sme_sets = ({host.vqs[kind] for host in hosts} for kind in (0, 1))
    assert len(sve_sets) > 50
    assert len(sme_sets) > 20
    assert any(not {vq & (vq - 1) for vq in vqs} <= {0} for vqs in sve_sets)
    kinds = {(*host.has, host.sme2, host.fa64) for host in hosts}
    with_sme = {(sve, True, sme2, fa64) for sve in (True, False) for sme2 in (True, False) for fa64 in (True, False)}
    assert kinds == with_sme | {(True, False, False, False), (False, False, False, False)}


def test_recording_of_the_model_replays(tmp_path: Path, capsys: Capture) -> None:
    programs = [Program(seed, drawn(seed).steps[:60]) for seed in range(60)]
    paths = [record(program, tmp_path / f"{program.seed}.jsonl") for program in programs]
    code, out, _ = run(capsys, "replay", *paths)
    assert (code, out.count("ok  ")) == (0, len(paths)), out
    assert len({recorded.parse(path)[0]["abi"] for path in paths}) > 14


# Mistakes


def change(owner: Any, name: str, made: Callable[[Any], Any]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, made(getattr(owner, name)))


def no_slice_check(rule: Any) -> Any:
    return lambda reg_id, *known, **more: rule(reg_id & ~0x1F, *known, **more)


def last_entry_gone(listing: Any) -> Any:
    return property(lambda vcpu: Listing(listing.fget(vcpu).ids[:-1]))


def value_kept(write: Any) -> Any:
    return lambda regs, reg_id, value: None if reg_id == programs.model.SMCR else write(regs, reg_id, value)


def failure_forgotten(fails: Any) -> Any:
    return lambda regs: fails(regs) and False


def never_owned(load: Any) -> Any:
    def loaded(cpu: Any) -> None:
        load(cpu)
        cpu._ownership.state = ownership.FpState.HOST_OWNED

    return loaded


MISTAKES = {
    "slice accepted": change(onereg, "sve_reg_to_region", no_slice_check),
    "list without its end": change(Vcpu, "listing", last_entry_gone),
    "SMCR_EL1 not written": change(SystemRegs, "_write", value_kept),
    "allocation succeeds": change(RegFile, "allocation_fails", failure_forgotten),
    "owner after a use": change(CpuRegs, "load", never_owned),
    "tail not cleared": change(RegFile, "rewrite", lambda _: rewrite_without_tail),
    "ZT0 always there": change(Guest, "_zt0_start", lambda _: lambda guest: layout.za_bytes(1)),
    "another exception": change(registers, "fault", lambda _: lambda *_: {}["a mistake"]),
}


def rewrite_without_tail(regs: Any, dst_vq: int, src_vq: int) -> None:
    if not regs.allocation_fails():
        kept = bytes(regs.sve_state.view[layout.sve_state_bytes(dst_vq) :])
        REWRITE(regs, dst_vq, src_vq)
        regs.sve_state.view[layout.sve_state_bytes(dst_vq) :] = kept


REWRITE = RegFile.rewrite


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_leaves_a_short_recording_that_replays_to_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    with monkeypatch.context() as seeded:
        MISTAKES[mistake](seeded)
        with pytest.raises(AssertionError) as caught:
            any(check(seed, tmp_path) == 0 for seed in range(500))
        path = Path(re.search(r"kvmsve replay (.*?)`", str(caught.value))[1])
        if mistake == "another exception":
            with pytest.raises(KeyError, match="a mistake"):
                run(capsys, "replay", path)
        else:
            code, out, _ = run(capsys, "replay", path)
            assert (code, out.startswith("DIFFERS"), f"{path}, line " in out) == (1, True, True)
    assert int(re.search(r"cut to (\d+) steps", str(caught.value))[1]) <= 8
    assert run(capsys, "replay", path)[0] == 0


def test_program_is_cut_to_what_fails() -> None:
    assert shortest((), bool) == ()
    for needed in ({0}, {9}, {3, 4}, {0, 5, 9}, set()):
        assert shortest(tuple(range(10)), lambda kept, needed=needed: needed <= set(kept)) == tuple(sorted(needed))


def test_guest_is_cut_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Program] = []

    def differs(program: Program) -> bool:
        seen.append(program)
        return any(7 in step.guest for step in program.steps)

    monkeypatch.setattr("driver.differs", differs)
    steps = [Step(0, programs.get, n) for n in range(5)]
    small = shrunk(Program(1, (*steps, Step(0, programs.run, 6, tuple(range(12))), *steps)))
    assert small == Program(1, (Step(0, programs.run, 6, (7,)),))
    assert len(seen) < 40
