"""The report: each figure beside its goal, the peers side by side, and on demand every vq pair.

pytest benchmarks                              the report
pytest benchmarks --benchmark-json FILE        the same figures for machines, in extra_info
pytest benchmarks --per-pair                   and a table of all 256 vq pairs
pytest benchmarks --plot FILE.png              and a plot of them (needs matplotlib)

A figure is the median of several values, from parts of the rounds or from processes of their own; beside it stand the
lowest and the highest of them. Times are reported, never asserted.
"""

from __future__ import annotations

import operator
import platform
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pytest


class Goal(NamedTuple):
    what: str
    sign: str
    bound: float

    def is_met(self, value: float) -> bool:
        return {"<=": operator.le, ">=": operator.ge}[self.sign](value, self.bound)


GOALS = {
    "patch": Goal("the patch's way / kvmsve_rewrite, mean of the 240 unequal vq pairs", ">=", 4.5),
    "patch, worst": Goal("  the same, the pair with the least gain", ">=", 2),
    "memcpy": Goal("kvmsve_rewrite / memcpy of the larger state, mean of the 240 pairs", "<=", 1.25),
    "fpsimd": Goal("FPSIMD to SVE and back / memcpy of the bytes written, mean of 16 vq", "<=", 1.5),
    "get": Goal("get_one_reg of a Z register / empty cffi call", "<=", 4),
    "set": Goal("set_one_reg of a Z register / empty cffi call", "<=", 4),
    "save": Goal("save of a vCPU (list, 49 registers) / 49 bare get_one_reg calls", "<=", 1.3),
    "widened, 1024": Goal("kvmsve.rewrite of 1,024 states, widened / numpy copy of the bytes moved", "<=", 1.25),
    "narrowed, 1024": Goal("kvmsve.rewrite of 1,024 states, narrowed / the same", "<=", 1.25),
    "widened, 16384": Goal("kvmsve.rewrite of 16,384 states, widened / the same", "<=", 1.25),
    "narrowed, 16384": Goal("kvmsve.rewrite of 16,384 states, narrowed / the same", "<=", 1.25),
    "threads": Goal("kvmsve.rewrite of 4,096 states, one thread / two threads", ">=", 1.7),
    "device": Goal("KVM_GET_ONE_REG of Z0 under kvmsve run / a message to Python and back", "<=", 3),
    "programs": Goal("  the same, calls of two programs at once / calls of one", ">=", 1.6),
    "conversions": Goal("conversions in 1,000 runs without userspace access", "<=", 0),
    "replay": Goal("replay of 100,000 recorded operations / lzma and json.loads of the same lines", "<=", 1.5),
    "lint": Goal("lint of VMMs' saves and restores / lzma and json.loads of the same lines", "<=", 4),
    "help": Goal("kvmsve --help / python -c pass", "<=", 2.5),
    "decode": Goal("kvmsve decode Z3 / python -c pass", "<=", 2.5),
    "import": Goal("import kvmsve, with Host / import numpy", "<=", 0.6),
}


class Report:
    """What the benchmarks of one session found."""

    def __init__(self) -> None:
        self.figures: dict[str, tuple[list[float], str]] = {}
        self.tables: list[str] = []
        self.benchmark: Any = None

    def figure(self, name: str, values: list[float], remark: str = "") -> None:
        """The median of values, each from a part of the rounds or a process of its own."""
        self.figures[name] = (values, remark)
        goal = GOALS[name]
        value = median(values)
        entry = {"value": value, "values": values, "goal": f"{goal.sign} {goal.bound}", "met": goal.is_met(value)}
        self.benchmark.extra_info[goal.what.strip()] = entry

    def table(self, title: str, columns: list[str], rows: dict[str, list[float]], form: str = ".1f") -> None:
        """A line for each row, numbers right-aligned under their columns."""
        width = max(map(len, rows)) + 2
        cells = {name: [format(value, form) for value in values] for name, values in rows.items()}
        widths = [max(map(len, column)) + 2 for column in zip(columns, *cells.values(), strict=True)]
        lines = [title.ljust(width), *(name.ljust(width) for name in rows)]
        for place, texts in enumerate([columns, *cells.values()]):
            lines[place] += "".join(text.rjust(size) for text, size in zip(texts, widths, strict=True))
        self.tables.append("\n".join(lines))
        self.benchmark.extra_info[title] = {
            name: dict(zip(columns, values, strict=True)) for name, values in rows.items()
        }

    def __str__(self) -> str:
        width = max(len(goal.what) for goal in GOALS.values())
        lines = [f"{'figure'.ljust(width)}     goal  result  lowest..highest"]
        for name, goal in GOALS.items():
            if name in self.figures:
                values, remark = self.figures[name]
                spread = f"{min(values):.2f}..{max(values):.2f}" if len(values) > 1 else ""
                verdict = "" if goal.is_met(median(values)) else "MISSED "
                lines.append(
                    f"{goal.what.ljust(width)}  {goal.sign} {goal.bound:<4g} {median(values):7.2f}"
                    f"  {spread.ljust(15)}  {verdict}{remark}".rstrip()
                )
        return "\n\n".join(["\n".join(lines), *self.tables])


REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kvmsve benchmarks")
    group.addoption("--per-pair", action="store_true", help="print a table of all 256 vq pairs")
    group.addoption("--plot", type=Path, metavar="FILE.png", help="write a plot of the cost against the vq pair")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_quiet = True  # pytest-benchmark's own table
    config.stash[REPORT] = Report()
    if config.option.plot:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise pytest.UsageError("--plot needs matplotlib: pip install matplotlib") from None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return pytest.Module.from_parent(parent, path=file_path) if file_path.match("bench_*.py") else None


@pytest.fixture
def report(request: pytest.FixtureRequest, benchmark: Any) -> Report:
    """Where a benchmark says what it found; it also has to run `benchmark` once, which the JSON file is about."""
    found = request.config.stash[REPORT]
    found.benchmark = benchmark
    return found


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    found = config.stash[REPORT]
    if found.figures:
        terminalreporter.section("kvmsve")
        terminalreporter.write_line(machine())
        terminalreporter.write_line(f"\n{found}\n")


def machine() -> str:
    models = [line.partition(":")[2].strip() for line in cpuinfo() if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    python = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{cpu or platform.machine()}, {platform.system()} {platform.release()}, {python}"


def cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
