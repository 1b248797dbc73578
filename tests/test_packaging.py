"""The package as it is built and installed: sdist, wheel, wheel from the sdist, and what is in them."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from places import ROOT

TOP = {
    "pyproject.toml", "setup.py", "build_ffi.py", "MANIFEST.in", "csrc", "kvmsve", "tests", "benchmarks",
    "README.md", "LICENSE", ".ci", ".gitignore",
}  # fmt: skip
MADE_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}
SHIPPED = {"linux73-vq1", "rfc-posted", "rfc-r1-s2m4", "rfc-r123-smeonly-s0m4"}

in_a_checkout = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what git has can be told in a checkout only")


def run(*command: str | Path, **options: object) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload, no-any-return]


def build(kind: str, tree: Path, out: Path) -> Path:
    """What the build backend makes of a tree, without the network; a warning, as of what is experimental, ends it."""
    call = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    return out / run(sys.executable, "-W", "error::UserWarning", "-c", call, cwd=tree).splitlines()[-1]


def files(folder: Path) -> set[Path]:
    """Relative to the folder; also what lies in folders that are links."""
    return {
        (Path(place) / name).relative_to(folder)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without anything built."""
    copy = tmp_path_factory.mktemp("tree") / "kvmsve"
    made = [name.strip("/") for name in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", *made))
    return copy


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    return build("sdist", tree, tree)


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that the sdist has."""
    place = tmp_path_factory.mktemp("sdist")
    run("tar", "-xf", sdist, "-C", place)
    return next(place.iterdir())


@pytest.fixture(scope="module")
def wheel(unpacked: Path) -> Path:
    """The wheel, built from the sdist."""
    return build("wheel", unpacked, unpacked.parent)


@in_a_checkout
def test_sdist_has_what_git_has(unpacked: Path) -> None:
    """All that a build needs, and all that the tests need. A new folder at the top wants a line in MANIFEST.in."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")[:-1]
    there = [ROOT / name for name in listed if (ROOT / name).exists()]
    expected = {
        file for path in there for file in ({path / inner for inner in files(path)} if path.is_dir() else {path})
    }
    packed = {path for path in files(unpacked) if "kvmsve.egg-info" not in path.parts}
    assert packed - set(map(Path, MADE_BY_SETUPTOOLS)) == {path.relative_to(ROOT) for path in expected}


def test_wheel_has_the_package_and_its_core_and_no_more(wheel: Path, tree: Path) -> None:
    """Modules, types, recordings and the shim's source: nothing of the package is named one by one."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("kvmsve/")}
    assert package == {f"kvmsve/{path}" for path in files(tree / "kvmsve")} | {"kvmsve/_ffi.abi3.so"}
    assert {name.split("/")[0] for name in names} == {"kvmsve", f"kvmsve-{version()}.dist-info"}
    assert {f"kvmsve/recording/shipped/{name}.jsonl.xz" for name in SHIPPED} <= names
    assert "kvmsve/py.typed" in names
    assert {f"kvmsve/device/shim_source/{path.name}" for path in (ROOT / "csrc" / "shim").iterdir()} <= names


def test_one_wheel_is_for_every_python(wheel: Path) -> None:
    platform = sysconfig.get_platform().translate(str.maketrans("-.", "__"))
    assert wheel.name == f"kvmsve-{version()}-cp311-abi3-{platform}.whl"


BUILD_IN_PLACE = (sys.executable, "setup.py", "build_ext", "--inplace")


@pytest.fixture(scope="module")
def built(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = shutil.copytree(unpacked, tmp_path_factory.mktemp("built") / "kvmsve")
    run(*BUILD_IN_PLACE, cwd=copy)
    return copy


@pytest.mark.parametrize(
    "name", ["build_ffi.py", *sorted(f"csrc/{path.name}" for path in (ROOT / "csrc").glob("*.[ch]"))]
)
def test_core_is_built_again_after_a_change(built: Path, name: str) -> None:
    assert "rewrite.c" not in run(*BUILD_IN_PLACE, cwd=built)
    (built / name).touch()
    assert "rewrite.c" in run(*BUILD_IN_PLACE, cwd=built)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the wheel is in `site`, and nothing else."""
    place = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(place / "site")
    return place


def test_wheel_works_where_there_is_no_source(installed: Path) -> None:
    out = run(sys.executable, "-m", "kvmsve", "replay", cwd=installed, env={**os.environ, "PYTHONPATH": "site"})
    assert [line.split()[0] for line in out.splitlines()] == ["ok"] * len(SHIPPED)


def test_wheel_says_what_run_needs_where_there_is_no_compiler(installed: Path) -> None:
    (installed / "bin").mkdir()
    (installed / "bin/true").symlink_to(shutil.which("true") or "")
    alone = {"PYTHONPATH": "site", "PATH": str(installed / "bin"), "HOME": str(installed)}
    command = [sys.executable, "-m", "kvmsve", "run", "--", "true"]
    done = subprocess.run(command, cwd=installed, env=alone, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "kvmsve: the shim is compiled before its first use, and there is no C compiler; "
        "on Debian: sudo apt install gcc libc6-dev\n"
    )


def test_wheel_of_the_tree_is_that_of_the_sdist(tree: Path, wheel: Path) -> None:
    of_tree = build("wheel", tree, tree)
    assert zipfile.ZipFile(of_tree).namelist() == zipfile.ZipFile(wheel).namelist()


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_runtime_needs_these_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [requirement.split(">")[0] for requirement in project["dependencies"]] == [
        "cffi",
        "msgspec",
        "numpy",
        "rich",
    ]


@in_a_checkout
def test_nothing_else_at_the_top() -> None:
    tracked = run("git", "ls-files", cwd=ROOT).split()
    assert {name.split("/")[0] for name in tracked} <= TOP
