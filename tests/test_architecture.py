"""The shape of the package: floors and folders, who imports whom, where C is reached, how long a module is."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from architecture import (
    FLOOR_OF,
    FOLDERS,
    FRONT,
    TREES,
    folder_of,
    foreign_underscores,
    hidden_imports,
    imports_of,
    reached_from,
    side_doors,
    upward_imports,
)
from places import PACKAGE

MODULES = pytest.mark.parametrize("path", sorted(TREES), ids=str)
IMPORTING_LATE = {Path("__init__.py"), Path("cli/program.py")}  # what a user asks for


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("from . import layout, regid", "facts/abi.py", {("facts", "layout"), ("facts", "regid")}),
        ("def f():\n    from .cpu import CpuRegs", "machine/guest.py", {("machine.cpu", "CpuRegs")}),
        ("if TYPE_CHECKING:\n    from ..cli import main", "machine/guest.py", {("cli", "main")}),
        ("from ..facts import Abi", "rules/views.py", {("facts", "Abi")}),
        ("from ..facts import abi as x", "rules/__init__.py", {("facts", "abi")}),
        ("from .._ffi import lib", "machine/regfile.py", {("_ffi", "lib")}),
        ("from kvmsve.machine import Vcpu", "lint/report.py", {("machine", "Vcpu")}),
        ("from kvmsve import machine", "lint/report.py", {("", "machine")}),
        ("import kvmsve.cli, numpy", "lint/report.py", {("cli", "")}),
        ("import kvmsve", "lint/report.py", {("", "")}),
        ("from .. import Host", "lint/report.py", {("", "Host")}),
        ("import numpy\nfrom concurrent.futures import wait", "batch.py", set()),
        ("from .facts import layout", "batch.py", {("facts", "layout")}),
    ],
)
def test_the_walk_sees_every_way_to_import(source, path, expected):
    assert imports_of(ast.parse(source), Path(path)) == expected


@pytest.mark.parametrize(
    ("source", "path", "wrong"),
    [
        ("from ..machine import Vcpu", "rules/views.py", {"machine"}),
        ("from ..lint import lint", "diff/revisions.py", {"lint"}),  # a neighbour on the floor
        ("from kvmsve.cli import main", "errors.py", {"cli"}),
        ("def f():\n    from ..recording import record", "ops/play.py", {"recording"}),
        ("from .. import Host", "lint/report.py", {"Host"}),  # all floors are behind the front
        ("import kvmsve", "lint/report.py", {""}),
        ("from ..facts import Abi\nfrom ..errors import KvmError\nfrom .views import View", "rules/onereg.py", set()),
    ],
)
def test_an_import_upwards_is_seen(source, path, wrong):
    assert upward_imports(ast.parse(source), Path(path)) == wrong


@pytest.mark.parametrize(
    ("source", "path", "wrong"),
    [
        ("from ..machine.registers import Registers", "ops/play.py", {"machine.registers.Registers"}),
        ("from ..machine import registers", "ops/play.py", {"machine.registers"}),  # a module that is not exported
        ("from ..machine import RegFile", "ops/play.py", {"machine.RegFile"}),
        ("from ..machine import *", "ops/play.py", {"machine.*"}),
        ("from .. import machine", "ops/play.py", {".machine"}),
        ("import kvmsve.machine.vcpu", "ops/play.py", {"machine.vcpu."}),
        ("import kvmsve.machine", "ops/play.py", {"machine."}),
        ("from ..machine import Vcpu\nfrom ..facts import regid\nfrom .outcome import Op", "ops/play.py", set()),
        ("from .. import errors, files", "ops/play.py", set()),
    ],
)
def test_a_side_door_is_seen(source, path, wrong):
    assert side_doors(ast.parse(source), Path(path)) == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from importlib import import_module\nimport_module('kvmsve.cli')", {"import_module"}),
        ("import importlib\nimportlib.import_module('.cli', 'kvmsve')", {"import_module"}),
        ("__import__('kvmsve.cli')", {"__import__"}),
        ("import sys\nsys.modules['kvmsve.cli'].main()", {"sys.modules"}),
        ("exec('import kvmsve.cli')", {"exec"}),
        ("import runpy\nrunpy.run_path('guest.py')", set()),  # a user's file
    ],
)
def test_an_import_without_a_statement_is_seen(source, wrong):
    assert hidden_imports(ast.parse(source)) == wrong


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("from .views import _view", {"_view"}),
        ("from . import views\nviews._view()", {"_view"}),
        ("vcpu._regs.look()", {"_regs"}),
        ("class A(B):\n    def f(self):\n        return self._theirs", {"_theirs"}),  # of a base class elsewhere
        (
            "from ..machine.registers import Registers\nclass A(Registers):\n    def f(self):\n        self._regs",
            {"_regs"},
        ),
        ("vcpu._Vcpu__regs", {"_Vcpu__regs"}),
        ("vcpu.__regs", {"__regs"}),
        ("getattr(vcpu, '_regs')", {"_regs"}),
        ("object.__setattr__(vcpu, '_regs', 1)", {"_regs"}),
        ("operator.attrgetter('system._regs')", {"_regs"}),
        ("class A:\n    def f(self, other):\n        self._mine = other._mine", set()),
        ("class A:\n    __slots__ = ('_mine',)\n    def f(self):\n        return self._mine", set()),
        ("class A:\n    _mine: int\n    def f(self):\n        return self._mine or self.__class__", set()),
        ("op._replace(vcpu=1)", set()),
        ("from .outcome import Difference\nclass A(Difference):\n    def f(self):\n        self._told = 1", set()),
    ],
)
def test_an_underscore_name_of_another_module_is_seen(source, wrong):
    assert foreign_underscores(ast.parse(source), Path("ops/play.py")) == wrong


def test_every_folder_has_a_floor():
    assert {folder_of(path) for path in TREES.keys() - FRONT} == FLOOR_OF.keys() - {"_ffi"}


def test_no_folder_is_in_a_folder():
    assert [path for path in TREES if len(path.parts) > 2] == []


@MODULES
def test_a_folder_imports_only_from_floors_below(path):
    assert path in FRONT or upward_imports(TREES[path], path) == set()


@MODULES
def test_other_folders_are_entered_through_what_they_export(path):
    assert path == Path("__main__.py") or side_doors(TREES[path], path) == set()


@MODULES
def test_imports_are_statements(path):
    assert hidden_imports(TREES[path]) == ({"import_module"} if path in IMPORTING_LATE else set())


@MODULES
def test_nobody_uses_another_modules_underscore_names(path):
    assert foreign_underscores(TREES[path], path) == set()


@MODULES
def test_a_module_imports_its_own_folder_only_downwards(path):
    """Some order of a folder's modules has every import point back: there is no circle."""
    assert path not in reached_from(path, TREES)


