"""The script of CI: what it installs, and what a stranger has."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from places import ROOT

SCRIPT = ROOT / ".ci/run"
TOOLS = ["qemu-aarch64", "aarch64-linux-gnu-gcc"]
LEGS = """\
echo "path $PATH"
echo "user $(id -u)"
echo "limits $(ulimit -Sn) $(ulimit -Hn)"
echo "variables" $(env | cut -d = -f 1 | sort)
echo "commit $(git log -1 --format=%s)"
touch "$1/made" "$HOME/made" "$TMPDIR/made" .ci/made && echo "writes all"
"""

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="a copy of the project without .ci")


@pytest.mark.parametrize("there", [TOOLS, TOOLS[:1], TOOLS[1:], []])
def test_both_tools_of_arm64_programs_are_installed_unless_both_are_there(tmp_path: Path, there: list[str]) -> None:
    for name in there:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    text = SCRIPT.read_text()
    start = text.index("install_tools() {")
    function = text[start : text.index("\n}\n", start) + 3]
    stubs = f"set -eu; PATH={tmp_path}; work={tmp_path}; apt-get() {{ echo $*; }}\n"
    subprocess.run(["/bin/bash", "-c", f"{stubs}{function}install_tools"], cwd=tmp_path, check=True)
    assert (tmp_path / "apt.log").exists() is (there != TOOLS)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What a leg finds around it, on a project of nothing but that leg."""
    home = tmp_path_factory.mktemp("home")
    project, tools = home / "project", home / "tools"
    for folder in (project / ".ci", tools):
        folder.mkdir(parents=True)
    for name in TOOLS:
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    shutil.copy(SCRIPT, project / ".ci/run")
    (project / ".ci/legs").write_text(LEGS)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x", "-C", str(project)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "this"]):
        subprocess.run([*git, *arguments], check=True)
    ours = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": "x", "LANG": "C.UTF-8", "HTTPS_PROXY": "proxy", "PIP_CERT": "cert"}
    variables = {**os.environ, **ours, "HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    script = ["bash", project / ".ci/run"]
    done = subprocess.run(script, env=variables, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return {name: words for name, *words in map(str.split, done.stdout.splitlines())}


def test_legs_are_run_by_a_stranger(told: dict[str, list[str]]) -> None:
    """An ordinary user with the limits of an ordinary login, who can write to what is made for it."""
    assert told["user"] == [str(os.getuid())] if os.getuid() else told["user"] != ["0"]
    assert told["limits"] == ["1024", "1024"]
    assert (told["commit"], told["writes"]) == (["this"], ["all"])


def test_environment_says_where_things_are_and_no_more(told: dict[str, list[str]]) -> None:
    names = set(told["variables"])
    assert {"PATH", "HOME", "TMPDIR", "HTTPS_PROXY", "PIP_CERT"} <= names
    of_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    of_pip = {name for name in names if name.startswith(("PIP_", "SSL_CERT_")) or name.lower().endswith("_proxy")}
    assert names - of_the_shell - of_pip == {"PATH", "HOME", "TMPDIR"}
