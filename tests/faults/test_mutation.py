"""The command of the mutants tells survivors that are explained from others, and never takes silence for success."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

NEVER_CHECKED, STALE = "rules/views: check_finalized(None)", "rules/views: return min(sve_vq, sme_vq)"
VIEWS = """\
def check_finalized(what):
    pass

def larger(sve_vq, sme_vq):
    check_finalized("larger")
    return max(sve_vq, sme_vq)
"""
TEST = """\
from kvmsve.rules.views import larger
def test_larger():
    assert larger(2, 4) == larger(4, 2) == 4
"""

pytest.importorskip("mutmut", reason="pip install '.[mutation]'")


def try_mutants(root: Path, *survivors: str, test: str = TEST, module: str = "rules/views") -> tuple[int, str, str]:
    """Exit code, what is printed below pytest's own lines, and stderr, of a project of one rule."""
    shutil.copytree(ROOT / "tests/faults", root / "tests/faults", ignore=shutil.ignore_patterns("*.toml", "test_*"))
    shutil.copy(ROOT / "pyproject.toml", root)  # mutmut wants its table
    tests = {path.relative_to(ROOT): "" for path in (ROOT / "tests").rglob("test_*.py")}
    package = {"kvmsve/__init__.py": "", "kvmsve/rules/__init__.py": "", "kvmsve/rules/views.py": VIEWS}
    explained = f"[[group]]\nreason = 'many'\nmutants = {list(survivors)}\n"
    project = package | {"tests/rules/test_views.py": test, "tests/faults/survivors.toml": explained}
    for name, text in (tests | {Path(name): text for name, text in project.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.mutation", module],
        cwd=root, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout.partition(" mutants: ")[2], done.stderr


def test_explained_survivors_are_success(tmp_path: Path) -> None:
    """What a check is told is wording; of an entry of a module that did not run nothing is known."""
    code, out, _ = try_mutants(tmp_path, NEVER_CHECKED, "machine/vcpu: return None")
    assert (code, out.splitlines()[1:]) == (0, [])
    assert "'wording': 2" in out
    assert out.endswith("; 0 survivors are not explained\n")


def test_a_survivor_that_is_not_explained_is_exit_1(tmp_path: Path) -> None:
    code, out, _ = try_mutants(tmp_path)
    assert code == 1
    assert out.splitlines()[1:] == ["", "rules/views", '- check_finalized("larger")', "+ check_finalized(None)"]


def test_an_explanation_of_nothing_is_exit_1(tmp_path: Path) -> None:
    code, out, _ = try_mutants(tmp_path, NEVER_CHECKED, STALE)
    assert code == 1
    assert out.splitlines()[1:] == [f"tests/faults/survivors.toml: no such mutant survives, remove it: {STALE}"]


@pytest.mark.parametrize("test", ["def test_it():\n    assert False\n", "import nothing\n"])
def test_tests_that_fail_without_a_mutant_are_exit_2(tmp_path: Path, test: str) -> None:
    code, out, err = try_mutants(tmp_path, test=test)
    assert (code, out) == (2, "")
    assert err == "mutation: without a mutant the tests do not pass, mend them first (pytest ends with 1)\n"


def test_a_module_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    assert try_mutants(tmp_path, module="gone") == (2, "", "mutation: there is no kvmsve/gone.py\n")
