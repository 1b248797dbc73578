"""A program to run with our /dev/kvm: what machine it is for, and the command and environment that start it."""

from __future__ import annotations

import os
import platform
import shutil
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .shim import MissingTool, shim

ARM64 = "aarch64"
ELF_MAGIC = b"\x7fELF"
ELF_64_BIT = ELF_MAGIC + b"\x02\x01"  # little-endian
ELF_MACHINES = {62: "x86_64", 183: ARM64}
ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
PT_INTERP = 3
EMULATORS = ("qemu-aarch64", "qemu-aarch64-static")
CROSS_LIBRARIES = Path("/usr/aarch64-linux-gnu")
LIBRARY_FOLDERS = ("lib/{machine}-linux-gnu", "usr/lib/{machine}-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib")


@dataclass(frozen=True)
class Program:
    """A file to run: `machine` and `interpreter` (its dynamic linker) are None for what is no ELF file, as a script."""

    path: Path
    machine: str | None
    interpreter: str | None


class BadProgram(Exception):
    """The program cannot be run: says why."""


def find_program(name: str) -> Program:
    """The program of this name or path. BadProgram where there is none, or none that can be run with a shim."""
    found = shutil.which(name)
    if found is None:
        raise BadProgram(f"{name}: {'not executable' if Path(name).exists() else 'no such program'}")
    path = Path(found).absolute()  # no name that Popen would look for in PATH
    with path.open("rb") as file:
        if file.read(len(ELF_MAGIC)) != ELF_MAGIC:
            return Program(path, None, None)
        try:
            machine, interpreter = _read_elf(file)
        except (struct.error, UnicodeDecodeError):
            raise BadProgram(f"{path} is damaged: an ELF file that says nothing of its interpreter") from None
    if machine not in (platform.machine(), ARM64):
        raise BadProgram(f"{path} is for another machine: kvmsve runs aarch64 and {platform.machine()} programs")
    if interpreter is None:
        raise BadProgram(f"{path} is statically linked, and /dev/kvm is put in front of dynamic programs only")
    return Program(path, machine, interpreter)


def _read_elf(file: IO[bytes]) -> tuple[str | None, str | None]:
    """The machine, if it is one of ours, and the dynamic linker, if there is one."""
    file.seek(0)
    fields = ELF_HEADER.unpack(file.read(ELF_HEADER.size))
    machine, start, count = fields[2], fields[5], fields[10]
    if not fields[0].startswith(ELF_64_BIT) or machine not in ELF_MACHINES:
        return None, None
    for n in range(count):
        file.seek(start + n * PROGRAM_HEADER.size)
        kind, _, offset, _, _, size, _, _ = PROGRAM_HEADER.unpack(file.read(PROGRAM_HEADER.size))
        if kind == PT_INTERP:
            file.seek(offset)
            return ELF_MACHINES[machine], file.read(size).rstrip(b"\0").decode()
    return ELF_MACHINES[machine], None


def command(
    program: Program, arguments: Sequence[str], sysroot: Path | None = None, machine: str = platform.machine()
) -> list[str]:
    """What starts the program on this machine: itself, the dynamic linker of the tree it lies in, or the emulator.

    BadProgram where a tree lacks its dynamic linker, MissingTool where there is no emulator.
    """
    if program.machine in (None, machine):
        return [*_linker(program, sysroot, machine), str(program.path), *arguments]
    for emulator in EMULATORS:
        if shutil.which(emulator):
            return [emulator, str(program.path), *arguments]
    raise MissingTool(f"{program.path} is an aarch64 program, and there is no qemu-aarch64 to run it on "
                      f"{machine}; on Debian: sudo apt install qemu-user")  # fmt: skip


def _linker(program: Program, sysroot: Path | None, machine: str) -> list[str]:
    """What precedes a program of this machine that needs another system's libraries: that system's dynamic linker."""
    if program.interpreter is None:
        return []
    folder = sysroot or _sysroot(program, machine)
    linker, own = folder / program.interpreter.lstrip("/"), Path(program.interpreter)
    if not linker.exists() and machine == ARM64:
        raise BadProgram(f"{program.path} needs {own}, and there is no {linker}: --sysroot is the folder that has the "
                         "libraries of a whole system")  # fmt: skip
    is_for_emulators = not linker.exists()
    if is_for_emulators or (own.exists() and linker.samefile(own)):
        return []
    names = [name.format(machine=machine) for name in LIBRARY_FOLDERS]
    folders = [str(folder / name) for name in names if (folder / name).is_dir()]
    return [str(linker), "--library-path", ":".join(folders)]


def environment(
    program: Program, server: str, sysroot: Path | None, machine: str = platform.machine()
) -> dict[str, str]:
    """The variables that put the shim in front of the program on this machine.

    MissingTool, BadProgram for want of its libraries. An emulator adds those of QEMU_SET_ENV to its program's: there
    the shim is the emulated machine's, and knows it by KVMSVE_EMULATED.
    """
    variables = {**os.environ, "KVMSVE_SOCKET": server}
    if program.machine in (None, machine):
        _prepend(variables, "LD_PRELOAD", str(shim(machine)), ":")
        with suppress(MissingTool):  # a script may start an emulator itself
            _prepend(variables, "QEMU_SET_ENV", _emulated(), ",")
        if sysroot is not None:
            variables["QEMU_LD_PREFIX"] = str(sysroot)
        return variables
    _prepend(variables, "QEMU_SET_ENV", _emulated(), ",")
    variables["QEMU_LD_PREFIX"] = str(sysroot or _sysroot(program, machine))
    return variables


def _emulated() -> str:
    return f"LD_PRELOAD={shim(ARM64)},KVMSVE_EMULATED=1"


def _prepend(variables: dict[str, str], name: str, value: str, separator: str) -> None:
    variables[name] = separator.join(filter(None, (value, variables.get(name))))


def _sysroot(program: Program, machine: str) -> Path:
    """The folder where the program's dynamic linker and libraries are: the tree that it lies in, if it is one."""
    is_emulated = program.machine != machine
    inherited = os.environ.get("QEMU_LD_PREFIX")
    if inherited and is_emulated:
        return Path(inherited)
    assert program.interpreter is not None
    linker = program.interpreter.lstrip("/")
    for folder in (*program.path.resolve().parents, *[CROSS_LIBRARIES] * is_emulated):
        if (folder / linker).exists():
            return folder
    raise BadProgram(
        f"{program.path} needs {program.interpreter} and the other libraries of its system: give the folder that has "
        f"them as --sysroot{', or on Debian: sudo apt install libc6-arm64-cross' * is_emulated}"
    )
