"""Which Pythons the suite is run on."""

from __future__ import annotations

import sys
from pathlib import Path

import debian
import interpreters
import pytest
from interpreters import Interpreter, every, of_machine


def install(folder: Path, name: str, *words: str) -> Path:
    """A program in the folder that prints these words, as a Python does when it is asked."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {' '.join(words)}\n")
    (folder / name).chmod(0o755)
    return folder


def test_each_version_is_taken_once_and_in_order(tmp_path: Path) -> None:
    first = install(tmp_path / "first", "python3.12", "3.12.1", "/a/python3.12")
    install(first, "python3", "3.9.1")
    install(first, "python3-config", "3.14.1", "/a/python3-config")
    (first / "python3.13").symlink_to("nowhere")
    second = install(tmp_path / "second", "python3.12", "3.12.1", "/b/python3.12")
    install(second, "python3.11", "3.11.10", "/b/python3.11")
    install(second, "python3", "3.11.9", "/b/python3")
    found = of_machine([first, tmp_path / "nowhere", second])
    assert [tuple(map(str, one)) for one in found] == [
        ("3.11.9", "/b/python3"),
        ("3.11.10", "/b/python3.11"),
        ("3.12.1", "/a/python3.12"),
    ]


def test_what_cannot_build_is_none(tmp_path: Path) -> None:
    """No Python, none of its own, and none that says more than it was asked."""
    assert interpreters.ask(Path("/bin/false")) is None
    assert interpreters.ask(Path("/bin/true")) is None
    assert interpreters.ask(tmp_path / "python3") is None
    if sys.prefix != sys.base_prefix:
        assert interpreters.ask(Path(sys.executable)) is None


def test_what_a_machine_lacks_is_of_debian_or_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def tree(*packages: str, suite: str, architecture: str) -> Path:
        raise debian.Unavailable(f"{packages[0]} of {suite}")

    monkeypatch.setattr(debian, "tree", tree)
    monkeypatch.setattr(interpreters, "_architecture", lambda: "amd64")
    folder = install(tmp_path / "bin", "python3", "3.11.21", "/a/python3")
    found, *missing = every([folder])
    assert found == Interpreter("3.11.21", Path("/a/python3"))
    assert [str(reason) for reason in missing] == [
        "python3.11-venv of bookworm",
        "no suite of Debian has Python 3.12",
        "python3.13-venv of trixie",
        "python3.14-venv of sid",
        "python3.15-venv of sid",
    ]
