"""The list of deliberate faults is up to date, and the command that tries them tells caught from escaped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from . import entries, scratch, trial

LIST = ROOT / "tests/faults/faults.toml"
FAULTS: list[dict[str, Any]] = tomllib.loads(LIST.read_text())["fault"]
FAULTS_COMMAND = [sys.executable, "-m", "tests.faults"]
NO_RULE = {"__init__", "__main__"}


def source(fault: dict[str, Any]) -> str:
    return (ROOT / fault["file"]).read_text()


def test_every_entry_says_what_it_breaks():
    for fault in FAULTS:
        assert {"file", "breaks", "old", "new"} <= fault.keys() <= {"file", "breaks", "old", "new", "tests"}
        assert fault["breaks"]
        assert "\n" not in fault["breaks"]
        assert fault["old"] != fault["new"]


def test_every_old_text_is_there_once():
    assert [fault["breaks"] for fault in FAULTS if source(fault).count(fault["old"]) != 1] == []


def test_no_two_faults_are_the_same():
    faulty = [(fault["file"], source(fault).replace(fault["old"], fault["new"])) for fault in FAULTS]
    assert len({*faulty}) == len(FAULTS) >= 60
    assert len({(fault["file"], fault["breaks"]) for fault in FAULTS}) == len(FAULTS)


def test_every_faulty_module_is_python():
    for fault in FAULTS:
        if fault["file"].endswith(".py"):
            compile(source(fault).replace(fault["old"], fault["new"]), fault["file"], "exec")


def test_every_module_and_c_file_has_a_fault():
    modules = {path for path in (ROOT / "kvmsve").rglob("*.py") if path.stem not in NO_RULE}
    core = {ROOT / "csrc" / name for name in ("rewrite.c", "fpsimd.c", "layout.h", "contract.h")}
    shim = set((ROOT / "csrc" / "shim").glob("*.c"))
    without = (modules | core | shim) - {ROOT / fault["file"] for fault in FAULTS}
    assert sorted(map(str, without)) == []


def test_the_tests_that_are_to_run_first_exist():
    named = {name for fault in entries.read_faults(LIST, ROOT) for name in fault.tests}
    assert sorted(name for name in named if not (ROOT / "tests" / name).is_file()) == []


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("kvmsve/rules/onereg.py", "rules/test_onereg.py"),
        ("kvmsve/machine/system.py", "machine/test_system.py"),
        ("kvmsve/device/system.py", "device/test_system.py"),
        ("kvmsve/batch.py", "test_batch.py"),
        ("csrc/rewrite.c", "test_rewrite.py"),
    ],
)
def test_the_tests_of_a_module_lie_in_its_folder(file: str, tests: str) -> None:
    assert entries.tests_of(file) == tests


def test_a_copy_has_all_tests_but_those_of_the_faults() -> None:
    kept = {path.name for path in (ROOT / "tests").iterdir()} - {"__pycache__"}
    left_out = shutil.ignore_patterns(*scratch.LEFT_OUT)(str(ROOT / "tests"), sorted(kept))
    assert left_out == {"faults"}
    assert {"fuzz", "machine", "conftest.py"} <= kept


def test_a_copy_has_what_the_project_has_and_nothing_that_was_made() -> None:
    made = {name.strip("/").replace("*", "a") for name in (ROOT / ".gitignore").read_text().split()}
    names = sorted({path.name for path in ROOT.iterdir()} | made | {".git"})
    left_out = shutil.ignore_patterns(*scratch.LEFT_OUT)(str(ROOT), names)
    assert made | {".git"} <= left_out
    assert {".ci", ".gitignore", "csrc", "pyproject.toml", "tests"}.isdisjoint(left_out)


# The command, on a project of one rule and, where it has C, one number of C

VIEWS, IMPORT = "kvmsve/rules/views.py", "from kvmsve.rules.views import larger\n"
TINY = {
    "pyproject.toml": """\
