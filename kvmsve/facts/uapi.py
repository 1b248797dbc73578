"""Facts: the ioctls of /dev/kvm on arm64, their structures, capabilities, attributes and exits.

Source: include/uapi/linux/kvm.h and arch/arm64/include/uapi/asm/kvm.h. All structures are little-endian, without holes.
"""

from __future__ import annotations

from struct import Struct

KVM_API_VERSION = 12
KVMIO = 0xAE
PAGES_OF_VCPU = 2  # struct kvm_run, and the ring of coalesced MMIO behind it


def _io(nr: int) -> int:
    return KVMIO << 8 | nr


def _iow(nr: int, size: int) -> int:
    return 1 << 30 | size << 16 | _io(nr)


def _ior(nr: int, size: int) -> int:
    return 2 << 30 | size << 16 | _io(nr)


def _iowr(nr: int, size: int) -> int:
    return 3 << 30 | size << 16 | _io(nr)


# Structures

CREATE_DEVICE = Struct("<III")  # type, fd, flags
DEVICE_ATTR = Struct("<IIQQ")  # flags, group, attr, addr
DIRTY_LOG = Struct("<IIQ")  # slot, padding, bitmap
CLEAR_DIRTY_LOG = Struct("<IIQQ")  # slot, pages, first page, bitmap
ENABLE_CAP = Struct("<II4Q64x")  # cap, flags, arguments
MEMORY_REGION = Struct("<IIQQQ")  # slot, flags, guest address, size, user address
MP_STATE = Struct("<I")
ONE_REG = Struct("<QQ")  # register ID, address
REG_LIST = Struct("<Q")  # n, then the IDs
SIGNAL_MASK = Struct("<I")  # length, then the set
VCPU_EVENTS = Struct("<BBB5xQ48x")  # SError pending, has ESR, external abort pending, the ESR
VCPU_INIT = Struct("<I7I")  # target, features
MEMORY_REGION2 = Struct("<IIQQQQII112x")  # the same, then offset and descriptor of a guest_memfd, padding
COUNTER_OFFSET = Struct("<QQ")  # offset, reserved
SMCCC_FILTER = Struct("<IIB15s")  # first function, their number, action, padding
REG_MASK_RANGE = Struct("<QI52s")  # address, range, reserved
IRQ_LEVEL = Struct("<II")  # line, level
IRQFD = Struct("<IIII16x")  # eventfd, line, flags, eventfd of the resampler
IOEVENTFD = Struct("<QQIiI36x")  # what is written, address, length, eventfd, flags
IRQ_ROUTING = Struct("<II")  # number of entries, flags
COALESCED_ZONE = Struct("<QII")  # address, size, is a port
GUEST_DEBUG = Struct("<II512x")  # control, padding, debug registers
WORD = Struct("<I")  # a number that an attribute or an ioctl points to
DWORD = Struct("<Q")
COMMAND = Struct("")  # an attribute that is told, and holds nothing
SIGNAL_SET_BYTES = 8

# Ioctls of /dev/kvm

KVM_GET_API_VERSION = _io(0x00)
KVM_CREATE_VM = _io(0x01)
KVM_CHECK_EXTENSION = _io(0x03)
KVM_GET_VCPU_MMAP_SIZE = _io(0x04)

# Ioctls of a VM

KVM_CREATE_VCPU = _io(0x41)
KVM_GET_DIRTY_LOG = _iow(0x42, DIRTY_LOG.size)
KVM_SET_USER_MEMORY_REGION = _iow(0x46, MEMORY_REGION.size)
KVM_SET_USER_MEMORY_REGION2 = _iow(0x49, 160)
KVM_CREATE_IRQCHIP = _io(0x60)
KVM_IRQ_LINE = _iow(0x61, 8)
KVM_REGISTER_COALESCED_MMIO = _iow(0x67, 16)
KVM_UNREGISTER_COALESCED_MMIO = _iow(0x68, 16)
KVM_SET_GSI_ROUTING = _iow(0x6A, 8)
KVM_IRQFD = _iow(0x76, 32)
KVM_IOEVENTFD = _iow(0x79, 64)
KVM_ENABLE_CAP = _iow(0xA3, ENABLE_CAP.size)
KVM_SIGNAL_MSI = _iow(0xA5, 32)
KVM_ARM_SET_DEVICE_ADDR = _iow(0xAB, 16)
KVM_ARM_PREFERRED_TARGET = _ior(0xAF, VCPU_INIT.size)
KVM_ARM_SET_COUNTER_OFFSET = _iow(0xB5, COUNTER_OFFSET.size)
KVM_ARM_GET_REG_WRITABLE_MASKS = _ior(0xB6, REG_MASK_RANGE.size)
KVM_CLEAR_DIRTY_LOG = _iowr(0xC0, CLEAR_DIRTY_LOG.size)
KVM_CREATE_DEVICE = _iowr(0xE0, CREATE_DEVICE.size)

