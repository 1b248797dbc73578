"""Programs of Debian with the libraries that they need: downloaded with apt into a folder, never installed.

    python tests/debian.py qemu-system-arm [--suite trixie] [--architecture amd64]

prints the folder; without more it is of arm64. It needs no right on the system and changes nothing there: apt works in
a root of its own, with the system's sources and keys.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_CONFIGURATION = """\
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
"""
OTHER_SOURCES = """\
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
"""
SOURCES = "$(RELEASE) $(COMPONENT) $(REPO_URI)"  # what is asked of each that the system has
MERGED_FOLDERS = ("bin", "lib", "lib64", "sbin")


class Unavailable(Exception):
    """The programs cannot be had: says why, and what to install."""


def tree(*packages: str, suite: str | None = None, architecture: str = "arm64") -> Path:
    """A folder with the packages and all that they depend on, as they lie on a system; from the cache if it is there.

    `suite`: of Debian, as trixie; without one, what the system's own sources have. Unavailable where a tool or the
    network is missing.
    """
    folder = _cache() / "-".join([*packages, suite or _codename(), architecture])
    if folder.exists():
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"there is no {tool} to download {packages[0]} of Debian's {architecture} with; "
                              "this needs a Debian system")  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            _fetch(packages, suite, architecture, folder)
    return folder


def mirror(sources: str, codename: str) -> str:
    """Where the system has Debian itself from: of its sources, as SOURCES prints them, the one of its own release.

    Unavailable where there is none.
    """
    for line in sources.splitlines():
        release, component, address = line.split(" ", 2)
        if (release, component) == (codename, "main"):
            return address
    raise Unavailable(f"none of apt's sources has {codename} main, so no other suite of Debian can be had")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmsve" / "debian"


def _codename() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "system")
    except OSError:
        return "system"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """No other process is in this block with the same lock; not even when one is killed, until its apt has ended."""
    with lock.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(packages: Sequence[str], suite: str | None, architecture: str, folder: Path) -> None:
    """The folder is there, and complete."""
    root = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(root, ignore_errors=True)
    try:
        _download(packages, suite, architecture, root)
        _extract(sorted((root / "cache/archives").glob("*.deb")), root / "tree")
        (root / "tree").rename(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _download(packages: Sequence[str], suite: str | None, architecture: str, root: Path) -> None:
    for partial in (root / "state/lists/partial", root / "cache/archives/partial"):
        partial.mkdir(parents=True)
    (root / "status").touch()
    configuration, lines = root / "apt.conf", APT_CONFIGURATION
    if suite:
        lines += OTHER_SOURCES
        address = mirror(_run("apt-get", "indextargets", "--format", SOURCES, "Created-By: Packages"), _codename())
        (root / "sources.list").write_text(f"deb [signed-by={KEYRING}] {address} {suite} main\n")
    configuration.write_text(lines.format(root=root, architecture=architecture))
    _run("apt-get", "-q", "-c", configuration, "update", "--error-on=any")
    _run("apt-get", "-q", "-c", configuration, "install", "-y", "--download-only", *packages)


def _extract(archives: list[Path], root: Path) -> None:
    """The packages' files are under root. From trixie on, a system has links where packages are merged into /usr."""
    root.mkdir()
    for archive in archives:
        _run("dpkg-deb", "-x", archive, root)
    for name in MERGED_FOLDERS:
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, close_fds=False
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error"))]
        reason = complaints[0] if complaints else f"exit {done.returncode}"
        raise Unavailable(f"cannot download packages of Debian: {command[0]}: {reason}")
    return done.stdout


def _main() -> int:
    parser = argparse.ArgumentParser(description="Download programs of Debian and print the folder they are in.")
    parser.add_argument("packages", nargs="+", metavar="package")
    parser.add_argument("--suite", help="a suite of Debian, as trixie (default: what the system's sources have)")
    parser.add_argument("--architecture", default="arm64", help="as Debian names it (default: arm64)")
    options = parser.parse_args()
    try:
        print(tree(*options.packages, suite=options.suite, architecture=options.architecture))
    except Unavailable as unavailable:
        print(f"debian: {unavailable}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
