"""Where programs of other suites of Debian come from: the mirror that the system itself has Debian from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import debian
import pytest
from places import ROOT

SOURCES = """\
nodistro main https://node.example/node_20.x/
bookworm-security main https://mirror.example/debian-security/
bookworm contrib https://mirror.example/debian/
bookworm main https://mirror.example/debian/
trixie main https://other.example/debian/
"""


def test_mirror_is_that_of_the_systems_release() -> None:
    assert debian.mirror(SOURCES, "bookworm") == "https://mirror.example/debian/"
    assert debian.mirror(SOURCES, "trixie") == "https://other.example/debian/"


def test_no_mirror_is_said() -> None:
    with pytest.raises(debian.Unavailable, match="none of apt's sources has forky main"):
        debian.mirror(SOURCES, "forky")


def test_without_apt_it_is_said_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(debian.Unavailable, match=r"no apt-get to download hello of Debian's arm64 .* a Debian system"):
        debian.tree("hello")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what git has can be told in a checkout only")
def test_no_file_names_a_mirror() -> None:
    names = ("deb.debian", "security.debian", "ftp.debian", "pypi", "registry.npmjs")
    words = [f"{name}.org" for name in names]
    patterns = [option for word in words for option in ("-e", word)]
    found = subprocess.run(["git", "grep", "-lF", *patterns], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == ""
