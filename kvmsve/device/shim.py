"""The shim of csrc/kvm_shim.c as a shared object: built once for each machine, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from importlib import resources
from pathlib import Path

from ..files import whole_file

FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra")
PACKAGES = "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"


class MissingTool(Exception):
    """Something that has to be installed is not: says what, and how to get it."""


def shim(machine: str) -> Path:
    """The shim for programs of this machine (x86_64, aarch64). MissingTool where no compiler makes it."""
    source = resources.files(__package__).joinpath("kvm_shim.c").read_bytes()
    compiler = _compiler(machine)
    digest = hashlib.sha256(b"\0".join([source, compiler.encode(), *map(str.encode, FLAGS)])).hexdigest()[:16]
    path = _cache() / f"kvm_shim-{machine}-{digest}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, source, path, machine)
    return path


def _compile(compiler: str, source: bytes, path: Path, machine: str) -> None:
    with whole_file(path) as partial:
        command = [compiler, *FLAGS, "-x", "c", "-", "-o", str(partial), "-ldl"]
        done = subprocess.run(command, input=source, capture_output=True, check=False)
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
    raise MissingTool(f"there is no {names[-1] if len(names) == 1 else 'C compiler'}{_hint(machine)}")


def _hint(machine: str) -> str:
    packages = "gcc libc6-dev" if machine == platform.machine() else PACKAGES
    return f"; on Debian: sudo apt install {packages}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmsve"
