"""The package as it is built and installed: sdist, wheel, wheel from the sdist, and what is in them."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import ROOT

TOP = {
    "pyproject.toml", "build_ffi.py", "csrc", "kvmsve", "tests", "benchmarks",
    "README.md", "LICENSE", ".ci", ".gitignore",
}  # fmt: skip
SHIPPED = {"linux73-vq1", "rfc-posted", "rfc-r1-s2m4", "rfc-r123-smeonly-s0m4"}


def run(*command: str | Path, **options: object) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload, no-any-return]


def build(kind: str, tree: Path, out: Path) -> Path:
    """What the build backend makes of a tree, without the network."""
    call = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    return out / run(sys.executable, "-c", call, cwd=tree).splitlines()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the project without anything built."""
    copy = tmp_path_factory.mktemp("tree") / "kvmsve"
    unwanted = shutil.ignore_patterns("*.so", "build", "*.egg-info", "__pycache__", ".*", "tests", "benchmarks")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    return copy


@pytest.fixture(scope="module")
def sdist(tree):
    return build("sdist", tree, tree)


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the sdist."""
    place = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    return build("wheel", next(place.iterdir()), place)


def test_sdist_has_all_that_a_build_needs(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"build_ffi.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.[ch]")} <= names


def test_wheel_has_modules_core_types_and_recordings_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("kvmsve/")}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "kvmsve").rglob("*.py")}
    recordings = {f"kvmsve/recording/shipped/{name}.jsonl.xz" for name in SHIPPED}
    core = {name for name in package if name.startswith("kvmsve/_ffi.") and name.endswith(".so")}
    shim = {f"kvmsve/device/shim_source/{path.name}" for path in (ROOT / "csrc" / "shim").iterdir()}
    assert package == sources | recordings | core | shim | {"kvmsve/py.typed"}
    assert len(core) == 1
    assert {name.split("/")[0] for name in names} == {"kvmsve", f"kvmsve-{version()}.dist-info"}


def test_wheel_works_where_there_is_no_source(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    out = run(sys.executable, "-m", "kvmsve", "replay", cwd=tmp_path, env={**os.environ, "PYTHONPATH": "site"})
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * len(SHIPPED)


def test_wheel_of_the_tree_is_that_of_the_sdist(tree, wheel):
    of_tree = build("wheel", tree, tree)
    assert zipfile.ZipFile(of_tree).namelist() == zipfile.ZipFile(wheel).namelist()


def version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_runtime_needs_these_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [requirement.split(">")[0] for requirement in project["dependencies"]] == [
        "cffi",
        "msgspec",
        "numpy",
        "rich",
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what git tracks can be told in a checkout only")
def test_nothing_else_at_the_top():
    tracked = run("git", "ls-files", cwd=ROOT).split()
    assert {name.split("/")[0] for name in tracked} <= TOP
