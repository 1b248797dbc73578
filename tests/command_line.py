"""The command line as a user meets it: exit code, output and complaint."""

from __future__ import annotations

import pytest

from kvmsve.cli import main

Capture = pytest.CaptureFixture[str]


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line that stops the program or returns."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return (code, *capsys.readouterr())


def complaint(capsys: Capture, *arguments: object) -> str:
    """The one line that a command line says which exits with 2 and prints nothing else."""
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kvmsve")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err
