"""The memory slots of a VM: which guest addresses are the program's memory."""

from __future__ import annotations

import bisect
import errno
import mmap
from typing import NamedTuple

from ..facts import uapi

USER_ADDRESSES = 1 << 52
MAX_PAGES = (1 << 31) - 1


class Slot(NamedTuple):
    flags: int
    guest_address: int
    size: int
    address: int


class MemorySlots:
    """Slots by number. Nothing here is ever read or written: no guest instruction is executed."""

    def __init__(self, ipa_bits: int) -> None:
        self._end = 1 << ipa_bits
        self._slots: dict[int, Slot] = {}
        self._starts: list[int] = []  # guest addresses, sorted, of slots that do not overlap
        self._sizes: dict[int, int] = {}  # by guest address

    def set(self, number: int, flags: int, guest_address: int, size: int, address: int) -> None:
        """The slot is this memory, or with size 0 is gone (kvm_set_memory_region(), kvm_arch_prepare_memory_region()).

        Errors in order: EINVAL for flags that there are not, for what is not in whole pages, for a number or an address
        out of range, for removing a slot that is not there or changing one's size, address or access; EEXIST for an
        overlap; EFAULT beyond the VM's addresses.
        """
        old = self._slots.get(number)
        if flags & ~(uapi.KVM_MEM_LOG_DIRTY_PAGES | uapi.KVM_MEM_READONLY):
            raise OSError(errno.EINVAL, f"memory flags 0x{flags:x}")
        if (guest_address | size | address) % mmap.PAGESIZE:
            raise OSError(errno.EINVAL, f"memory comes in pages of {mmap.PAGESIZE} bytes")
        if number >= uapi.NR_MEMSLOTS or guest_address + size >= 1 << 64 or size // mmap.PAGESIZE > MAX_PAGES:
            raise OSError(errno.EINVAL, f"slot {number}, or its end, is out of range")
        if address + size > USER_ADDRESSES:
            raise OSError(errno.EINVAL, f"slot {number} is not in a program's memory")
        if not size:
            self._remove(number)
            return
        if old is not None and (old.size, old.address) != (size, address):
            raise OSError(errno.EINVAL, f"slot {number} has another size or memory")
        if old is not None and (old.flags ^ flags) & uapi.KVM_MEM_READONLY:
            raise OSError(errno.EINVAL, f"slot {number} was made with the other access")
        if self._overlaps(guest_address, size, old):
            raise OSError(errno.EEXIST, f"slot {number} overlaps another")
        if guest_address + size > self._end:
            raise OSError(errno.EFAULT, f"slot {number} ends beyond the VM's addresses")
        if old is not None:
            self._forget(old)
        self._slots[number] = Slot(flags, guest_address, size, address)
        bisect.insort(self._starts, guest_address)
        self._sizes[guest_address] = size

    def logged_bytes(self, number: int) -> int:
        """The size of a slot that keeps a log of dirty pages. EINVAL for a number out of range, ENOENT for another."""
        if number >= uapi.NR_MEMSLOTS:
            raise OSError(errno.EINVAL, f"slot {number} is out of range")
        slot = self._slots.get(number)
        if slot is None or not slot.flags & uapi.KVM_MEM_LOG_DIRTY_PAGES:
            raise OSError(errno.ENOENT, f"slot {number} keeps no log of dirty pages")
        return slot.size

    def has(self, guest_address: int) -> bool:
        """Whether a slot has this guest address."""
        position = bisect.bisect_right(self._starts, guest_address) - 1
        return position >= 0 and guest_address < self._starts[position] + self._sizes[self._starts[position]]

    def _overlaps(self, guest_address: int, size: int, old: Slot | None) -> bool:
        """Whether a slot other than `old` has an address of this range: the neighbours of its end decide."""
        position = bisect.bisect_left(self._starts, guest_address + size) - 1
        while position >= 0 and self._starts[position] + self._sizes[self._starts[position]] > guest_address:
            if old is None or self._starts[position] != old.guest_address:
                return True
            position -= 1
        return False

    def _remove(self, number: int) -> None:
        slot = self._slots.pop(number, None)
        if slot is None:
            raise OSError(errno.EINVAL, f"there is no slot {number}")
        self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        del self._starts[bisect.bisect_left(self._starts, slot.guest_address)]
        del self._sizes[slot.guest_address]
