"""The shape of the package: who imports whom, where C is reached, how long a module is, what says what it does."""

import ast
from pathlib import Path

import pytest

import kvmsve

PACKAGE = Path(kvmsve.__file__).parent
ORDER = [
    "errors", "mutex", "layout", "regid", "abi", "views", "onereg", "sysreg", "idregs", "reglist", "features",
    "regfile", "svcr", "ownership", "cpu", "guest", "system", "registers", "vcpu", "migration", "lines", "output",
    "schema", "compare", "steps", "recording", "replay", "recorded_guest", "recorder", "snapshot", "losses",
    "rehearsal", "findings", "save_rules", "restore_rules", "lint", "show", "bench", "probes", "diff", "divergence",
    "commands", "cli",
]  # fmt: skip
EXEMPT = {"__init__", "__main__"}

TREES = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}
MODULES = pytest.mark.parametrize("module", sorted(TREES.keys() - EXEMPT))


def imports_of(tree: ast.Module) -> set[str]:
    """The modules of this package that a module imports, wherever in its text it does so."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            name = (node.module or "") if node.level else (node.module or "").removeprefix("kvmsve").lstrip(".")
            if node.level or (node.module or "").split(".")[0] == "kvmsve":
                found |= {name.split(".")[0]} if name else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kvmsve.")}
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from . import layout, regid", {"layout", "regid"}),
        ("def f():\n    from .cpu import CpuRegs", {"cpu"}),
        ("from kvmsve.vcpu import Vcpu", {"vcpu"}),
        ("from kvmsve import regfile", {"regfile"}),
        ("import kvmsve.cli, numpy", {"cli"}),
        ("import numpy\nfrom concurrent.futures import wait", set()),
    ],
)
def test_the_walk_sees_every_way_to_import(source, expected):
    assert imports_of(ast.parse(source)) == expected


@MODULES
def test_a_module_imports_only_those_above_it(module):
    assert module in ORDER, f"{module} has no place in the order"
    above = {*ORDER[: ORDER.index(module)], *({"_ffi"} if module == "regfile" else ())}
    assert imports_of(TREES[module]) <= above


def test_only_regfile_reaches_the_c_module():
    assert [module for module, tree in TREES.items() if "_ffi" in imports_of(tree)] == ["regfile"]


def test_the_rules_do_without_the_c_module():
    """Nothing above regfile reaches it by any chain of imports."""
    for module in ORDER[: ORDER.index("regfile")]:
        reached, todo = set(), {module}
        while todo:
            reached |= todo
            todo = {name for at in todo for name in imports_of(TREES.get(at, ast.Module([], [])))} - reached
        assert not reached & {"_ffi", "regfile"}, module


def test_the_modules_of_the_core_are_there():
    assert set(ORDER[: ORDER.index("vcpu") + 1]) <= TREES.keys()


@pytest.mark.parametrize("module", TREES)
def test_a_module_is_short(module):
    assert len((PACKAGE / f"{module}.py").read_text().splitlines()) <= 320


def may_be_terse(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """A function of a line or two and a record of fields can be understood without a sentence."""
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    text = ast.get_docstring(node)
    return len(node.body) - (text is not None) <= 2


@MODULES
def test_what_is_public_says_what_it_does(module):
    """A sentence begins with a capital or a `name`."""
    public = [
        node
        for node in TREES[module].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not may_be_terse(node)
    ]
    for node in [TREES[module], *public]:
        text = ast.get_docstring(node) or ""
        assert text[:1].isupper() or text[:1] == "`", getattr(node, "name", module)
