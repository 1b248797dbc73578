"""A line is an operation and an operation a line: what each field may be, value by value, and how it is written."""

from __future__ import annotations

from typing import Any

import pytest
import recorded
from places import TABLES
from recorded import SMALL, Op

from kvmsve.ops import OPERATIONS, STEPS, operations
from kvmsve.recording import codec
from kvmsve.recording.header import RecordedHost

CALL = {"vcpu": 0, "ret": 0}
REG_ID = "6080000000150000"
FAULT = {"ret": -1, "errno": "EFAULT"}
# An operation, one of its fields, what that may be and what not, and the words for it
TABLE: list[tuple[Op, str, list[Any], list[Any], str]] = [
    ({"op": "note"}, "text", ["", "a", "\U0001f600"], [None, 1, ["a"]], "a string"),
    ({"op": "get", "id": REG_ID, "data": "", **CALL}, "host_dependent", [True, False], [None, 0, 1, "true"],
     "true or false"),
    ({"op": "finalize", **CALL}, "feature", [0, -1, 7, -(1 << 31), (1 << 31) - 1],
     [None, True, 1.0, "1", -(1 << 31) - 1, 1 << 31], "a signed number of 32 bits"),
    ({"op": "fail_allocations", "vcpu": 0}, "n", [0, 1, (1 << 64) - 1], [-1, True, None, 1.0, "1"],
     "a number of 0 or more"),
    ({"op": "create_vcpu", "vm": 0, **CALL}, "index", [0, -1, -(1 << 31), (1 << 64) - 1],
     [-(1 << 31) - 1, None, True, 1.0, "1"], "a number of 32 bits with a sign or of 64 without"),
    ({"op": "set", "id": REG_ID, **CALL}, "data", ["", "00", "aBcD"],
     ["0", "0g", "00 11", "0x00", None, 0, "\u0661\u0661", [], {}], "bytes in hexadecimal"),
    ({"op": "set", "data": "", **CALL}, "id", [REG_ID, "ABCDEF0123456789"],
     ["", REG_ID[1:], "0x60800000001500", "60800000001500 0", "+080000000150000", "6_80000000150000", 1, None, []],
     "a register ID of 16 hexadecimal digits"),
    ({"op": "finalize", "feature": 4, "vcpu": 0, "ret": -1}, "errno", ["EINVAL", "ENOENT", "E2BIG", "EINTR"],
     ["", "E", "EOOPS", "INVAL", "errorcode", "22", 22, [], {}], "the name of an error"),
    ({"op": "vcpu_init", "target": 0, **CALL}, "features", [[0] * 7, [(1 << 32) - 1] * 7],
     [[0] * 6, [0] * 8, [1 << 32, *[0] * 6], [-1] * 7, ["0"] * 7, 7, None], "the seven feature words"),
    ({"op": "reg_list", "n_in": 0, "n_out": 0, "core": 0, "sve": 0, **CALL}, "ids", [[], [REG_ID]],
     [["c020"], [1], REG_ID, {REG_ID: 1}], "a list of register IDs"),
    ({"op": "run", **CALL}, "guest", [[], [{"rdvl": 16}]], [{}, "rdvl", 1], "a list of guest steps"),
]  # fmt: skip
STEP_TABLE: list[tuple[Op, str, list[Any], list[Any], str]] = [
    ({"msr": "zcr"}, "value", ["0", "f", "FFFFffff00000000"],
     ["", "0x1", "-1", "g", "0" * 17, 1, None, " 1", "1_0", "\u0661", [], {}], "a hexadecimal number of up to 64 bits"),
    *[({}, name, ["sm", "za"], ["", "smza", 1, None, ["sm"], {}], '"sm" or "za"') for name in ("smstart", "smstop")],
    *[({}, name, [0, 16], [-1, "16", None, 1.0], "a number of 0 or more") for name in ("rdvl", "rdsvl", "narrow")],
]  # fmt: skip
HOST: Op = SMALL[0]["host"]
HOST_TABLE: list[tuple[Op, str, list[Any], list[Any], str]] = [
    (HOST, "sve_vqs", [[], [1], [1, 2, 16], [2, 1]], [[0], [17], ["1"], [True], [1.0], 1, None, {"1": 1}],
     "a list of vector lengths in quadwords"),
    (HOST, "sme_feature", [0, 31], [-1, 32, 1 << 63, "0", True, 1.0, [1]], "a feature bit, 0 to 31"),
    (HOST, "features_valid", [[], [0], [31, 4]], [[32], [-1], ["0"], [False], 0], "a list of feature bits"),
    (HOST, "id_regs", [{}, {"603000000013c020": "1100000000000000"}],
     [[], None, {"603000000013c020": "11"}, {"c020": "1100000000000000"}, {"603000000013c020": 17}],
     "an object of register IDs and values"),
]  # fmt: skip


def refusal(fields: Op) -> str:
    """What is said of a line with these fields; nothing of a right one."""
    try:
        recorded.operation(fields)
    except codec.BadLine as bad:
        return str(bad)
    return ""


