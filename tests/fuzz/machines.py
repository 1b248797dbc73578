"""Two machines alike, asked the same: both must end in the same way, in one of those that the docstrings promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from kvmsve import REVISIONS, GuestUndefined, Host, HostOops, KvmError, Vcpu

from .arguments import KNOWN_IDS, Pair, Pick

counts: Counter[str] = Counter()

Outcome = tuple[str, Any]

NAMES = list(REVISIONS)
SVE_SETS = [(), (1,), (1, 2), (1, 2, 4), (1, 2, 3, 4, 5, 6, 7, 8), (1, 2, 4, 8, 16), (1, 2, 3), tuple(range(1, 17))]
SME_SETS = [(), (1,), (2,), (1, 2), (1, 2, 4), (4,), (1, 2, 4, 8), (16,), (2, 8)]
WHILE_BUSY = "KVM_RUN holds the vCPU"


def outcome(call: Callable[..., Any], *arguments: Any) -> Outcome:
    """How a call ends. Anything but a documented error comes through."""
    try:
        return "returned", call(*arguments)
    except KvmError as error:
        return error.symbol, error.strerror
    except (HostOops, GuestUndefined) as end:
        return type(end).__name__, str(end)
    except (TypeError, ValueError, IndexError):
        return "wrong argument", None
    except RuntimeError as error:
        assert WHILE_BUSY in str(error) or "has ended" in str(error), error
        return "busy", str(error)


class Machines:
    """Two machines alike, and what both have been asked."""

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.host = _host(
            pick.PickValueInList(NAMES), pick.PickValueInList(SVE_SETS), pick.PickValueInList(SME_SETS),
            pick.ConsumeIntInRange(0, 15),
        )  # fmt: skip
        self.vms = [self.host.create_vm() for _ in range(2)]
        self.vcpus: list[tuple[Vcpu, Vcpu]] = []

    def ioctl(self, calls: Iterable[Callable[..., Any]], *arguments: Pair) -> str:
        """How a call on either machine ends; never for its arguments if they are right."""
        end = self.both(calls, *arguments)[0]
        if end == "wrong argument":
            assert not all(is_right(pair[0]) for pair in arguments), f"refused: {arguments}"
        return end

    def both(self, calls: Iterable[Callable[..., Any]], *arguments: Pair) -> Outcome:
        """The outcome of a call on either machine, which is the same."""
        ends = [outcome(call, *(pair[side] for pair in arguments)) for side, call in enumerate(calls)]
        assert ends[0] == ends[1], f"{ends[0]} and {ends[1]} of {arguments}"
        counts[ends[0][0] if ends[0][0] in COUNTED else "refused"] += 1
        return ends[0]


COUNTED = {"returned", "wrong argument", "HostOops", "GuestUndefined", "busy"}


def is_right(argument: Any) -> bool:
    """Surely what any ioctl takes there, if only to refuse it."""
    if isinstance(argument, set | list):
        return all(type(bit) is int and bit in range(224) for bit in argument)
    if type(argument) is int:
        return argument in range(1 << 31) or argument in KNOWN_IDS
    return isinstance(argument, bytes | bytearray)


@cache
def _host(name: str, sve_vqs: tuple[int, ...], sme_vqs: tuple[int, ...], flags: int) -> Host:
    return Host(
        abi=REVISIONS[name], sve_vqs=sve_vqs, sme_vqs=sme_vqs,
        sme2=bool(flags & 1), fa64=bool(flags & 2), fpmr=bool(flags & 4), big_endian=bool(flags & 8),
    )  # fmt: skip
