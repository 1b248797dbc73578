"""The memory slots of a VM: which guest addresses are the program's memory."""

from __future__ import annotations

import errno
import mmap
from typing import NamedTuple

from ..facts import uapi


class Slot(NamedTuple):
    flags: int
    guest_address: int
    size: int
    address: int


class MemorySlots:
    """Slots by number. Nothing here is ever read or written: no guest instruction is executed."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}

    def set(self, number: int, flags: int, guest_address: int, size: int, address: int) -> None:
        """The slot is this memory, or with size 0 is gone (__kvm_set_memory_region()).

        Errors in order: EINVAL for flags that there are not, for what is not in whole pages, for a number out of range,
        for removing a slot that is not there or changing one's size, address or access; EEXIST for an overlap.
        """
        new, old = Slot(flags, guest_address, size, address), self._slots.get(number)
        if flags & ~(uapi.KVM_MEM_LOG_DIRTY_PAGES | uapi.KVM_MEM_READONLY):
            raise OSError(errno.EINVAL, f"memory flags 0x{flags:x}")
        if (guest_address | size | address) % mmap.PAGESIZE:
            raise OSError(errno.EINVAL, f"memory comes in pages of {mmap.PAGESIZE} bytes")
        if number >= uapi.NR_MEMSLOTS or guest_address + size >= 1 << 64:
            raise OSError(errno.EINVAL, f"slot {number}, or its end, is out of range")
        if not size:
            self._remove(number)
            return
        if old is not None and (old.size, old.address) != (size, address):
            raise OSError(errno.EINVAL, f"slot {number} has another size or memory")
        if old is not None and (old.flags ^ flags) & uapi.KVM_MEM_READONLY:
            raise OSError(errno.EINVAL, f"slot {number} was made with the other access")
        if any(_overlap(new, other) for n, other in self._slots.items() if n != number):
            raise OSError(errno.EEXIST, f"slot {number} overlaps another")
        self._slots[number] = new

    def logged_bytes(self, number: int) -> int:
        """The size of a slot that keeps a log of dirty pages; ENOENT for another."""
        slot = self._slots.get(number)
        if slot is None or not slot.flags & uapi.KVM_MEM_LOG_DIRTY_PAGES:
            raise OSError(errno.ENOENT, f"slot {number} keeps no log of dirty pages")
        return slot.size

    def _remove(self, number: int) -> None:
        if self._slots.pop(number, None) is None:
            raise OSError(errno.EINVAL, f"there is no slot {number}")


def _overlap(one: Slot, other: Slot) -> bool:
    return one.guest_address < other.guest_address + other.size and other.guest_address < one.guest_address + one.size
