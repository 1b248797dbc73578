"""Lint: what a recorded VMM loses or risks when it saves and restores a vCPU on a kernel of some revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..facts import Abi
from ..recording import Recording
from ..state import describe, losses
from .findings import Hit, Rule
from .rehearsal import Rehearsal, Stretch
from .restore_rules import RESTORE_RULES
from .save_rules import SAVE_RULES, is_save

RULES = (*SAVE_RULES, *RESTORE_RULES)


class Finding(NamedTuple):
    """A rule that a VMM's calls break, first at `line`; the consequence names registers and bytes."""

    line: int
    vcpu: int
    rule: Rule
    consequence: str


class Transfer(NamedTuple):
    """A vCPU that was saved, the new one that continues it, and what that one lacks in the end."""

    saved: int
    restored: int
    lost: str

    def __str__(self) -> str:
        return f"vCPU {self.saved} saved, vCPU {self.restored} restored, in all lost: {self.lost or 'nothing'}"


class Report(NamedTuple):
    findings: list[Finding]
    transfers: list[Transfer]


def lint(recording: Recording, revision: Abi) -> Report:
    """All that the rules find, in the order of lines. RecordingError as for a replay."""
    stretches = list(Rehearsal(recording, revision).stretches())
    findings = (_finding(stretch, rule, hit) for stretch in stretches for rule in RULES if (hit := rule.find(stretch)))
    return Report(sorted(findings, key=lambda finding: finding.line), list(_transfers(stretches)))


def _finding(stretch: Stretch, rule: Rule, hit: Hit) -> Finding:
    unsaved = describe((loss for loss in hit.lost if loss.held is None), stretch.end.name)
    lost = describe((loss for loss in hit.lost if loss.held is not None), stretch.end.name)
    consequences = [f"not saved: {unsaved}"] * bool(unsaved) + [f"lost: {lost}"] * bool(lost)
    return Finding(hit.line, stretch.vcpu, rule, "; ".join(consequences) or "lost: nothing in this recording")


def _transfers(stretches: list[Stretch]) -> Iterator[Transfer]:
    for stretch in stretches:
        if stretch.source is not None and is_save(stretch.source) and stretch.sets:
            lost = losses(stretch.source.start.live, stretch.end.registers)
            yield Transfer(stretch.source.vcpu, stretch.vcpu, describe(lost, stretch.source.start.name))
