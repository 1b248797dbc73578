"""kvmsve run: a program with a /dev/kvm that is the model."""

from __future__ import annotations

import argparse

from ..device import host as device_host
from ..device import launch, script, shim
from ..device import program as device_program
from .common import UsageError, complain
from .described import sme_vqs


def run(options: argparse.Namespace) -> int:
    """The program has run with a /dev/kvm of the host that the options describe; its exit code."""
    program = options.program[options.program[:1] == ["--"] :]
    if not program:
        raise UsageError("no program to run: kvmsve run [options] -- PROGRAM ARG...")
    try:
        host = device_host.create_host(
            options.abi, options.sve, sme_vqs(options), options.sme2, options.fa64, fpmr=options.fpmr, pmu=options.pmu,
            pointer_authentication=options.pauth, nested=options.nested,
        )  # fmt: skip
        guest = script.idle if options.guest is None else script.load_script(options.guest)
        return launch.launch(
            host, program, complain=complain, trace=complain if options.trace else None, script=guest,
            recording=options.record, sysroot=options.sysroot,
        )  # fmt: skip
    except (device_program.BadProgram, shim.MissingTool, script.ScriptError, ValueError) as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or program[0]}: {error.strerror or error}") from None