# Ioctls of a vCPU

KVM_RUN = _io(0x80)
KVM_SET_REGS = _iow(0x82, 864)
KVM_SET_SIGNAL_MASK = _iow(0x8B, SIGNAL_MASK.size)
KVM_GET_MP_STATE = _ior(0x98, MP_STATE.size)
KVM_SET_MP_STATE = _iow(0x99, MP_STATE.size)
KVM_SET_GUEST_DEBUG = _iow(0x9B, 520)
KVM_GET_VCPU_EVENTS = _ior(0x9F, VCPU_EVENTS.size)
KVM_SET_VCPU_EVENTS = _iow(0xA0, VCPU_EVENTS.size)
KVM_GET_ONE_REG = _iow(0xAB, ONE_REG.size)
KVM_SET_ONE_REG = _iow(0xAC, ONE_REG.size)
KVM_ARM_VCPU_INIT = _iow(0xAE, VCPU_INIT.size)
KVM_GET_REG_LIST = _iowr(0xB0, REG_LIST.size)
KVM_ARM_VCPU_FINALIZE = _iow(0xC2, WORD.size)

# Ioctls of a VM, a vCPU or a device

KVM_SET_DEVICE_ATTR = _iow(0xE1, DEVICE_ATTR.size)
KVM_GET_DEVICE_ATTR = _iow(0xE2, DEVICE_ATTR.size)
KVM_HAS_DEVICE_ATTR = _iow(0xE3, DEVICE_ATTR.size)

# Capabilities that concern no register: number and value

GUESTDBG_ENABLE, GUESTDBG_SINGLESTEP = 1, 2
GUESTDBG_VALID = GUESTDBG_ENABLE | GUESTDBG_SINGLESTEP | 3 << 16  # and breakpoints in software and hardware
NR_MEMSLOTS = 32767
IPA_BITS_MIN = 32
IPA_BITS_DEFAULT = 40
IPA_BITS = 48

