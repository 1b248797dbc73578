"""Recordings as the tests know them: lines of plain JSON, read and taken apart without the package.

Only `operation`, `step` and `fields` go to the package's types and back.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import model
from places import RECORDINGS

from kvmsve.ops import Operation, Step
from kvmsve.ops.operations import Run
from kvmsve.recording import codec

ALL = sorted(RECORDINGS.glob("*.jsonl.xz"))

Op = dict[str, Any]


@cache
def lines(name: str) -> list[Op]:
    """A recording's lines, the header first: line n is lines(name)[n - 1]."""
    return [json.loads(line) for line in lzma.open(RECORDINGS / f"{name}.jsonl.xz")]


@cache
def _vms(name: str) -> dict[int, int]:
    return {op["vcpu"]: op["vm"] for op in lines(name) if op.get("op") == "create_vcpu"}


def _vm(name: str, op: Op) -> int | None:
    return op["vm"] if "vm" in op else _vms(name).get(op.get("vcpu", -1))


def history(name: str, line: int) -> list[tuple[int, Op]]:
    """All that was done with the VM of a line, up to and with the line; VMs do not feel each other."""
    vm = _vm(name, lines(name)[line - 1])
    numbered = enumerate(lines(name)[:line], 1)
    return [(n, op) for n, op in numbered if n == line or (vm is not None and n > 1 and _vm(name, op) == vm)]


def find(name: str, note: str, **fields: Any) -> int:
    """The first line after a note or case of that text that has these fields."""
    numbered = list(enumerate(lines(name), 1))
    start = next(n for n, op in numbered if note in (op.get("text"), op.get("name")))
    return next(n for n, op in numbered[start:] if op.items() >= fields.items())


def parse(path: Path) -> list[Op]:
    """The lines of a plain recording."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def operation(fields: Op) -> Operation:
    """The operation that a line of these fields says."""
    return codec.decode(json.dumps(fields).encode())


def step(fields: Op) -> Step:
    """The guest step of these fields."""
    run = operation({"op": "run", "vcpu": 0, "ret": 0, "guest": [fields]})
    assert isinstance(run, Run)
    assert run.guest is not None
    return run.guest[0]


def fields(done: Operation) -> Op:
    """The fields of the line that says an operation."""
    written: Op = json.loads(codec.encode(done))
    return written


def write(path: Path, objects: Iterable[Op]) -> Path:
    """A plain recording of these lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in objects))
    return path


def register_name(reg_id: int) -> str:
    """Z, P, FFR and V by number, for the IDs that the recordings hold most of."""
    if model.Z_BASE <= reg_id < model.Z_BASE + 0x400:
        return f"Z{reg_id >> 5 & 0x1F}"
    if model.P_BASE <= reg_id < model.FFR_ID:
        return f"P{reg_id >> 5 & 0x1F}"
    others = {model.FFR_ID: "FFR", model.FPSR: "FPSR", model.FPCR: "FPCR", model.ZCR: "ZCR_EL1", model.SVCR: "SVCR"}
    return others.get(reg_id) or f"V{model.CORE_V.index(reg_id)}"


def is_named(reg_id: int) -> bool:
    return reg_id in (*model.SVE_IDS[1:], *model.CORE_V, model.FPSR, model.FPCR, model.ZCR, model.SVCR)


def _small() -> list[Op]:
    """A made recording, of a vCPU with SVE vq 1 and SME vq 2, with every kind of operation and step in it."""
    host = {"sve_vqs": [1], "sme_vqs": [1, 2], "sme2": True, "fa64": True, "reg_list_base": 184, "id_regs": {}}
    z0, z1, vls = "6080000000150000", "6080000000150020", "606000000015ffff"
    fault = {"ret": -1, "errno": "EFAULT", "copied": 3, "host_dependent": True}
    guest = [
        {"msr": "cpacr", "value": "3330000"},
        {"undef": "zt0", "esr": "76000000"},
        {"msr": "smcr", "value": "40000001"},
        {"mrs": "svcr", "value": "f0", "mask": "3"},
        {"read": "z0", "vl": 16, "data": "11" * 16},
        {"narrow": 16},
        {"smstart": "sm"},
        {"rdvl": 32},
        {"write": "p3", "vl": 32, "data": "01020304"},
        {"smstop": "sm"},
        {"write": "v", "data": "ab" * 512},
        {"smstart": "za"},
        {"write": "za", "vl": 32, "data": "5a" * 1024},
        {"write": "zt0", "data": "d7" * 64},
    ]
    return [
        {"format": "kvmsve-recording", "version": 1, "abi": "rfc-v2", "host": host, "source": "made by hand"},
        {"op": "case", "name": "all operations"},
        {"op": "note", "text": "once or twice each"},
        {"op": "create_vm", "vm": 0, "ret": 0},
        {"op": "check_extension", "on": "vm", "cap": 170, "ret": 1},
        {"op": "create_vcpu", "vm": 0, "vcpu": 0, "index": 0, "ret": 0},
        {"op": "reg_list", "vcpu": 0, "n_in": 5, "ret": -1, "errno": "ENOEXEC", "n_out": 5},
        {"op": "vcpu_init", "vcpu": 0, "target": 0, "features": [0x110, 0, 0, 0, 0, 0, 0], "ret": 0},
        {"op": "get", "vcpu": 0, "id": vls, "ret": 0, "data": "01" + "00" * 63},
        {"op": "get", "vcpu": 0, "id": z0, "ret": -1, "errno": "EPERM"},
        {"op": "finalize", "vcpu": 0, "feature": 4, "ret": 0},
        {"op": "set", "vcpu": 0, "id": z0, "data": "11" * 32, "ret": 0, "tail": "any"},
        {"op": "get", "vcpu": 0, "id": z0, "ret": 0, "data": "11" * 32 + "00" * 224, "mask": "ff" * 256},
        {"op": "set_short", "vcpu": 0, "id": z1, "avail": 4, "buf": "22222222", **fault},
        {"op": "get_short", "vcpu": 0, "id": z1, "avail": 4, "buf": "222222a5", **fault},
        {"op": "reg_list", "vcpu": 0, "n_in": 0, "ret": -1, "errno": "E2BIG", "n_out": 282},
        {"op": "run", "vcpu": 0, "immediate_exit": True, "ret": -1, "errno": "EINTR"},
        {"op": "run", "vcpu": 0, "ret": 0, "guest": guest},
        {"op": "get", "vcpu": 0, "id": z0, "ret": 0, "data": "ab" * 16 + "00" * 240},
        {"op": "close", "vcpu": 0, "vm": 0},
    ]


SMALL = _small()
