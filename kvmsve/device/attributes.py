"""Attributes of a device or a vCPU: values by group and number, kept and given back, with no effect."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from struct import Struct

from ..facts import uapi
from .file import Call, File, ioctl


class AttributesFile(File, ABC):
    """A file with attributes. A subclass says which by `attribute_struct`."""

    def __init__(self, name: str, link: str, linux: tuple[int, int], owner: object) -> None:
        super().__init__(name, link, linux, owner)
        self._values: dict[tuple[int, int], bytes] = {}

    @abstractmethod
    def attribute_struct(self, group: int, attr: int) -> Struct | None:
        """What an attribute points to; empty for a command. None where there is no such attribute."""

    @ioctl(uapi.KVM_HAS_DEVICE_ATTR)
    def has_device_attr(self, call: Call) -> None:
        """0 where the attribute is there. EFAULT, ENXIO."""
        self._find(call)

    @ioctl(uapi.KVM_SET_DEVICE_ATTR)
    def set_device_attr(self, call: Call) -> None:
        """The attribute has this value. EFAULT, ENXIO, EFAULT, then what it does not take."""
        group, attr, address, struct = self._find(call)
        values = call.memory.fetch(address, struct) if struct.size else ()
        self.check_attribute(group, attr, *values)
        self._values[group, attr] = struct.pack(*values)

    @ioctl(uapi.KVM_GET_DEVICE_ATTR)
    def get_device_attr(self, call: Call) -> None:
        """The value last set, else 0. EFAULT, ENXIO, EFAULT."""
        group, attr, address, struct = self._find(call)
        call.memory.store(address, self.attribute_value(group, attr, struct))

    def check_attribute(self, group: int, attr: int, *values: int) -> None:
        """The attribute takes this value, or this command can be done; OSError."""

    def has_been_set(self, group: int, attr: int) -> bool:
        return (group, attr) in self._values

    def attribute_value(self, group: int, attr: int, struct: Struct) -> bytes:
        """What an attribute gives back: the value last set, else 0."""
        return self._values.get((group, attr), bytes(struct.size))

    def _find(self, call: Call) -> tuple[int, int, int, Struct]:
        _, group, attr, address = call.fetch(uapi.DEVICE_ATTR)
        call.detail = f"group {group}, attribute 0x{attr:x}"
        struct = self.attribute_struct(group, attr)
        if struct is None:
            raise OSError(errno.ENXIO, "there is no such attribute")
        return group, attr, address, struct
