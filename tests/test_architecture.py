"""The shape of the package: floors and folders, who imports whom, where C is reached, how long a module is."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from places import PACKAGE

FLOORS = [
    ["errors", "files", "_ffi"],
    ["facts"],
    ["rules", "batch"],
    ["machine"],
    ["state"],
    ["ops", "report"],
    ["recording"],
    ["device", "lint", "diff"],
    ["cli"],
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
TREES = {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
FRONT = {Path("__init__.py"), Path("__main__.py")}  # what users see of all floors
MODULES = pytest.mark.parametrize("path", sorted(TREES), ids=str)
FOLDERS = sorted({path.parts[0] for path in TREES if len(path.parts) > 1})


def folder_of(path: Path) -> str:
    """A module's folder; for a module at the top its own name."""
    return path.parts[0].removesuffix(".py")


def imports_of(tree: ast.Module, path: Path) -> set[tuple[str, str]]:
    """What a module imports of kvmsve, wherever in its text: pairs of a dotted module and a name in it."""
    package = ("kvmsve", *path.parent.parts)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join(filter(None, (*start, node.module)))
            found |= {(base, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return {(base.removeprefix("kvmsve").strip("."), name) for base, name in found if f"{base}.".startswith("kvmsve.")}


def imported_folders(path: Path) -> set[str]:
    """The floors' entries that a module imports from: a module at the top by its own name."""
    return {(base or name).split(".")[0] for base, name in imports_of(TREES[path], path)}


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("from . import layout, regid", "facts/abi.py", {("facts", "layout"), ("facts", "regid")}),
        ("def f():\n    from .cpu import CpuRegs", "machine/guest.py", {("machine.cpu", "CpuRegs")}),
        ("from ..facts import Abi", "rules/views.py", {("facts", "Abi")}),
        ("from .._ffi import lib", "machine/regfile.py", {("_ffi", "lib")}),
        ("from kvmsve.machine import Vcpu", "lint/report.py", {("machine", "Vcpu")}),
        ("from kvmsve import machine", "lint/report.py", {("", "machine")}),
        ("import kvmsve.cli, numpy", "lint/report.py", {("cli", "")}),
        ("import numpy\nfrom concurrent.futures import wait", "batch.py", set()),
        ("from .facts import layout", "batch.py", {("facts", "layout")}),
    ],
)
def test_the_walk_sees_every_way_to_import(source, path, expected):
    assert imports_of(ast.parse(source), Path(path)) == expected


def test_every_folder_has_a_floor():
    assert {folder_of(path) for path in TREES.keys() - FRONT} == FLOOR_OF.keys() - {"_ffi"}


@MODULES
def test_a_folder_imports_only_from_floors_below(path):
    if path in FRONT:
        return
    own = folder_of(path)
    others = imported_folders(path) - {own}
    assert all(FLOOR_OF[other] < FLOOR_OF[own] for other in others), others


@MODULES
def test_a_module_imports_its_own_folder_only_downwards(path):
    """Some order of a folder's modules has every import point back: there is no circle."""
    own, reached, todo = ".".join(path.with_suffix("").parts), set(), [path]
    while todo:
        at = todo.pop()
        for base, name in imports_of(TREES[at], at):
            for dotted in (base, f"{base}.{name}"):
                other = Path(*dotted.split(".")).with_suffix(".py")
                if other in TREES and other.parent == path.parent and other not in reached:
                    reached.add(other)
                    todo.append(other)
    assert path not in reached, own


@MODULES
def test_other_folders_are_entered_through_what_they_export(path):
    for base, name in imports_of(TREES[path], path):
        folder, *inner = base.split(".")
        if folder not in FOLDERS or folder == folder_of(path) or path == Path("__main__.py"):
            continue
        assert name in import_module(f"kvmsve.{folder}").__all__, f"{base}.{name}"
        assert not inner, f"{base}: from {folder} itself"


@MODULES
def test_nobody_uses_another_modules_underscore_names(path):
    names = {name for _, name in imports_of(TREES[path], path)}
    assert not {name for name in names if name.startswith("_")} - {"_ffi"}
    tree = TREES[path]
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    own |= {getattr(node, "name", "") for node in ast.walk(tree)} | slots_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert node.attr in own or node.attr in PUBLIC_UNDERSCORES, f"line {node.lineno}: {node.attr}"


PUBLIC_UNDERSCORES = {"_replace", "_fields", "_make", "_asdict", "_SubParsersAction", "_mutex"}  # so named by others


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def slots_of(tree: ast.Module) -> set[str]:
    """Every string of the module's __slots__."""
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and named(node) == "__slots__"]
    return {leaf.value for value in found for leaf in ast.walk(value) if isinstance(leaf, ast.Constant)}


def named(node: ast.Assign) -> str:
    return getattr(node.targets[0], "id", "")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_what_lives_there_and_what_does_not(folder):
    text = ast.get_docstring(TREES[Path(folder, "__init__.py")]) or ""
    assert len(text.splitlines()) >= 3


def test_only_the_machine_and_the_batch_reach_the_c_module():
    reaching = {str(path) for path in TREES if "_ffi" in imported_folders(path)}
    assert reaching == {"machine/regfile.py", "batch.py"}


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