ALWAYS = (0, 0)
_CAPABILITIES = {  # number, value, and the kernel since which it is there
    "KVM_CAP_IRQCHIP": (0, 1, ALWAYS),
    "KVM_CAP_USER_MEMORY": (3, 1, ALWAYS),
    "KVM_CAP_NR_MEMSLOTS": (10, NR_MEMSLOTS, ALWAYS),
    "KVM_CAP_MP_STATE": (14, 1, ALWAYS),
    "KVM_CAP_COALESCED_MMIO": (15, 1, ALWAYS),
    "KVM_CAP_SYNC_MMU": (16, 1, ALWAYS),
    "KVM_CAP_DESTROY_MEMORY_REGION_WORKS": (21, 1, ALWAYS),
    "KVM_CAP_SET_GUEST_DEBUG": (23, 1, ALWAYS),
    "KVM_CAP_IRQ_ROUTING": (25, 4096, ALWAYS),
    "KVM_CAP_JOIN_MEMORY_REGIONS_WORKS": (30, 1, ALWAYS),
    "KVM_CAP_IRQFD": (32, 1, ALWAYS),
    "KVM_CAP_IOEVENTFD": (36, 1, ALWAYS),
    "KVM_CAP_INTERNAL_ERROR_DATA": (40, 1, ALWAYS),
    "KVM_CAP_VCPU_EVENTS": (41, 1, ALWAYS),
    "KVM_CAP_MAX_VCPUS": (66, 512, ALWAYS),
    "KVM_CAP_SIGNAL_MSI": (77, 1, ALWAYS),
    "KVM_CAP_READONLY_MEM": (81, 1, ALWAYS),
    "KVM_CAP_IRQFD_RESAMPLE": (82, 1, ALWAYS),
    "KVM_CAP_ARM_PSCI": (87, 1, ALWAYS),
    "KVM_CAP_ARM_SET_DEVICE_ADDR": (88, 1, ALWAYS),
    "KVM_CAP_DEVICE_CTRL": (89, 1, ALWAYS),
    "KVM_CAP_ENABLE_CAP_VM": (98, 1, ALWAYS),
    "KVM_CAP_ARM_PSCI_0_2": (102, 1, ALWAYS),
    "KVM_CAP_CHECK_EXTENSION_VM": (105, 1, ALWAYS),
    "KVM_CAP_IOEVENTFD_ANY_LENGTH": (122, 1, ALWAYS),
    "KVM_CAP_VCPU_ATTRIBUTES": (127, 1, ALWAYS),
    "KVM_CAP_MAX_VCPU_ID": (128, 512, ALWAYS),
    "KVM_CAP_IMMEDIATE_EXIT": (136, 1, ALWAYS),
    "KVM_CAP_ARM_USER_IRQ": (144, 1, ALWAYS),
    "KVM_CAP_ARM_INJECT_SERROR_ESR": (158, 1, ALWAYS),
    "KVM_CAP_COALESCED_PIO": (162, 1, ALWAYS),
    "KVM_CAP_ARM_VM_IPA_SIZE": (165, IPA_BITS, ALWAYS),
    "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2": (168, 3, ALWAYS),
    "KVM_CAP_ARM_IRQ_LINE_LAYOUT_2": (174, 1, ALWAYS),
    "KVM_CAP_ARM_NISV_TO_USER": (177, 1, ALWAYS),
    "KVM_CAP_ARM_INJECT_EXT_DABT": (178, 1, ALWAYS),
    "KVM_CAP_HALT_POLL": (182, 1, ALWAYS),
    "KVM_CAP_STEAL_TIME": (187, 1, ALWAYS),
    "KVM_CAP_SET_GUEST_DEBUG2": (195, GUESTDBG_VALID, ALWAYS),
    "KVM_CAP_PTP_KVM": (198, 1, ALWAYS),
    "KVM_CAP_SYSTEM_EVENT_DATA": (215, 1, ALWAYS),
    "KVM_CAP_ARM_SYSTEM_SUSPEND": (216, 1, ALWAYS),
    "KVM_CAP_COUNTER_OFFSET": (227, 1, (6, 4)),
    "KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES": (229, 0x4020_1000, (6, 4)),
    "KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES": (230, 1, (6, 7)),
    "KVM_CAP_USER_MEMORY2": (231, 1, (6, 8)),
    "KVM_CAP_ARM_SEA_TO_USER": (245, 1, (7, 0)),
}
KVM_CAP_NR_VCPUS = 9
KVM_CAP_MSI_DEVID = 131
KVM_CAP_GUEST_DEBUG_HW_BPS = 119
KVM_CAP_GUEST_DEBUG_HW_WPS = 120
_FEATURE_CAPABILITIES = {  # with the bit of the vCPU feature that it announces
    "KVM_CAP_ARM_EL1_32BIT": (93, 1),
    "KVM_CAP_ARM_PMU_V3": (126, 3),
    "KVM_CAP_ARM_PTRAUTH_ADDRESS": (171, 5),
    "KVM_CAP_ARM_PTRAUTH_GENERIC": (172, 6),
    "KVM_CAP_ARM_EL2": (240, 7),
}
ENABLED_CAPABILITIES = {168: ALWAYS, 177: ALWAYS, 182: ALWAYS, 216: ALWAYS, 228: (6, 4), 245: (7, 0)}

CAPABILITIES = {number: (value, since) for number, value, since in _CAPABILITIES.values()}
FEATURE_CAPABILITIES = dict(_FEATURE_CAPABILITIES.values())
_CAPABILITY_NAMES = {number: name for name, (number, *_) in {**_CAPABILITIES, **_FEATURE_CAPABILITIES}.items()} | {
    KVM_CAP_NR_VCPUS: "KVM_CAP_NR_VCPUS",
    KVM_CAP_MSI_DEVID: "KVM_CAP_MSI_DEVID",
    KVM_CAP_GUEST_DEBUG_HW_BPS: "KVM_CAP_GUEST_DEBUG_HW_BPS",
    KVM_CAP_GUEST_DEBUG_HW_WPS: "KVM_CAP_GUEST_DEBUG_HW_WPS",
    70: "KVM_CAP_ONE_REG",
    170: "KVM_CAP_ARM_SVE",
    239: "KVM_CAP_ARM_WRITABLE_IMP_ID_REGS",
}


def capability_name(cap: int, sme_cap: int | None = None) -> str:
    """The capability's name; `sme_cap` is the number that the revision gave to KVM_CAP_ARM_SME."""
    if cap == sme_cap:
        taken = _CAPABILITY_NAMES.get(cap)
        return "KVM_CAP_ARM_SME" + (f" (which later is {taken})" if taken else "")
    return _CAPABILITY_NAMES.get(cap, f"capability {cap}")


# Memory regions

KVM_MEM_LOG_DIRTY_PAGES = 1
KVM_MEM_READONLY = 2

# Devices and attributes

KVM_DEV_TYPE_ARM_VGIC_V3 = 7
KVM_DEV_TYPE_ARM_VGIC_ITS = 8
KVM_CREATE_DEVICE_TEST = 1

