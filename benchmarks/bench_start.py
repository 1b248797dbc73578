"""What a program waits before its first call: imports beside numpy's, commands beside an idle Python."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from measure import least, overall

ROUNDS = 15
CODE = "from time import perf_counter; start = perf_counter(); import {}; print(perf_counter() - start)"
IMPORTS = {"kvmsve": "kvmsve; kvmsve.Host", "numpy": "numpy"}  # a folder is imported with the first of its names
COMMANDS = {"idle": ["-c", "pass"], "help": ["-m", "kvmsve", "--help"], "decode": ["-m", "kvmsve", "decode", "Z3"]}


def import_seconds(names: str) -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(names)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def command_seconds(arguments: list[str]) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - start


def test_import(report, benchmark):
    parts = least({name: lambda code=code: import_seconds(code) for name, code in IMPORTS.items()}, rounds=ROUNDS)
    ms = overall(parts)["kvmsve"] * 1000
    report.figure("import", [seconds["kvmsve"] / seconds["numpy"] for seconds in parts], f"{ms:.0f} ms")
    benchmark.pedantic(import_seconds, (IMPORTS["kvmsve"],), rounds=5)


def test_commands(report, benchmark):
    timers = {name: lambda arguments=arguments: command_seconds(arguments) for name, arguments in COMMANDS.items()}
    parts = least(timers, rounds=ROUNDS)
    for name in ("help", "decode"):
        ms = overall(parts)[name] * 1000
        report.figure(name, [seconds[name] / seconds["idle"] for seconds in parts], f"{ms:.0f} ms")
    benchmark.pedantic(command_seconds, (COMMANDS["help"],), rounds=5)
