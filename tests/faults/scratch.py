"""Scratch copies of the project: made, built, and tested by nothing but what is in them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

from .entries import Fault

# No copy has what a build left behind, nor this folder, whose tests notice any change.
LEFT_OUT = (
    ".git", ".venv", ".*cache", ".hypothesis", ".benchmarks", "*.so", "build", "dist", "*.egg-info", "__pycache__",
    Path(__file__).parent.name,
)  # fmt: skip
BUILD = "setup.py", "-q", "build_ext", "--inplace"
IMPORT_ALL = """
import importlib, pathlib, pkgutil, sys
import kvmsve
home = pathlib.Path(kvmsve.__file__).parent
if home != pathlib.Path("kvmsve").resolve():
    sys.exit(f"another kvmsve is in the way: {home}")
for module in pkgutil.walk_packages(kvmsve.__path__, "kvmsve."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


class BrokenCopy(Exception):
    """A copy that cannot be built or imported; nothing can be said of its tests."""


class TestRun(NamedTuple):
    """How a run of pytest ended, what failed in it by node ID, and what it printed."""

    code: int
    failed: list[str]
    output: str


async def make_clean_copy(source: Path, copy: Path) -> None:
    """The project as it stands, built. BrokenCopy if it cannot be, or its tests cannot be collected."""
    shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    await _build(copy)
    await _import_all(copy)
    collected = await run_pytest(copy, "--collect-only")
    if collected.code:
        raise BrokenCopy(f"its tests cannot be collected:\n{collected.output}")


async def make_faulty_copy(clean: Path, copy: Path, fault: Fault) -> None:
    """The clean copy with a fault in it, built anew where that may matter. BrokenCopy as for a clean one."""
    shutil.copytree(clean, copy, symlinks=True)
    fault.apply(copy)
    if fault.is_compiled:
        shutil.rmtree(copy / "build", ignore_errors=True)
        for built in (copy / "kvmsve").glob("_ffi*.so"):
            built.unlink()
        await _build(copy)
    else:
        Path(cache_from_source(copy / fault.file)).unlink(missing_ok=True)
    await _import_all(copy)


async def run_pytest(copy: Path, *arguments: str) -> TestRun:
    """The default test run of the copy, or with these arguments another."""
    cache = copy / ".pytest_cache/v/cache/lastfailed"
    cache.unlink(missing_ok=True)
    code, output = await _run(copy, "-m", "pytest", "-q", "--tb=short", *arguments)
    return TestRun(code, list(json.loads(cache.read_text())) if cache.exists() else [], output)


async def _build(copy: Path) -> None:
    code, output = await _run(copy, *BUILD)
    if code:
        raise BrokenCopy(f"it does not build: {_complaint(output)}")


async def _import_all(copy: Path) -> None:
    code, output = await _run(copy, "-c", IMPORT_ALL)
    if code:
        raise BrokenCopy(f"it cannot be imported: {_complaint(output)}")


async def _run(copy: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a Python in the copy; it and all that it started end if the caller gives up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=copy, env=_environment(copy), stdout=PIPE, stderr=STDOUT, process_group=0
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace")


def _environment(copy: Path) -> dict[str, str]:
    """Of two packages called kvmsve the copy's is found; pytest has no options but the project's."""
    others = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    return {**others, "PYTHONPATH": os.pathsep.join(filter(None, (str(copy), os.environ.get("PYTHONPATH"))))}


def _complaint(output: str) -> str:
    """The compiler's first error, or the last line of a traceback."""
    lines = output.strip().split("\n")
    return next((line for line in lines if " error: " in line), lines[-1])
