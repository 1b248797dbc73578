"""The shim of csrc/shim as a shared object: built once for each machine, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from ..files import whole_file

FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wconversion")
LIBRARIES = ("-lpthread", "-ldl")  # of C libraries that have them apart
PACKAGES = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"


class MissingTool(Exception):
    """Something that has to be installed is not: says what, and how to get it."""


def shim(machine: str) -> Path:
    """The shim for programs of this machine (x86_64, aarch64). MissingTool where no compiler makes it."""
    folder = resources.files(__package__).joinpath("shim_source")
    sources = {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda file: file.name)}
    compiler = _compiler(machine)
    parts = [compiler.encode(), *map(str.encode, FLAGS + LIBRARIES), *sources.values()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    path = _cache() / f"kvm_shim-{machine}-{digest}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, sources, path, machine)
    return path


def _compile(compiler: str, sources: Mapping[str, bytes], path: Path, machine: str) -> None:
    with whole_file(path) as partial, tempfile.TemporaryDirectory() as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_bytes(text)
        units = sorted(str(file) for file in Path(folder).glob("*.c"))
        done = subprocess.run(
            [compiler, *FLAGS, *units, "-o", str(partial), *LIBRARIES], capture_output=True, check=False
        )
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise MissingTool(f"{compiler} cannot build the shim: {reason[0]}{_hint(machine)}")


def _compiler(machine: str) -> str:
    names = (
        (os.environ.get("CC", "cc"), "gcc", "clang") if machine == platform.machine() else (f"{machine}-linux-gnu-gcc",)
    )
    for name in names:
        if shutil.which(name):
            return name
    missing = names[-1] if len(names) == 1 else "C compiler"
    raise MissingTool(f"the shim is compiled before its first use, and there is no {missing}{_hint(machine)}")


def _hint(machine: str) -> str:
    packages = "gcc libc6-dev" if machine == platform.machine() else PACKAGES
    return f"; on Debian: sudo apt install {packages}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmsve"