KVM_DEV_ARM_VGIC_GRP_ADDR = 0
KVM_DEV_ARM_VGIC_GRP_DIST_REGS = 1
KVM_DEV_ARM_VGIC_GRP_NR_IRQS = 3
KVM_DEV_ARM_VGIC_GRP_CTRL = 4
KVM_DEV_ARM_VGIC_GRP_REDIST_REGS = 5
KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS = 6
KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO = 7
KVM_DEV_ARM_VGIC_GRP_ITS_REGS = 8
KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ = 9

VGIC_V3_ADDR_DIST, VGIC_V3_ADDR_REDIST, VGIC_ITS_ADDR, VGIC_V3_ADDR_REDIST_REGION = range(2, 6)
VGIC_ADDR_ALIGNMENT = 1 << 16
VGIC_CTRL_INIT = 0
VGIC_INTERRUPTS = range(64, 1024, 32)  # those that an attribute can ask for

GICD_TYPER = 0x004  # the number of interrupts in steps of 32, less one
GICD_TYPER_LINES = 32

KVM_ARM_VCPU_PMU_V3_CTRL = 0
KVM_ARM_VCPU_TIMER_CTRL = 1
PMU_INIT = 1
PMU_ATTRIBUTES = {0: WORD, 1: COMMAND, 2: DWORD, 3: WORD, 4: WORD}  # interrupt, init, filter, which PMU, counters
TIMER_INTERRUPTS = {0: 27, 1: 30, 2: 28, 3: 26}  # by attribute, as a new vCPU has them

KVM_ARM_VCPU_PVTIME_CTRL = 2
PVTIME_ALIGNMENT = 64
PVTIME_UNSET = (1 << 64) - 1

KVM_ARM_VM_SMCCC_CTRL = 0
SMCCC_ACTIONS = range(3)  # handle, deny, forward to userspace
SMCCC_RESERVED = (range(0x8000_0000, 0x8001_0000), range(0xC000_0000, 0xC001_0000))  # the Arm architecture's calls

IRQFD_FLAGS = 3
KVM_IRQFD_FLAG_DEASSIGN = 1
IRQ_ROUTES = 4096
IRQ_TYPE_CPU, IRQ_TYPE_SPI, IRQ_TYPE_PPI = range(3)
PPIS, SPIS = range(16, 32), range(32, 1020)

REG_MASKS = 3 * 8 * 8  # of op1 0, 1 and 3, CRm and op2, in the array of KVM_ARM_GET_REG_WRITABLE_MASKS

# States of a vCPU

KVM_MP_STATE_RUNNABLE = 0
KVM_MP_STATE_STOPPED = 5
KVM_MP_STATE_SUSPENDED = 10

# struct kvm_run

RUN_IMMEDIATE_EXIT = 1  # offset of the byte that userspace sets
RUN_EXIT_REASON = 8  # offset of a word
RUN_EXIT = 32  # offset of the union

KVM_EXIT_DEBUG = 4
KVM_EXIT_MMIO = 6
KVM_EXIT_INTR = 10
KVM_EXIT_SYSTEM_EVENT = 24
EXIT_DEBUG = Struct("<IIQ")  # ESR_EL2, its upper half, FAR_EL2
ESR_SOFTWARE_STEP = 0xCB00_0022  # from a lower exception level, with the syndrome that KVM gives
EXIT_MMIO = Struct("<Q8sIB")  # address, data, length, is a write
EXIT_SYSTEM_EVENT = Struct("<II16Q")  # type, number of words, words
KVM_SYSTEM_EVENT_SHUTDOWN = 1

# Names of ioctls that programs try and that are not here, by number

UNKNOWN_IOCTLS = {
    0x81: "KVM_GET_REGS", 0x83: "KVM_GET_SREGS",
    0x84: "KVM_SET_SREGS", 0x85: "KVM_TRANSLATE", 0x8C: "KVM_GET_FPU", 0x8D: "KVM_SET_FPU",
    0xB4: "KVM_ARM_MTE_COPY_TAGS",
    0xC7: "KVM_RESET_DIRTY_RINGS", 0xCE: "KVM_GET_STATS_FD", 0xD2: "KVM_SET_MEMORY_ATTRIBUTES",
    0xD4: "KVM_CREATE_GUEST_MEMFD",
}  # fmt: skip


def ioctl_number(request: int) -> int:
    """The number of an ioctl within KVM's, without size and direction."""
    return request & 0xFF


def ioctl_bytes(request: int) -> int:
    """The size of the structure that the ioctl's argument points to."""
    return request >> 16 & 0x3FFF