[project]
name = "tiny"
version = "0"
[tool.setuptools]
packages = ["kvmsve", "kvmsve.rules"]
[tool.pytest.ini_options]
testpaths = ["tests"]
""",
    "setup.py": "from setuptools import setup\nsetup()\n",
    "kvmsve/__init__.py": "",
    "kvmsve/rules/__init__.py": "",
    VIEWS: "def larger(sve_vq, sme_vq):\n    return max(sve_vq, sme_vq)  # at user format\n",
    "tests/rules/test_views.py": IMPORT + "def test_larger():\n    assert larger(2, 4) == 4\n",
    "tests/test_rest.py": IMPORT + "def test_other_order():\n    assert larger(4, 2) == 4\n",
}
CORE = {
    "setup.py": """\
from setuptools import Extension, setup
setup(ext_modules=[Extension("kvmsve._ffi", ["csrc/core.c"])])
""",
    "csrc/core.c": """\
#include <Python.h>
static struct PyModuleDef core = {PyModuleDef_HEAD_INIT, "_ffi", 0, -1};
PyMODINIT_FUNC PyInit__ffi(void)
{
	PyObject *module = PyModule_Create(&core);
	PyModule_AddIntConstant(module, "NUM_PREGS", 17);
	return module;
}
""",
    "tests/test_core.py": "from kvmsve._ffi import NUM_PREGS\ndef test_ffr():\n    assert NUM_PREGS == 17\n",
}
LARGER, COMMENT = "max(sve_vq, sme_vq)", (VIEWS, "at user format", "at the user's format")


def make_project(root: Path, faults: dict[str, tuple[str, str, str]], **files: str) -> Path:
    shutil.copytree(ROOT / "tests/faults", root / "tests/faults", ignore=shutil.ignore_patterns("*.toml", "*cache*"))
    entries = ""
    for breaks, (file, old, new) in faults.items():
        entries += f"[[fault]]\nfile = {file!r}\nbreaks = {breaks!r}\nold = '''{old}'''\nnew = '''{new}'''\n"
    for name, text in {**TINY, **files, "tests/faults/faults.toml": entries}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def try_faults(root: Path, *arguments: str) -> tuple[int, dict[str, str], str, str]:
    """Exit code, lines by what each fault breaks, the last line, and stderr."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "tests.faults", *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    *lines, last = done.stdout.splitlines() or [""]
    return done.returncode, {line.split(": ", 1)[1].split(" [")[0]: line for line in lines}, last, done.stderr


def test_every_fault_gets_its_verdict(tmp_path):
    faults = {
        "swapped": (VIEWS, LARGER, "min(sve_vq, sme_vq)"),
        "seen by another file": (VIEWS, LARGER, "sme_vq"),
        "FFR forgotten": ("csrc/core.c", "17", "16"),
        "only a comment": COMMENT,
        "no such name": (VIEWS, "def larger", "import nothing\ndef larger"),
        "no C": ("csrc/core.c", "PyModule_Create(&core);", "PyModule_Create(&core)"),
    }
    root = make_project(tmp_path, faults, **CORE)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    code, lines, last, err = try_faults(root, "--jobs", "2")
    assert (code, err) == (2, "")
    assert last.startswith("6 faults: 3 caught, 1 escaped, 2 bad, in ")
    assert "[tests/rules/test_views.py::test_larger, " in lines["swapped"]
    assert "[tests/test_rest.py::test_other_order, " in lines["seen by another file"]
    assert "[tests/test_core.py::test_ffr, " in lines["FFR forgotten"]
    assert lines["only a comment"].startswith("ESCAPED     4  kvmsve/rules/views.py: only a comment [all tests pass, ")
    assert "[it cannot be imported: ModuleNotFoundError: No module named 'nothing', " in lines["no such name"]
    assert lines["no C"].startswith("BAD         6  csrc/core.c: no C [it does not build: csrc/core.c:")
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert after == before


def test_an_escape_is_exit_1(tmp_path):
    root = make_project(tmp_path, {"swapped": (VIEWS, LARGER, "min(sve_vq, sme_vq)"), "comment": COMMENT})
    assert try_faults(root, "views.py", "--part", "2/2")[0] == 1


