"""Guest steps as types: what a guest does to its registers in a run, and what it sees (FORMAT.md, guest steps).

The first field of a step is the one that says which it is, by the format's word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from .fields import Count, Hex, HexNumber, Mode, Text


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a guest."""


class Msr(Step, frozen=True, kw_only=True):
    """A write of a control register."""

    register: Text = field(name="msr")
    value: HexNumber


class Mrs(Step, frozen=True, kw_only=True):
    """A read of a control register; of `value` only the bits of `mask` count."""

    register: Text = field(name="mrs")
    value: HexNumber
    mask: HexNumber | None = None


class SmStart(Step, frozen=True, kw_only=True):
    """Streaming mode, or ZA, is on."""

    mode: Mode = field(name="smstart")


class SmStop(Step, frozen=True, kw_only=True):
    """Streaming mode, or ZA, is off."""

    mode: Mode = field(name="smstop")


class RdVl(Step, frozen=True, kw_only=True):
    """The length in force was so many bytes."""

    vl: Count = field(name="rdvl")


class RdSvl(Step, frozen=True, kw_only=True):
    """The streaming length in force was so many bytes."""

    svl: Count = field(name="rdsvl")


class Write(Step, frozen=True, kw_only=True):
    """A store to the registers that `what` stands for, at the length in force `vl` where there is one."""

    what: Text = field(name="write")
    vl: Count | None = None
    data: Hex


class Read(Step, frozen=True, kw_only=True):
    """A load from them."""

    what: Text = field(name="read")
    vl: Count | None = None
    data: Hex


class Narrow(Step, frozen=True, kw_only=True):
    """This CPU cleared everything beyond so many bytes."""

    vl: Count = field(name="narrow")


class Undef(Step, frozen=True, kw_only=True):
    """This took an exception to EL1, with this syndrome, and had no effect."""

    what: Text = field(name="undef")
    esr: HexNumber | None = None


STEPS: dict[str, type[Step]] = {step.__struct_encode_fields__[0]: step for step in Step.__subclasses__()}

if TYPE_CHECKING:
    Steps = list[Step]
else:

    class Steps(list):
        """a list of guest steps"""
