"""A GICv3 and its ITS as far as start-up and migration ask: registers are kept and given back."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from ..facts import uapi
from .attributes import AttributesFile
from .file import Kind


class GicFile(AttributesFile):
    """The interrupt controller of a VM, or a translation service of it."""

    kind = Kind.CONTROLLER

    def __init__(self, name: str, type_: int, owner: object) -> None:
        super().__init__(name, LINKS[type_], owner)
        self._groups = GROUPS[type_]

    def attribute_struct(self, group: int, attr: int) -> Struct | None:
        """Groups of 32-bit and of 64-bit registers, and commands (vgic_v3_has_attr(), vgic_its_has_attr())."""
        return self._groups.get(group)

    def attribute_value(self, group: int, attr: int, struct: Struct) -> bytes:
        """The registers as last set; GICD_TYPER tells the number of interrupts, which is an attribute of its own."""
        if (group, attr) != (uapi.KVM_DEV_ARM_VGIC_GRP_DIST_REGS, uapi.GICD_TYPER):
            return super().attribute_value(group, attr, struct)
        interrupts = super().attribute_value(uapi.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, uapi.WORD)
        lines = int.from_bytes(interrupts, "little") // uapi.GICD_TYPER_LINES
        return struct.pack(max(lines - 1, 0))


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
