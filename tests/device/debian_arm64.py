"""Programs of Debian's arm64 with the libraries that they need: downloaded with apt into a folder, never installed.

    python tests/debian_arm64.py qemu-system-arm [--suite trixie]

prints the folder. It needs no right on the system and changes nothing there: apt works in a root of its own, with the
system's sources and keys.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_CONFIGURATION = """\
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
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
MERGED_FOLDERS = ("bin", "lib", "sbin")


class Unavailable(Exception):
    """The programs cannot be had: says why, and what to install."""


def tree(package: str, suite: str | None = None) -> Path:
    """A folder with the package and all that it depends on, as they lie on a system; from the cache if it is there.

    `suite`: of Debian, as trixie; without one, what the system's own sources have. Unavailable where a tool or the
    network is missing.
    """
    folder = _cache() / f"{package}-{suite or _codename()}"
    if folder.exists():
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"there is no {tool} to download {package} of Debian's arm64 with; "
                              "this needs a Debian system")  # fmt: skip
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            _fetch(package, suite, folder)
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmsve" / "debian-arm64"


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


def _fetch(package: str, suite: str | None, folder: Path) -> None:
    """The folder is there, and complete."""
    root = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(root, ignore_errors=True)
    try:
        _download(package, suite, root)
        _extract(sorted((root / "cache/archives").glob("*.deb")), root / "tree")
        (root / "tree").rename(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _download(package: str, suite: str | None, root: Path) -> None:
    for partial in (root / "state/lists/partial", root / "cache/archives/partial"):
        partial.mkdir(parents=True)
    (root / "status").touch()
    configuration = root / "apt.conf"
    configuration.write_text((APT_CONFIGURATION + OTHER_SOURCES * bool(suite)).format(root=root))
    (root / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    _run("apt-get", "-q", "-c", configuration, "update", "--error-on=any")
    _run("apt-get", "-q", "-c", configuration, "install", "-y", "--download-only", package)


def _extract(archives: list[Path], root: Path) -> None:
    """The packages' files are under root. From trixie on, a system has links where packages are merged into /usr."""
    root.mkdir()
    for archive in archives:
        _run("dpkg-deb", "-x", archive, root)
    for name in MERGED_FOLDERS:
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, close_fds=False
    )
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg-deb: error"))]
        reason = complaints[0] if complaints else f"exit {done.returncode}"
        raise Unavailable(f"cannot download packages of Debian's arm64: {command[0]}: {reason}")


def _main() -> int:
    parser = argparse.ArgumentParser(description="Download a program of Debian's arm64 and print the folder it is in.")
    parser.add_argument("package")
    parser.add_argument("--suite", help="a suite of Debian, as trixie (default: what the system's sources have)")
    options = parser.parse_args()
    try:
        print(tree(options.package, options.suite))
    except Unavailable as unavailable:
        print(f"debian_arm64: {unavailable}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
