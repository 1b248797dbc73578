"""Mutants of the rule modules that no unit test notices: python -m tests.faults.mutation [MODULE ...]

The mutations are mutmut's. mutmut itself leaves out decorated functions, among them every property, and collects
the tests anew for each mutant; here they are collected once, and each mutant is a fork in which the function has the
mutant's code. Tests run that reached the function, the quickest first, until one fails. What survives is listed in
survivors.toml with the reason. A survivor that is not listed there, and an entry that none of them is, are printed.

Exit: 0 if there is neither, 1 if there is one, 2 if the tests fail without a mutant.

Not mutated: data at the level of modules, which tests compare with tables. Counted as "unreached": functions that run
only while the package is imported, and default values of parameters.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

import libcst as cst
import pytest
from mutmut.mutation import file_mutation

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "kvmsve"
MODULES = (
    "facts/abi", "facts/features", "facts/layout", "facts/regid", "facts/revisions",
    "rules/idregs", "rules/onereg", "rules/reglist", "rules/sysreg", "rules/views", "batch",
    "machine/cpu", "machine/guest", "machine/host", "machine/idregs", "machine/ownership", "machine/regfile",
    "machine/registers", "machine/svcr", "machine/system", "machine/vcpu", "machine/vm_arch",
    "state/held", "state/migration",
)  # fmt: skip
UNITS = ("facts", "rules", "machine", "state", "test_batch.py", "recording/test_recordings.py")
TESTS = [f"tests/{name}" for name in UNITS]
TIME_LIMIT = 300  # seconds of one mutant
Place = tuple[str, str, int]  # file, qualified name and first line of a function


class Mutant(NamedTuple):
    """A module's source with one change: the line that was, and the line that is."""

    module: str
    old: str
    new: str
    source: str

    @property
    def is_wording(self) -> bool:
        """Only the words of a message differ, which tests leave free."""
        says = ("raise ", "check_number(", "fault(", "check_finalized(")
        return any(word in self.old for word in says) and _without_strings(self.old) == _without_strings(self.new)

    def __str__(self) -> str:
        return f"{self.module}: {self.new}"


def _without_strings(line: str) -> str:
    return re.sub(r'"[^"]*"', '""', line)


class DecoratedToo(file_mutation.MutationVisitor):
    """mutmut's visitor, which also goes into functions with decorators."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        return not isinstance(node, cst.FunctionDef) and super()._skip_node_and_children(node)


file_mutation.MutationVisitor = DecoratedToo  # type: ignore[misc]


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module's functions."""
    path = PACKAGE / f"{module}.py"
    original = path.read_text()
    tree, mutations, _, _ = file_mutation.create_mutations(str(path), original)
    for mutation in mutations:
        function = mutation.contained_by_top_level_function
        if isinstance(function, cst.FunctionDef):
            changed = function.deep_replace(mutation.original_node, mutation.mutated_node)
            source = tree.with_changes(body=_swapped(tree.body, function, changed)).code
            yield Mutant(module, *_first_difference(original, source), source)


def _swapped(statements: Iterable[cst.CSTNode], function: cst.FunctionDef, changed: cst.CSTNode) -> list[cst.CSTNode]:
    """The statements of a module or class with one function in them changed."""
    swapped = []
    for statement in statements:
        if isinstance(statement, cst.ClassDef):
            body = statement.body.with_changes(body=_swapped(statement.body.body, function, changed))
            statement = statement.with_changes(body=body)
        swapped.append(changed if statement is function else statement)
    return swapped


def _first_difference(original: str, source: str) -> tuple[str, str]:
    pairs = zip(original.splitlines(), source.splitlines(), strict=False)
    old, new = next((old, new) for old, new in pairs if old != new)
    return old.strip(), new.strip()


