"""A GICv3 and its ITS as far as start-up and migration ask: registers are kept and given back."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import partial
from struct import Struct

from ..facts import uapi
from .attributes import AttributesFile
from .file import Kind


class GicFile(AttributesFile):
    """The interrupt controller of a VM, or a translation service of it."""

    kind = Kind.CONTROLLER

    def __init__(self, name: str, type_: int, linux: tuple[int, int], owner: object, ipa_bits: int) -> None:
        super().__init__(name, LINKS[type_], linux, owner)
        self._groups = GROUPS[type_]
        self._ipa_bits = ipa_bits
        self._is_controller = type_ == uapi.KVM_DEV_TYPE_ARM_VGIC_V3

    @property
    def is_initialised(self) -> bool:
        """The attribute that begins it has been set."""
        return self.has_been_set(uapi.KVM_DEV_ARM_VGIC_GRP_CTRL, uapi.VGIC_CTRL_INIT)

    @property
    def is_placed(self) -> bool:
        """The distributor and a redistributor have addresses, without which no vCPU runs."""
        placed = partial(self.has_been_set, uapi.KVM_DEV_ARM_VGIC_GRP_ADDR)
        return placed(uapi.VGIC_V3_ADDR_DIST) and (
            placed(uapi.VGIC_V3_ADDR_REDIST) or placed(uapi.VGIC_V3_ADDR_REDIST_REGION)
        )

    @property
    def interrupts(self) -> int:
        """How many interrupts there are: as set, else those of a CPU alone."""
        asked = super().attribute_value(uapi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, uapi.WORD)
        return int.from_bytes(asked, "little") or uapi.GICD_TYPER_LINES

    def attribute_struct(self, group: int, attr: int) -> Struct | None:
        """Groups of 32-bit and of 64-bit registers, and commands (vgic_v3_has_attr(), vgic_its_has_attr())."""
        if self._is_controller and group == uapi.KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ and self.linux >= (7, 0):
            return uapi.WORD
        if self._is_controller and attr not in ATTRIBUTES.get(group, (attr,)):
            return None
        return self._groups.get(group)

    def check_attribute(self, group: int, attr: int, *values: int) -> None:
        """EINVAL for a number of interrupts or an address that is none, EBUSY and EEXIST for one that is fixed."""
        if not self._is_controller:
            return
        if group == uapi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS:
            if values[0] not in uapi.VGIC_INTERRUPTS:
                raise OSError(errno.EINVAL, "a GIC has 64 to 992 interrupts, in steps of 32")
            if self.is_initialised or self.has_been_set(group, attr):
                raise OSError(errno.EBUSY, "the number of interrupts is fixed")
        elif group == uapi.KVM_DEV_ARM_VGIC_GRP_ADDR and attr != uapi.VGIC_V3_ADDR_REDIST_REGION:
            if values[0] >> self._ipa_bits:
                raise OSError(errno.E2BIG, "the address is beyond the VM's")
            if values[0] % uapi.VGIC_ADDR_ALIGNMENT:
                raise OSError(errno.EINVAL, "the address is not one of 64 KiB")
            if self.has_been_set(group, attr):
                raise OSError(errno.EEXIST, "the controller has an address")

    def attribute_value(self, group: int, attr: int, struct: Struct) -> bytes:
        """The registers as last set; GICD_TYPER tells the number of interrupts, which is an attribute of its own."""
        if group == uapi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS:
            return struct.pack(self.interrupts)
        if (group, attr) != (uapi.KVM_DEV_ARM_VGIC_GRP_DIST_REGS, uapi.GICD_TYPER):
            return super().attribute_value(group, attr, struct)
        return struct.pack(self.interrupts // uapi.GICD_TYPER_LINES - 1)


ATTRIBUTES = {  # the attributes of a controller's groups that are not registers
    uapi.KVM_DEV_ARM_VGIC_GRP_ADDR: (
        uapi.VGIC_V3_ADDR_DIST, uapi.VGIC_V3_ADDR_REDIST, uapi.VGIC_V3_ADDR_REDIST_REGION,
    ),
    uapi.KVM_DEV_ARM_VGIC_GRP_CTRL: (uapi.VGIC_CTRL_INIT, 3),
}  # fmt: skip
LINKS = {
    uapi.KVM_DEV_TYPE_ARM_VGIC_V3: "anon_inode:kvm-arm-vgic-v3",
    uapi.KVM_DEV_TYPE_ARM_VGIC_ITS: "anon_inode:kvm-arm-vgic-its",
}

GROUPS: dict[int, Mapping[int, Struct]] = {
    uapi.KVM_DEV_TYPE_ARM_VGIC_V3: {
        uapi.KVM_DEV_ARM_VGIC_GRP_ADDR: uapi.DWORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_DIST_REGS: uapi.WORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS: uapi.WORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_CTRL: uapi.COMMAND,
        uapi.KVM_DEV_ARM_VGIC_GRP_REDIST_REGS: uapi.WORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS: uapi.DWORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO: uapi.WORD,
    },
    uapi.KVM_DEV_TYPE_ARM_VGIC_ITS: {
        uapi.KVM_DEV_ARM_VGIC_GRP_ADDR: uapi.DWORD,
        uapi.KVM_DEV_ARM_VGIC_GRP_CTRL: uapi.COMMAND,
        uapi.KVM_DEV_ARM_VGIC_GRP_ITS_REGS: uapi.DWORD,
    },
}
