"""The command of the fuzzers: what it says of mistakes, findings, and of targets that do not get to their end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT

COMMAND = [sys.executable, "-m", "tests.fuzz", "rewrite", "--runs", "100"]
TARGET = """\
import os, time
LONGEST, WORDS, counts = 8, [], {}
def seeds():
    return [b"seed"]
def mutate(data, longest, seed):
    return os.urandom(4)
def execute(data):
    if data == b"seed":
        {what}
"""


def fuzz(*arguments: str | Path, cwd: Path = ROOT) -> tuple[int, str, str]:
    """Exit code, stdout, and what is said on stderr under the name of the command."""
    done = subprocess.run([*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True)
    return done.returncode, done.stdout, "".join(line for line in done.stderr.splitlines(True) if "fuzz: " in line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--artifacts", "no-such-folder"], "argument --artifacts: there is no folder no-such-folder"),
        (["--artifacts", "README.md"], "argument --artifacts: there is no folder README.md"),
        (["--corpus", "README.md"], "argument --corpus: README.md/rewrite: Not a directory"),
        (["--runs", "-1"], "argument --runs: '-1' is no whole number from 1 on"),
        (["--runs", "0"], "argument --runs: '0' is no whole number from 1 on"),
        (["--runs", "many"], "argument --runs: 'many' is no whole number from 1 on"),
        (["--seconds", "-1"], "argument --seconds: '-1' is no number above 0"),
        (["--seconds", "0"], "argument --seconds: '0' is no number above 0"),
        (["--seconds", "nan"], "argument --seconds: 'nan' is no number above 0"),
        (["--seconds", "a"], "argument --seconds: 'a' is no number above 0"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("python -m tests.fuzz: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


# With a target of its own


@pytest.fixture
def project(tmp_path: Path) -> Path:
    pytest.importorskip("atheris", reason="pip install '.[fuzz]'")
    shutil.copytree(ROOT / "tests/fuzz", tmp_path / "tests/fuzz", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def give_target(project: Path, what: str) -> None:
    (project / "tests/fuzz/rewrite.py").write_text(TARGET.replace("{what}", what))


def test_nothing_found(project: Path) -> None:
    give_target(project, "pass")
    code, out, said = fuzz("--corpus", "kept", cwd=project)
    assert (code, said) == (0, "")
    assert "rewrite: 100 executions in " in out
    assert (project / "kept/rewrite/seed-0").read_bytes() == b"seed"


@pytest.mark.parametrize("what", ["raise ValueError", "os.abort()"])
def test_a_finding_is_exit_1_and_an_input(project: Path, what: str) -> None:
    give_target(project, what)
    code, _, said = fuzz(cwd=project)
    assert (code, said) == (1, "fuzz: found something; `python -m tests.fuzz rewrite FILE` does it again\n")
    (found,) = project.glob("rewrite-crash-*")
    assert found.read_bytes() == b"seed"


def test_a_target_that_is_ended_has_found_nothing(project: Path) -> None:
    give_target(project, "os.kill(os.getpid(), 9)")
    code, _, said = fuzz(cwd=project)
    assert (code, said) == (2, "fuzz: rewrite was ended before its time, with exit code -9\n")


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_an_interrupt_is_one_line_and_leaves_nobody(project: Path, whom: str) -> None:
    give_target(project, "open('started', 'w').close(); time.sleep(60)")
    process = subprocess.Popen(
        COMMAND, cwd=project, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (project / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)  # until the child too has closed it
    assert (process.returncode, err.endswith("fuzz: interrupted\n"), "Traceback" in err) == (130, True, False)
