"""What `import kvmsve` costs a program, beside what `import numpy` costs it."""

from __future__ import annotations

import subprocess
import sys

from measure import least, overall

CODE = "from time import perf_counter; start = perf_counter(); import {}; print(perf_counter() - start)"


def import_seconds(name: str) -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(name)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import(report, benchmark):
    parts = least({name: lambda name=name: import_seconds(name) for name in ("kvmsve", "numpy")}, rounds=15)
    ms = overall(parts)["kvmsve"] * 1000
    report.figure("import", [seconds["kvmsve"] / seconds["numpy"] for seconds in parts], f"{ms:.0f} ms")
    benchmark.pedantic(import_seconds, ("kvmsve",), rounds=5)
