"""The shape of the package: who imports whom, where C is reached, how long a module is, what says what it does."""

import ast
from pathlib import Path

import pytest

import kvmsve

PACKAGE = Path(kvmsve.__file__).parent
ORDER = [
    "errors", "mutex", "layout", "regid", "abi", "views", "onereg", "sysreg", "idregs", "reglist", "features",
    "regfile", "svcr", "ownership", "cpu", "guest", "system", "registers", "vcpu", "migration", "lines", "output",
    "schema", "compare", "steps", "recording", "replay", "recorded_guest", "oplog", "recorder", "snapshot", "losses",
    "rehearsal", "findings", "save_rules", "restore_rules", "lint", "show", "bench", "probes", "diff", "divergence",
    "device.uapi", "device.memory", "device.file", "device.attributes", "device.gic", "device.memslots",
    "device.script", "device.kernel", "device.vcpu", "device.vm", "device.system", "device.descriptors",
    "device.trace", "device", "device.machine", "device.server", "device.shim", "device.program", "device.launch",
    "commands", "cli",
]  # fmt: skip
EXEMPT = {"__init__", "__main__"}


def module_of(path: Path) -> str:
    """The name by which ORDER knows a file: a package by its folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}
MODULES = pytest.mark.parametrize("module", sorted(TREES.keys() - EXEMPT))


def imports_of(tree: ast.Module, package: str = "") -> set[str]:
    """The modules of kvmsve that a module of a package (of kvmsve) imports, wherever in its text it does so."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            start = {0: "", 1: f"kvmsve.{package}", 2: "kvmsve"}[node.level].strip(".")
            base = ".".join(filter(None, (start, node.module)))
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("kvmsve.") for name in found if name.startswith("kvmsve.")}


NAMES = {f"kvmsve.{module}" for module in (*TREES, "_ffi")}


def package_of(module: str) -> str:
    """The package that a module's `.` stands for."""
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports(module: str) -> set[str]:
    return imports_of(TREES[module], package_of(module))


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("from . import layout, regid", "", {"layout", "regid"}),
        ("def f():\n    from .cpu import CpuRegs", "", {"cpu"}),
        ("from kvmsve.vcpu import Vcpu", "", {"vcpu"}),
        ("from kvmsve import regfile", "", {"regfile"}),
        ("import kvmsve.cli, numpy", "", {"cli"}),
        ("import numpy\nfrom concurrent.futures import wait", "", set()),
        ("from .device.launch import launch", "", {"device.launch"}),
        ("from . import Device, uapi\nfrom .. import regid", "device", {"device", "device.uapi", "regid"}),
        ("from .file import File\nfrom ..vcpu import Host", "device", {"device.file", "vcpu"}),
    ],
)
def test_the_walk_sees_every_way_to_import(source, package, expected):
    assert imports_of(ast.parse(source), package) == expected


@MODULES
def test_a_module_imports_only_those_above_it(module):
    assert module in ORDER, f"{module} has no place in the order"
    above = {*ORDER[: ORDER.index(module)], *({"_ffi"} if module == "regfile" else ())}
    assert imports(module) <= above


def test_only_regfile_reaches_the_c_module():
    assert [module for module in TREES if "_ffi" in imports(module)] == ["regfile"]


def test_the_rules_do_without_the_c_module():
    """Nothing above regfile reaches it by any chain of imports."""
    for module in ORDER[: ORDER.index("regfile")]:
        reached, todo = set(), {module}
        while todo:
            reached |= todo
            todo = {name for at in todo & TREES.keys() for name in imports(at)} - reached
        assert not reached & {"_ffi", "regfile"}, module


def test_the_modules_of_the_core_are_there():
    assert set(ORDER[: ORDER.index("vcpu") + 1]) <= TREES.keys()


@pytest.mark.parametrize("module", TREES)
def test_a_module_is_short(module):
    assert len(FILES[module].read_text().splitlines()) <= 320


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