@pytest.mark.parametrize(
    "sources",
    [
        {"facts/abi.py": "from . import regid", "facts/regid.py": "def f():\n    from .abi import Abi"},
        {"facts/abi.py": "from ..facts import regid", "facts/regid.py": "from kvmsve.facts.abi import Abi"},
        {"facts/__init__.py": "from .abi import Abi", "facts/abi.py": "from . import Abi"},
        {"facts/__init__.py": "from .abi import Abi", "facts/abi.py": "from kvmsve.facts import Abi"},
        {"facts/abi.py": "import kvmsve.facts.abi"},
    ],
)
def test_a_circle_in_a_folder_is_seen(sources):
    trees = {Path(name): ast.parse(source) for name, source in sources.items()}
    assert [path for path in trees if path not in reached_from(path, trees)] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_folder_exports_is_there(folder):
    exported = import_module(f"kvmsve.{folder}").__all__
    assert len({*exported}) == len(exported) > 0
    exec(f"from kvmsve.{folder} import {', '.join(exported)}", {})
    assert [name for name in exported if name.startswith("_")] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_what_lives_there_and_what_does_not(folder):
    text = ast.get_docstring(TREES[Path(folder, "__init__.py")]) or ""
    assert len(text.splitlines()) >= 3


def test_only_the_machine_and_the_batch_reach_the_c_module():
    imports = {(str(path), base or name, name) for path, tree in TREES.items() for base, name in imports_of(tree, path)}
    assert {path for path, base, _ in imports if base == "_ffi"} == {"machine/regfile.py", "batch.py"}
    assert {base for _, base, name in imports if name in ("ffi", "lib")} == {"_ffi"}  # nobody hands it on


@MODULES
def test_a_module_is_short(path):
    assert len((PACKAGE / path).read_text().splitlines()) <= 320


def may_be_terse(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """A function of a line or two and a record of fields can be understood without a sentence."""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    text = ast.get_docstring(node)
    return len(node.body) - (text is not None) <= 2


@MODULES
def test_what_is_public_says_what_it_does(path):
    """A sentence begins with a capital or a `name`."""
    if path in FRONT:
        return
    public = [
        node
        for node in TREES[path].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not may_be_terse(node)
    ]
    for node in [TREES[path], *public]:
        text = ast.get_docstring(node) or ""
        assert text[:1].isupper() or text[:1] == "`" or text.startswith("kvmsve "), getattr(node, "name", str(path))
