"""What the value of an option may be."""

from __future__ import annotations

import argparse

from ..facts import REVISIONS, Abi, abi, layout, regid

ABI_NAMES = ", ".join(REVISIONS)


def to_abi(name: str) -> Abi:
    """The revision of this name."""
    try:
        return abi(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def to_vq(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= layout.VQ_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length in quadwords, 1 to {layout.VQ_MAX}")
    return int(text)


def to_vqs(text: str) -> frozenset[int]:
    return frozenset(to_vq(vq.strip()) for vq in text.split(",")) if text else frozenset()


def to_number(text: str) -> int:
    """A number of up to 64 bits, with its prefix where it is not decimal."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of up to 64 bits")
    return value


def to_line(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a line number")
    return int(text)


def to_reg_id(text: str) -> int:
    """An ID in hexadecimal, with or without 0x, or a register's name."""
    by_name = {name: reg_id for reg_id, name in regid.NAMES.items()}
    if text.upper() in by_name:
        return by_name[text.upper()]
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a register ID in hexadecimal (64 bits) nor a register's name"
        )
    return value