def code_objects(code: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """The code of every function in a compiled module."""
    yield (code.co_filename, code.co_qualname, code.co_firstlineno), code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def place(function: FunctionType) -> Place:
    code = function.__code__
    return code.co_filename, code.co_qualname, code.co_firstlineno


class Trial:
    """A pytest plugin that runs the collected tests once to see what each reaches, and then against each mutant."""

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules
        self.failed = False
        self.survivors: list[Mutant] = []
        self.endings: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.costs: dict[str, float] = {}
        self.reaching: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
        self.failed |= session.testsfailed > 0  # files that could not be collected
        for item in session.items:
            self._trace(item)
        if self.failed:
            pytest.exit("the tests fail without a mutant", pytest.ExitCode.TESTS_FAILED)
        self.functions = defaultdict(list)
        for function in gc.get_objects():
            if isinstance(function, FunctionType):
                self.functions[place(function)].append(function)
        self.caches = [held for held in gc.get_objects() if isinstance(held, type(lru_cache(main)))]
        gc.freeze()
        for module in self.modules:
            for mutant in mutants(module):
                self._try(mutant)
            print(f"\n{module}: {dict(self.endings[module])}", file=sys.__stderr__, flush=True)
        return True

    def _trace(self, item: pytest.Item) -> None:
        seen: set[CodeType] = set()
        start = time.perf_counter()
        sys.settrace(lambda frame, event, arg: seen.add(frame.f_code))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        sys.settrace(None)
        self.costs[item.nodeid] = time.perf_counter() - start
        for filename, name in {(code.co_filename, code.co_qualname) for code in seen}:
            self.reaching[filename, name.partition(".<locals>")[0]].append(item)

    def _try(self, mutant: Mutant) -> None:
        path = str(PACKAGE / f"{mutant.module}.py")
        try:
            codes = dict(code_objects(compile(mutant.source, path, "exec")))
        except SyntaxError:
            return
        changed = {
            at: codes[at] for at, held in self.functions.items() if codes.get(at) not in (None, held[0].__code__)
        }
        tests = {item.nodeid: item for filename, name, _ in changed for item in self.reaching[filename, name]}
        quickest_first = sorted(tests.values(), key=lambda item: self.costs[item.nodeid])
        ending = self._fork(changed, quickest_first) if tests else "unreached"
        if ending == "survived":
            self.survivors.append(mutant)
        self.endings[mutant.module]["wording" if ending == "survived" and mutant.is_wording else ending] += 1

    def _fork(self, changed: dict[Place, CodeType], tests: list[pytest.Item]) -> str:
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return {0: "survived", -signal.SIGALRM: "timeout"}.get(status, "killed")
        survived = False
        try:
            signal.alarm(TIME_LIMIT)
            tests[0].config.pluginmanager.unregister(name="terminalreporter")
            for at, code in changed.items():
                for function in self.functions[at]:
                    function.__code__ = code
            for cache in self.caches:
                cache.cache_clear()
            for item in tests:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if self.failed:
                    break
            survived = not self.failed
        finally:
            os._exit(not survived)


def main(modules: list[str]) -> int:
    """The exit code of the command."""
    gone = [module for module in modules if not (PACKAGE / f"{module}.py").is_file()]
    if gone:
        return _refuse(f"there is no kvmsve/{gone[0]}.py")
    trial = Trial(modules or list(MODULES))
    os.chdir(ROOT)
    ended = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS], plugins=[trial])
    if ended == pytest.ExitCode.INTERRUPTED:
        return _refuse("interrupted", 128 + signal.SIGINT)
    if ended != pytest.ExitCode.OK:
        return _refuse(f"without a mutant the tests do not pass, mend them first (pytest ends with {int(ended)})")
    explained = _explained(trial.modules)
    unexplained = [mutant for mutant in trial.survivors if str(mutant) not in explained and not mutant.is_wording]
    stale = explained - set(map(str, trial.survivors))
    total = sum(trial.endings.values(), Counter())
    print(f"{total.total()} mutants: {dict(total)}; {len(unexplained)} survivors are not explained")
    for mutant in unexplained:
        print(f"\n{mutant.module}\n- {mutant.old}\n+ {mutant.new}")
    for entry in sorted(stale):
        print(f"tests/faults/survivors.toml: no such mutant survives, remove it: {entry}")
    return int(bool(unexplained or stale))


def _explained(modules: list[str]) -> set[str]:
    """The mutants of these modules that survivors.toml lists."""
    groups = tomllib.loads((ROOT / "tests/faults/survivors.toml").read_text())["group"]
    return {entry for group in groups for entry in group["mutants"] if entry.partition(":")[0] in modules}


def _refuse(why: str, code: int = 2) -> int:
    print(f"mutation: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
