"""The rules of the house: what a module imports, and what of it is wrong.

Each rule takes a module as a tree and gives what is wrong with it, so that it can be tried on a module that cheats.
"""

from __future__ import annotations

import ast
from collections import namedtuple
from importlib import import_module
from pathlib import Path

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
FOLDERS = sorted({path.parts[0] for path in TREES if len(path.parts) > 1})
BY_NAME = {"import_module", "__import__", "exec", "eval"}  # imports, or code, that the walk does not see
TAKE_A_NAME = {"getattr", "setattr", "hasattr", "delattr", "__setattr__", "attrgetter", "methodcaller"}
OF_OTHERS = {"_exit", "_SubParsersAction"}  # public in the docs of os, and of argparse for annotations


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


def upward_imports(tree: ast.Module, path: Path) -> set[str]:
    """Folders on the module's own floor or above that it imports from, and the front of the package."""
    others = {(base or name).split(".")[0] for base, name in imports_of(tree, path)} - {folder_of(path)}
    return {other for other in others if FLOOR_OF.get(other, len(FLOORS)) >= FLOOR_OF[folder_of(path)]}


def side_doors(tree: ast.Module, path: Path) -> set[str]:
    """What comes from another folder past what its `__init__` exports."""
    wrong = set()
    for base, name in imports_of(tree, path):
        folder, *inner = base.split(".")
        if folder == folder_of(path):
            continue
        if folder in FOLDERS:
            is_exported = not inner and name in import_module(f"kvmsve.{folder}").__all__
        else:
            is_exported = name not in FOLDERS  # a whole folder, of which anything could be used
        if not is_exported:
            wrong.add(f"{base}.{name}")
    return wrong


def hidden_imports(tree: ast.Module) -> set[str]:
    """Ways to import that need no import statement."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = names & BY_NAME
    if any(isinstance(node, ast.Attribute) and node.attr == "modules" for node in ast.walk(tree)):
        found.add("sys.modules")
    return found


def foreign_underscores(tree: ast.Module, path: Path) -> set[str]:
    """Underscore names that the module uses and has not made itself: imported, of an object, or in a string."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inherited = {node.attr for node in attributes if is_self(node.value)} & made_in_bases(tree, path)
    used = {name for _, name in imports_of(tree, path)} - {"_ffi"}
    used |= {node.attr for node in attributes if not (is_self(node.value) and node.attr in inherited)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if named(call.func) in TAKE_A_NAME:
            used |= {part for word in words_of(call) for part in word.split(".")}
    hidden = {name for name in used if name.startswith("_") and not name.endswith("__")}
    return hidden - made_in(tree) - OF_OTHERS - tuple_methods()


def made_in(tree: ast.Module) -> set[str]:
    """Names that the module makes: what it defines, assigns or has as slots, and what it stores in `self`."""
    made = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            made.add(node.attr)
        elif isinstance(node, ast.Assign) and named(node.targets[0]) == "__slots__":
            made |= words_of(node.value)
    return made


def made_in_bases(tree: ast.Module, path: Path) -> set[str]:
    """Names that the modules of base classes make, and those of their bases, of those that are neighbours."""
    bases = {named(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases}
    homes = {Path(*base.split(".")).with_suffix(".py") for base, name in imports_of(tree, path) if name in bases}
    near = {home for home in homes & TREES.keys() if home.parent == path.parent}
    return {name for home in near for name in made_in(TREES[home]) | made_in_bases(TREES[home], home)}


def is_self(node: ast.expr) -> bool:
    return named(node) in ("self", "cls")


def tuple_methods() -> set[str]:
    """The public methods of named tuples."""
    return {name for name in dir(namedtuple("T", "")) if name.startswith("_")}


def words_of(node: ast.AST) -> set[str]:
    """Every string in a part of a module."""
    return {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str)}


def named(node: ast.expr) -> str:
    """The last name of an expression such as `self`, `object.__setattr__`."""
    return str(getattr(node, "id", getattr(node, "attr", "")))


def reached_from(path: Path, trees: dict[Path, ast.Module]) -> set[Path]:
    """The modules of its folder that a module imports, or that these import."""
    reached, todo = set(), [path]
    while todo:
        at = todo.pop()
        homes = {home_of(base, name, trees) for base, name in imports_of(trees[at], at)}
        new = {home for home in homes if home and home.parent == path.parent} - reached
        reached |= new
        todo += new
    return reached


def home_of(base: str, name: str, trees: dict[Path, ast.Module]) -> Path | None:
    """The module that an import runs: the name is one, or a name of the base, which is one or a folder."""
    parts = base.split(".")
    candidates = ([*parts, name], parts, [*parts, "__init__"])
    paths = (Path(*candidate).with_suffix(".py") for candidate in candidates if any(candidate))
    return next((path for path in paths if path in trees), None)
