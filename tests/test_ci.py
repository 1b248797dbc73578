"""The script of CI installs what it lacks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from places import ROOT

SCRIPT = ROOT / ".ci/run"
TOOLS = ["qemu-aarch64", "aarch64-linux-gnu-gcc"]

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="a copy of the project without .ci")


@pytest.mark.parametrize("there", [TOOLS, TOOLS[:1], TOOLS[1:], []])
def test_both_tools_of_arm64_programs_are_installed_unless_both_are_there(tmp_path: Path, there: list[str]) -> None:
    for name in (*there, ".venv/bin/pytest"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    text = SCRIPT.read_text()
    start = text.index("arm64_programs() {")
    function = text[start : text.index("\n}\n", start) + 3]
    stubs = f"set -eu; PATH={tmp_path}; work={tmp_path}; id() {{ echo 0; }}; apt-get() {{ echo $*; }}\n"
    subprocess.run(["/bin/bash", "-c", f"{stubs}{function}arm64_programs"], cwd=tmp_path, check=True)
    assert (tmp_path / "apt.log").exists() is (there != TOOLS)