def refusal_of_step(fields: Op) -> str:
    return refusal({"op": "run", "guest": [fields], **CALL})


def refusal_of_host(fields: Op) -> str:
    return codec.complaint_of_fields(RecordedHost, fields)


CASES = [
    *[(refusal, *row) for row in TABLE],
    *[(refusal_of_step, *row) for row in STEP_TABLE],
    *[(refusal_of_host, *row) for row in HOST_TABLE],
]


@pytest.mark.parametrize(
    ("refused", "others", "name", "right", "wrong", "words"),
    CASES,
    ids=[f"{case[1].get('op')}-{case[2]}" for case in CASES],
)
def test_a_field_takes_what_is_right_and_names_what_is_not(
    refused: Any, others: Op, name: str, right: list[Any], wrong: list[Any], words: str
) -> None:
    assert [value for value in right if refused({**others, name: value})] == []
    for value in wrong:
        assert refused({**others, name: value}) == f'"{name}" is {codec.shorten(value)}, not {words}'


def test_operations_and_steps_are_those_of_the_format() -> None:
    """FORMAT.md."""
    assert {operation.__struct_config__.tag for operation in OPERATIONS} == {
        "case", "note", "check_extension", "create_vm", "create_vcpu", "enable_cap", "close", "vcpu_init", "finalize",
        "get", "set", "get_short", "set_short", "reg_list", "run", "fail_allocations", "held",
    }  # fmt: skip
    assert STEPS.keys() == {
        "msr", "mrs", "smstart", "smstop", "rdvl", "rdsvl", "write", "read", "narrow", "undef",
    }  # fmt: skip


def test_an_operation_can_be_made_with_plain_values_and_is_read_as_it_was_written() -> None:
    made = operations.Get(vcpu=3, reg_id=0x6080_0000_0015_0000, data=b"\x01\xff", ret=0)
    line = codec.encode(made)
    assert line == b'{"op":"get","vcpu":3,"id":"6080000000150000","data":"01ff","ret":0}'
    assert codec.decode(line) == made


def test_a_line_is_written_as_it_was_before_operations_had_types() -> None:
    """The table has a line of each form, written by kvmsve before it had kvmsve.ops."""
    lines = (TABLES / "recorded-lines.jsonl").read_bytes().splitlines()
    assert len(lines) >= 25
    for line in lines:
        assert codec.encode(codec.decode(line)) == line


def test_every_line_of_the_small_recording_keeps_its_fields() -> None:
    for fields in SMALL[1:]:
        assert recorded.fields(recorded.operation(fields)) == fields


@pytest.mark.parametrize(
    "fields", [{"op": "get", "id": REG_ID}, {"op": "run"}, {"op": "reg_list", "n_in": 0, "n_out": 0}]
)
def test_an_operation_that_was_not_done_is_no_line(fields: Op) -> None:
    assert refusal({"vcpu": 0, **fields}) == '"ret" is missing'


SHORT: Op = {"op": "get_short", "vcpu": 0, "id": REG_ID, "avail": 1, "buf": "a5"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"op": "get", "id": REG_ID, "data": "", "crash": True, **CALL}, '"get" succeeded, but has "crash"'),
        ({"op": "run", "guest": [], "crash": True, **CALL}, '"run" succeeded, but has "crash"'),
        ({"op": "finalize", "feature": 4, "errno": "EPERM", **CALL}, '"finalize" succeeded, but has "errno"'),
        ({"op": "finalize", "feature": 4, "vcpu": 0, "ret": -2, "errno": "EPERM"},
         '"ret" is -2; a call that fails returns -1'),
        ({"op": "finalize", "feature": 4, "vcpu": 0, "ret": -1}, '"finalize" failed without saying how: no "errno"'),
        ({"op": "get", "id": REG_ID, **CALL}, '"get" succeeded, but has no "data"'),
        ({"op": "run", **CALL}, '"run" succeeded, but has no "guest"'),
        ({"op": "reg_list", "n_in": 0, **CALL}, '"n_out" is missing'),
        ({"op": "reg_list", "n_in": 0, "n_out": 0, "core": 0, "sve": 0, **CALL},
         '"reg_list" succeeded, but has no "ids"'),
        ({**SHORT, "avail": 2, **FAULT}, '"avail" is 2, "buf" has 1 bytes'),
        ({**SHORT, "copied": 2, **FAULT}, '"copied" is 2, but "avail" is 1'),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other(fields: Op, said: str) -> None:
    assert refusal(fields) == said


def test_a_crash_is_the_failure_of_a_call() -> None:
    assert refusal({"op": "run", "vcpu": 0, "ret": -1, "crash": True}) == ""
    assert refusal({**SHORT, "copied": 1, **FAULT}) == ""


def test_text_is_written_in_ascii() -> None:
    assert codec.encode(operations.Note(text="\u00e9")) == b'{"op":"note","text":"\\u00e9"}'
