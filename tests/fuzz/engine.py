"""A target under atheris: so many executions, progress, and what they came to."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Protocol

import atheris

PROGRESS_SECONDS = 15
SLOW_SECONDS = 20  # one execution that takes longer is a finding
MEMORY_MB = 2048
UNCOUNTED = [
    "kvmsve.facts.abi", "kvmsve.facts.layout", "kvmsve.facts.regid", "kvmsve.facts.revisions", "kvmsve.rules.reglist",
    "kvmsve.state.snapshot", "kvmsve.diff.revisions", "kvmsve.diff.probes",
]  # fmt: skip


class Target(Protocol):
    """What a module of a target has. `counts` is what its executions came to, for people."""

    LONGEST: int
    WORDS: Sequence[bytes]
    counts: dict[str, int]

    def execute(self, data: bytes) -> None:
        """Nothing is raised but for a finding."""

    def seeds(self) -> Iterable[bytes]:
        """Inputs to start from."""

    def mutate(self, data: bytes, longest: int, seed: int) -> bytes:
        """Another input like this one."""


def load(name: str) -> Target:
    """The target's module, with the branches of the package counted, but for modules of facts."""
    with redirect_stderr(StringIO()), atheris.instrument_imports(include=["kvmsve"], exclude=UNCOUNTED):
        module: Target = import_module(f".{name}", __package__)  # type: ignore[assignment]
    return module


def fuzz(name: str, runs: int, seconds: float, seed: int, corpus: Path, artifacts: Path) -> None:
    """The target has been executed so many times, or for so long; the process ends, with 0 if nothing was found."""
    target = load(name)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in (*target.WORDS, b"\0")))
    options = [
        f"-dict={words}", f"-max_len={target.LONGEST}", f"-seed={seed}", f"-artifact_prefix={artifacts}/{name}-",
        f"-timeout={SLOW_SECONDS}", f"-rss_limit_mb={MEMORY_MB}", "-verbosity=0", "-len_control=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], _counted(name, target, runs, seconds), custom_mutator=target.mutate)
    atheris.Fuzz()


def _counted(name: str, target: Target, runs: int, seconds: float) -> Callable[[bytes], None]:
    """One execution, with progress; the last one ends the process."""
    start = time.monotonic()
    done, told = 0, start

    def say(now: float) -> None:
        parts = ", ".join(f"{number} {what}" for what, number in target.counts.items())
        speed = done / max(now - start, 1e-9)
        print(f"{name}: {done} executions in {now - start:.0f} s, {speed:.0f} a second; {parts}", flush=True)

    def execute(data: bytes) -> None:
        nonlocal done, told
        target.execute(data)
        done += 1
        now = time.monotonic()
        if done >= runs or now - start >= seconds:
            say(now)
            os._exit(0)
        if now - told >= PROGRESS_SECONDS:
            told = now
            say(now)

    return execute


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