def test_tests_that_do_not_end_have_not_caught_the_fault(tmp_path):
    root = make_project(tmp_path, {"never ends": (VIEWS, "    return", "    while True: pass\n    return")})
    code, lines, last, _ = try_faults(root, "--timeout", "3")
    assert code == 1
    assert lines["never ends"].startswith("TIMED OUT   1 ")
    assert last.startswith("1 faults: 0 caught, 0 escaped, 1 timed out (give them more with --timeout), 0 bad, in ")


def test_the_time_limit_is_the_tests_own(tmp_path, monkeypatch):
    """A copy that takes long until it can be tested is no reason to give up."""

    async def build_slowly(clean, copy, fault):
        await asyncio.sleep(0.2)

    async def test_at_once(copy, fault):
        return trial.Outcome.CAUGHT, "a test", ()

    monkeypatch.setattr(trial, "make_faulty_copy", build_slowly)
    monkeypatch.setattr(trial, "_test", test_at_once)
    fault = entries.Fault(1, VIEWS, "nothing", "a", "b", ())
    assert asyncio.run(trial.try_fault(fault, tmp_path, 0.1)).outcome is trial.Outcome.CAUGHT


def test_a_test_that_always_fails_catches_nothing(tmp_path):
    broken = {"tests/rules/test_views.py": "def test_anything():\n    assert False\n"}
    code, _, _, err = try_faults(make_project(tmp_path, {"only a comment": COMMENT}, **broken))
    assert code == 2
    assert err == (
        "faults: tests/rules/test_views.py::test_anything fails without any fault too: what it caught is not caught\n"
    )


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ((VIEWS, "sve_vq", "0"), "the old text is there 2 times, not once; bring the entry up to date"),
        ((VIEWS, "gone", "0"), "the old text is there 0 times, not once; bring the entry up to date"),
        ((VIEWS, "max", "max"), "the old text and the new are the same"),
        (("kvmsve/gone.py", "max", "min"), "there is no such file"),
    ],
)
def test_a_stale_entry_is_refused_in_one_line(tmp_path, entry, complaint):
    root = make_project(tmp_path, {"it": entry})
    assert try_faults(root) == (2, {}, "", f"faults: fault 1, {entry[0]} (it): {complaint}\n")


def test_a_fault_that_is_not_there_is_refused_in_one_line(tmp_path):
    root = make_project(tmp_path, {"only a comment": COMMENT})
    assert try_faults(root, "99") == (2, {}, "", "faults: no fault has the number or file 99; --list shows them\n")


def test_a_part_that_is_empty_is_refused_in_one_line(tmp_path):
    root = make_project(tmp_path, {"only a comment": COMMENT})
    said = "faults: part 2/3 has none of the 1 faults: K is at most 1 here\n"
    assert try_faults(root, "--part", "2/3") == (2, {}, "", said)
    assert try_faults(root, "--list", "--part", "2/3") == (2, {}, "", said)


@pytest.mark.parametrize("arguments", [["--list"], []])
def test_a_report_that_does_not_fit_the_disk(tmp_path, arguments):
    root = make_project(tmp_path, {"only a comment": COMMENT})
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*FAULTS_COMMAND, *arguments], cwd=root, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "faults: standard output: No space left on device\n")


def test_a_report_whose_reader_has_gone(tmp_path):
    root = make_project(tmp_path, {"only a comment": COMMENT})
    reader, closed = os.pipe()
    os.close(reader)
    done = subprocess.run([*FAULTS_COMMAND, "--list"], cwd=root, stdout=closed, stderr=subprocess.PIPE, text=True)
    os.close(closed)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_parts_are_the_whole_list_once():
    listed = [listing("--part", f"{k}/3") for k in (1, 2, 3)]
    assert sorted(line for part in listed for line in part) == sorted(listing())
    assert [len(part) for part in listed] == [len(FAULTS[k::3]) for k in (0, 1, 2)]


def listing(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "tests.faults", "--list", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
