"""Facts: the fields of a recording's lines and what each may be.

A check's docstring is the end of the complaint about a value that fails it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from ..facts import VQ_MAX

Op = dict[str, Any]
Check = Callable[[Any], bool]
Fields = Mapping[str, Check]


def is_text(value: object) -> bool:
    """not a string"""
    return isinstance(value, str)


def is_object(value: object) -> bool:
    """not an object"""
    return isinstance(value, dict)


def is_flag(value: object) -> bool:
    """not true or false"""
    return isinstance(value, bool)


def is_int(value: object) -> bool:
    """not a signed number of 32 bits"""
    return type(value) is int and -(1 << 31) <= value < 1 << 31


def is_count(value: object) -> bool:
    """not a number of 0 or more"""
    return type(value) is int and 0 <= value < 1 << 64


def is_bit(value: object) -> bool:
    """not a feature bit, 0 to 31"""
    return type(value) is int and 0 <= value < 32


def is_number(value: object) -> bool:
    """not a hexadecimal number of up to 64 bits"""
    return isinstance(value, str) and 0 < len(value) <= 16 and is_hex_text(value)


def is_hex_text(value: str) -> bool:
    return not value.strip("0123456789abcdefABCDEF")


def is_bytes(value: object) -> bool:
    """not bytes in hexadecimal"""
    return isinstance(value, str) and len(value) % 2 == 0 and is_hex_text(value)


def is_reg_id(value: object) -> bool:
    """not a register ID of 16 hexadecimal digits"""
    return isinstance(value, str) and len(value) == 16 and is_hex_text(value)


def is_errno(value: object) -> bool:
    """not the name of an error"""
    return isinstance(value, str) and value.startswith("E") and isinstance(getattr(errno, value, None), int)


def is_words(value: object) -> bool:
    """not the seven feature words"""
    return isinstance(value, list) and len(value) == 7 and all(type(n) is int and 0 <= n < 1 << 32 for n in value)


def is_lengths(value: object) -> bool:
    """not a list of vector lengths in quadwords"""
    return isinstance(value, list) and all(type(vq) is int and 1 <= vq <= VQ_MAX for vq in value)


def is_bits(value: object) -> bool:
    """not a list of feature bits"""
    return isinstance(value, list) and all(map(is_bit, value))


def is_id_regs(value: object) -> bool:
    """not an object of register IDs and values"""
    return isinstance(value, dict) and all(is_reg_id(k) and is_bytes(v) and len(v) == 16 for k, v in value.items())


def is_ids(value: object) -> bool:
    """not a list of register IDs"""
    return isinstance(value, list) and all(map(is_reg_id, value))


def is_steps(value: object) -> bool:
    """not a list of guest steps"""
    return isinstance(value, list) and all(isinstance(step, dict) for step in value)


def is_mode(value: object) -> bool:
    """neither "sm" nor "za\""""
    return isinstance(value, str) and value in ("sm", "za")


HOST_FIELDS: Fields = {
    "sve_vqs": is_lengths, "sme_vqs": is_lengths, "sme2": is_flag, "fa64": is_flag, "id_regs": is_id_regs,
}  # fmt: skip
OPTIONAL_HOST_FIELDS: Fields = {
    "features_valid": is_bits,
    "fpmr": is_flag,
    "big_endian": is_flag,
    "sme_feature": is_bit,
    "sme_cap": is_count,
    "sme_vls": is_reg_id,
    "features_offered": is_bits,
    "reg_list_base": is_count,
}
HEADINGS = ("case", "note")  # lines for people, no operations
_VCPU: Fields = {"vcpu": is_count, "ret": is_int}
OP_FIELDS: Mapping[str, Fields] = {
    "case": {"name": is_text},
    "note": {"text": is_text},
    "check_extension": {"on": is_text, "cap": is_count, "ret": is_int},
    "create_vm": {"vm": is_count, "ret": is_int},
    "create_vcpu": {"vm": is_count, "vcpu": is_count, "index": is_int, "ret": is_int},
    "enable_cap": {"vm": is_count, "cap": is_count, "ret": is_int},
    "close": {"vcpu": is_count, "vm": is_count},
    "vcpu_init": {**_VCPU, "target": is_count, "features": is_words},
    "finalize": {**_VCPU, "feature": is_int},
    "get": {**_VCPU, "id": is_reg_id},
    "set": {**_VCPU, "id": is_reg_id, "data": is_bytes},
    "get_short": {**_VCPU, "id": is_reg_id, "avail": is_count, "buf": is_bytes},
    "set_short": {**_VCPU, "id": is_reg_id, "avail": is_count, "buf": is_bytes},
    "reg_list": {**_VCPU, "n_in": is_count, "n_out": is_count},
    "run": _VCPU,
    "fail_allocations": {"vcpu": is_count, "n": is_count},
    "held": {
        "vcpu": is_count, "fp_state": is_text, "max_vq": is_count, "svcr": is_count, "fpmr": is_count,
        "fpsr": is_count, "fpcr": is_count, "sve_state": is_bytes, "sme_state": is_bytes, "vregs": is_bytes,
    },
}  # fmt: skip
_COMPARED: Fields = {"errno": is_errno, "crash": is_flag, "host_dependent": is_flag}
OPTIONAL_OP_FIELDS: Mapping[str, Fields] = {
    "create_vm": _COMPARED,
    "create_vcpu": _COMPARED,
    "enable_cap": _COMPARED,
    "vcpu_init": _COMPARED,
    "finalize": _COMPARED,
    "get": {**_COMPARED, "data": is_bytes, "mask": is_bytes},
    "set": {**_COMPARED, "tail": is_text},
    "get_short": {**_COMPARED, "copied": is_count},
    "set_short": {**_COMPARED, "copied": is_count},
    "reg_list": {**_COMPARED, "core": is_count, "sve": is_count, "sme": is_count, "ids": is_ids, "unwritten": is_count},
    "run": {**_COMPARED, "guest": is_steps, "immediate_exit": is_flag},
}
FIELDS_OF_SUCCESS = {"get": ("data",), "reg_list": ("core", "sve", "ids"), "run": ("guest",)}
STEP_FIELDS: Mapping[str, Fields] = {
    "msr": {"msr": is_text, "value": is_number},
    "mrs": {"mrs": is_text, "value": is_number},
    "smstart": {"smstart": is_mode},
    "smstop": {"smstop": is_mode},
    "rdvl": {"rdvl": is_count},
    "rdsvl": {"rdsvl": is_count},
    "write": {"write": is_text, "data": is_bytes},
    "read": {"read": is_text, "data": is_bytes},
    "narrow": {"narrow": is_count},
    "undef": {"undef": is_text},
}
OPTIONAL_STEP_FIELDS: Fields = {"vl": is_count, "mask": is_number, "esr": is_number}
