"""The ioctls of /dev/kvm in process: recordings made through them, and what a kernel does around the registers."""

import ctypes
import errno
import gc
import json
import mmap
import os
import select
import socket
import struct
import threading

import pytest
from examples import bitmap, pattern, z
from ioctl_host import Edge, Guests, InProcess, IoctlHost
from places import SHIPPED, TABLES

import kvmsve
from kvmsve import Feature, Host
from kvmsve.device import Device, memory
from kvmsve.device.descriptors import identity
from kvmsve.device.host import create_host
from kvmsve.device.memory import ProcessMemory
from kvmsve.device.script import SHUTDOWN, ScriptFailure, load_script, mmio_write
from kvmsve.facts import regid, uapi
from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay

SVE_INIT = uapi.VCPU_INIT.pack(5, 1 << Feature.SVE.value, *[0] * 6)
NOWHERE = 0x10


@pytest.fixture
def device():
    return Device(Host(sve_vqs={1, 2}, sme_vqs={1, 2, 4}))


def create_vcpu(device, index=0):
    """A VM's and its vCPU's descriptor."""
    vm = device.ioctl(device.open(), uapi.KVM_CREATE_VM)
    return vm, device.ioctl(vm, uapi.KVM_CREATE_VCPU, index)


def create_sve_vcpu(device):
    vm, vcpu = create_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_FINALIZE, uapi.WORD.pack(Feature.VEC.value))
    return vm, vcpu


def get(device, vcpu, reg_id, size=256):
    buffer = ctypes.create_string_buffer(size)
    device.ioctl(vcpu, uapi.KVM_GET_ONE_REG, uapi.ONE_REG.pack(reg_id, ctypes.addressof(buffer)))
    return buffer.raw


def put(device, vcpu, reg_id, data):
    buffer = ctypes.create_string_buffer(data, len(data))
    device.ioctl(vcpu, uapi.KVM_SET_ONE_REG, uapi.ONE_REG.pack(reg_id, ctypes.addressof(buffer)))


def fails(device, on, request, argument=0):
    """The name of the errno with which an ioctl fails."""
    try:
        device.ioctl(on, request, argument)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "no error"


# Recordings of real kernels, ioctl by ioctl


@pytest.mark.parametrize("path", sorted(SHIPPED.iterdir()), ids=lambda path: path.name)
def test_a_recording_replays_through_ioctls(path):
    """Every errno, byte and list of a real kernel's recording, with all buffers at the end of the mapped memory."""
    recording, guests = Recording(path), Guests()
    host = recording.header.create_host()
    replay = Replay(recording)
    replay.host = IoctlHost(InProcess(Device(host, script=guests)), guests, host.abi)
    for line, op in recording:
        replay.play(line, op)


def test_numbers_and_structures_are_the_headers():
    table = json.loads((TABLES / "uapi-constants.json").read_text())
    for name, value in table["ioctl"].items():
        assert getattr(uapi, name) == int(value, 16), name
    assert uapi.ONE_REG.size == table["struct"]["sizeof kvm_one_reg"]
    assert uapi.VCPU_INIT.size == table["struct"]["sizeof kvm_vcpu_init"]
    assert uapi.REG_LIST.size == table["struct"]["sizeof kvm_reg_list"]
    for name in ("KVM_CAP_ARM_VM_IPA_SIZE", "KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ONE_REG", "KVM_CAP_ARM_SVE"):
        assert uapi.capability_name(table["cap"][name]) == name


# Files


def test_a_descriptor_can_be_duplicated_and_outlives_the_first(device):
    _, vcpu = create_sve_vcpu(device)
    copy = os.dup(vcpu)
    os.close(vcpu)
    assert get(device, copy, z(0)) == bytes(256)


def test_a_descriptor_can_be_sent_to_another_process_and_comes_back(device):
    _, vcpu = create_sve_vcpu(device)
    here, there = socket.socketpair()
    socket.send_fds(here, [b"x"], [vcpu])
    os.close(vcpu)
    _, (received,), _, _ = socket.recv_fds(there, 1, 1)
    assert fails(device, received, uapi.KVM_ARM_VCPU_FINALIZE, uapi.WORD.pack(4)) == "EPERM"


def test_a_file_is_gone_when_its_last_descriptor_is_closed(device):
    """As in the kernel a mapping counts, and a VM lives on while its vCPU does."""
    vm, vcpu = create_vcpu(device)
    mapped = mmap.mmap(vcpu, 4096)
    os.close(vm)
    os.close(vcpu)
    assert [name for name in device.sweep() if "vcpu" in name] == []
    mapped.close()
    assert device.sweep() == ["vm 0 vcpu 0"]


def test_other_descriptors_have_no_kvm_ioctls(device):
    create_vcpu(device)
    with open(os.devnull) as other:
        assert fails(device, other.fileno(), uapi.KVM_RUN) == "ENOTTY"


def test_poll_says_what_it_says_of_a_real_vcpu(device):
    _, vcpu = create_vcpu(device)
    poll = select.poll()
    poll.register(vcpu, select.POLLIN | select.POLLOUT)
    assert poll.poll(0) == [(vcpu, select.POLLIN | select.POLLOUT)]


def test_a_program_cannot_shrink_what_the_device_reads(device):
    _, vcpu = create_vcpu(device)
    with pytest.raises(PermissionError):
        os.ftruncate(vcpu, 0)


@pytest.mark.parametrize("way", ["closed", "left", "dropped"])
def test_fifty_devices_leave_no_descriptor(way):
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(50):
        device = Device(Host(sve_vqs={1}))
        kvm = device.open()
        vm = device.ioctl(kvm, uapi.KVM_CREATE_VM)
        for descriptor in (device.ioctl(vm, uapi.KVM_CREATE_VCPU), vm, kvm):
            os.close(descriptor)
        if way == "closed":
            device.close()
            device.close()
        elif way == "left":
            with device:
                pass
        del device
    assert set(os.listdir("/proc/self/fd")) <= {*before}


def test_a_closed_device_has_no_files(device):
    kvm = device.open()
    device.close()
    assert fails(device, kvm, uapi.KVM_GET_API_VERSION) == "ENOTTY"


def in_a_child(act):
    """What `act()` returns in a forked child, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(act()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as answer:
        return answer.read()


def test_another_process_has_no_ioctls_of_a_vm(device):
    """Asked of Linux 6.12 and 7.3: EIO before a look at the argument or the number; /dev/kvm itself answers."""
    kvm = device.open()
    vm = device.ioctl(kvm, uapi.KVM_CREATE_VM)
    vcpu = device.ioctl(vm, uapi.KVM_CREATE_VCPU)
    created = bytearray(uapi.CREATE_DEVICE.pack(7, 0, 0))
    device.ioctl(vm, uapi.KVM_CREATE_DEVICE, created)
    gic = uapi.CREATE_DEVICE.unpack(created)[1]

    def foreign():
        requests = [
            (vm, uapi.KVM_CHECK_EXTENSION), (vm, uapi.KVM_CREATE_VCPU), (vm, 0xAE7F), (vm, 0x5401),
            (vcpu, uapi.KVM_ARM_VCPU_INIT), (vcpu, uapi.KVM_GET_ONE_REG), (vcpu, uapi.KVM_RUN), (vcpu, 0xAE7F),
            (gic, uapi.KVM_HAS_DEVICE_ATTR), (gic, 0xAE7F),
        ]  # fmt: skip
        return {fails(device, on, request, 1) for on, request in requests}

    def own():
        another = device.ioctl(kvm, uapi.KVM_CREATE_VM)
        return device.ioctl(another, uapi.KVM_CREATE_VCPU) > 0, fails(device, vm, uapi.KVM_CREATE_VCPU)

    assert in_a_child(foreign) == "{'EIO'}"
    assert in_a_child(own) == "(True, 'EIO')"
    assert in_a_child(lambda: in_a_child(foreign)) == "{'EIO'}"
    assert device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT) == 0


def test_other_threads_have_the_vms_of_their_process(device):
    _, vcpu = create_sve_vcpu(device)
    values = []
    thread = threading.Thread(target=lambda: values.append(get(device, vcpu, z(0))))
    thread.start()
    thread.join()
    assert values == [bytes(256)]


def test_what_a_descriptor_is_can_be_seen(device):
    vm, vcpu = create_vcpu(device)
    links = [os.readlink(f"/proc/self/fd/{on}") for on in (vm, vcpu)]
    assert links == ["/memfd:anon_inode:kvm-vm (deleted)", "/memfd:anon_inode:kvm-vcpu:0 (deleted)"]


@pytest.mark.parametrize(("error", "said"), [(errno.ENOSYS, "not implemented"), (errno.EPERM, "not permitted")])
def test_memory_that_the_system_does_not_let_us_at_is_no_bad_address(device, monkeypatch, error, said):
    """In an emulator, or where a sandbox forbids it: what the system says, not EFAULT."""

    def process_vm_readv(*arguments):
        ctypes.set_errno(error)
        return -1

    monkeypatch.setattr(memory, "_read_process", process_vm_readv)
    _, vcpu = create_vcpu(device)
    with pytest.raises(OSError, match=rf"process_vm_readv\(\) on process \d+: .*{said}") as caught:
        device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
    assert caught.value.errno == error


def test_descriptors_do_not_survive_exec(device):
    assert not os.get_inheritable(create_vcpu(device)[1])


# /dev/kvm and VMs


def test_the_version_and_the_size_of_the_mapping(device):
    kvm = device.open()
    assert device.ioctl(kvm, uapi.KVM_GET_API_VERSION) == 12
    assert device.ioctl(kvm, uapi.KVM_GET_VCPU_MMAP_SIZE) >= mmap.PAGESIZE
    assert fails(device, kvm, uapi.KVM_GET_API_VERSION, 1) == "EINVAL"
    assert fails(device, kvm, uapi.KVM_GET_VCPU_MMAP_SIZE, 1) == "EINVAL"


def test_an_unknown_ioctl_is_named_in_the_trace():
    lines = []
    device = Device(Host(), trace=lines.append)
    kvm = device.open()
    assert fails(device, kvm, 0xAECE) == fails(device, kvm, 0xAE7F) == "EINVAL"
    assert fails(device, kvm, uapi.KVM_RUN) == "EINVAL"
    assert [line.split(" = ")[0] for line in lines] == [
        "kvm: KVM_GET_STATS_FD",
        "kvm: ioctl 0xae7f",
        "kvm: ioctl 0xae80",
    ]


@pytest.mark.parametrize(("bits", "outcome"), [(0, 0), (32, 0), (48, 0), (31, "EINVAL"), (49, "EINVAL")])
def test_a_vm_has_addresses_of_32_to_48_bits(device, bits, outcome):
    kvm = device.open()
    if outcome:
        assert fails(device, kvm, uapi.KVM_CREATE_VM, bits) == outcome
    else:
        assert device.ioctl(kvm, uapi.KVM_CREATE_VM, bits) > 0


@pytest.mark.parametrize(("sve", "sme", "expected"), [({1}, (), (1, 0)), ((), {1}, (0, 1)), ((), (), (0, 0))])
def test_capabilities_of_registers_are_the_hosts(sve, sme, expected):
    host = Host(sve_vqs=sve, sme_vqs=sme)
    device = Device(host)
    kvm = device.open()
    caps = 170, host.abi.sme_cap
    assert tuple(device.ioctl(kvm, uapi.KVM_CHECK_EXTENSION, cap) for cap in caps) == expected


@pytest.mark.parametrize("offered", [True, False])
def test_capabilities_of_features_are_the_hosts(offered):
    host = Host(sve_vqs={1})
    if not offered:
        host.features_offered -= {Feature.PMU_V3.value}
    device = Device(host)
    assert device.ioctl(device.open(), uapi.KVM_CHECK_EXTENSION, 126) == offered


def test_the_host_of_kvmsve_run_is_what_its_registers_say():
    """PARange 5 is 48 bits of address; PMUVer 0 goes without KVM_CAP_ARM_PMU_V3 and the feature's bit."""
    device = Device(create_host(kvmsve.RFC_V2, {1}, {1}, sme2=False, fa64=False))
    kvm = device.open()
    vm, vcpu = create_sve_vcpu(device)
    mmfr0, dfr0 = (get(device, vcpu, regid.sysreg_id(3, 0, 0, crm, 0), 8) for crm in (7, 5))
    assert (mmfr0[0] & 0xF, device.ioctl(kvm, uapi.KVM_CHECK_EXTENSION, 165)) == (5, 48)
    assert (dfr0[1] & 0xF, device.ioctl(kvm, uapi.KVM_CHECK_EXTENSION, 126)) == (0, 0)
    another = device.ioctl(vm, uapi.KVM_CREATE_VCPU, 1)
    init = uapi.VCPU_INIT.pack(5, 1 << Feature.PMU_V3.value, *[0] * 6)
    assert fails(device, another, uapi.KVM_ARM_VCPU_INIT, init) == "EINVAL"


def test_a_capability_is_enabled_without_flags():
    device = Device(Host(sve_vqs={1}, abi=kvmsve.MAINLINE_7_3))
    vm = device.ioctl(device.open(), uapi.KVM_CREATE_VM)
    assert fails(device, vm, uapi.KVM_ENABLE_CAP, uapi.ENABLE_CAP.pack(239, 1, *[0] * 4)) == "EINVAL"
    assert device.ioctl(vm, uapi.KVM_ENABLE_CAP, uapi.ENABLE_CAP.pack(239, 0, *[0] * 4)) == 0


def test_an_ioctl_of_interrupts_reads_its_structure_and_does_nothing(device):
    vm, _ = create_vcpu(device)
    assert device.ioctl(vm, uapi.KVM_IRQ_LINE, bytes(8)) == 0
    assert fails(device, vm, uapi.KVM_IRQ_LINE, NOWHERE) == "EFAULT"


@pytest.mark.parametrize("room", [0, 1, 31])
def test_a_structure_that_ends_outside_memory_is_efault(device, room):
    _, vcpu = create_vcpu(device)
    edge = Edge()
    assert fails(device, vcpu, uapi.KVM_ARM_VCPU_INIT, edge.place(SVE_INIT[:room])) == "EFAULT"
    assert device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, edge.place(SVE_INIT)) == 0


def test_a_vcpu_index_is_checked_as_the_kernel_does(device):
    vm, _ = create_vcpu(device, 3)
    assert fails(device, vm, uapi.KVM_CREATE_VCPU, 3) == "EEXIST"
    assert fails(device, vm, uapi.KVM_CREATE_VCPU, 512) == "EINVAL"
    assert fails(device, vm, uapi.KVM_CREATE_VCPU, (1 << 64) - 1) == "EINVAL"


def test_the_preferred_target_is_what_init_takes(device):
    vm, vcpu = create_vcpu(device)
    init = bytearray(b"\xff" * 32)
    assert device.ioctl(vm, uapi.KVM_ARM_PREFERRED_TARGET, init) == 0
    assert uapi.VCPU_INIT.unpack(init) == (5, 0, 0, 0, 0, 0, 0, 0)
    assert device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, init) == 0


PAGE = mmap.PAGESIZE


@pytest.mark.parametrize(
    ("region", "outcome"),
    [
        ((1, 0, 0x10000, PAGE, 0x7000_0000_0000), None),
        ((1, 0, PAGE, PAGE, 0), None),  # the next page
        ((0, 0, 0x200000, PAGE, 0), None),  # the slot moves
        ((0, 1, 0, PAGE, 0), None),  # a log of dirty pages begins
        ((0, 0, 0, 0, 0), None),  # the slot goes
        ((1, 8, 0x10000, PAGE, 0), "EINVAL"),
        ((1, 0, 0x10001, PAGE, 0), "EINVAL"),
        ((1, 0, 0x10000, PAGE + 1, 0), "EINVAL"),
        ((32767, 0, 0x10000, PAGE, 0), "EINVAL"),
        ((1, 0, -PAGE & (1 << 64) - 1, PAGE, 0), "EINVAL"),
        ((1, 0, 0x10000, 0, 0), "EINVAL"),
        ((0, 0, 0, 2 * PAGE, 0), "EINVAL"),
        ((0, 2, 0, PAGE, 0), "EINVAL"),
        ((1, 0, 0, PAGE, 0), "EEXIST"),
        ((1, 8, 0, PAGE, 0), "EINVAL"),  # flags before the overlap
    ],
)
def test_memory_slots(device, region, outcome):
    """__kvm_set_memory_region(), beside a slot 0 of one page at 0."""
    vm, _ = create_vcpu(device)
    device.ioctl(vm, uapi.KVM_SET_USER_MEMORY_REGION, uapi.MEMORY_REGION.pack(0, 0, 0, PAGE, 0))
    argument = uapi.MEMORY_REGION.pack(*region)
    if outcome:
        assert fails(device, vm, uapi.KVM_SET_USER_MEMORY_REGION, argument) == outcome
    else:
        assert device.ioctl(vm, uapi.KVM_SET_USER_MEMORY_REGION, argument) == 0


def test_the_log_of_a_slot_has_no_dirty_page(device):
    vm, _ = create_vcpu(device)
    bitmap_ = (ctypes.c_uint64 * 2)(*[1] * 2)
    asked = uapi.DIRTY_LOG.pack(0, 0, ctypes.addressof(bitmap_))
    assert fails(device, vm, uapi.KVM_GET_DIRTY_LOG, asked) == "ENOENT"
    device.ioctl(vm, uapi.KVM_SET_USER_MEMORY_REGION, uapi.MEMORY_REGION.pack(0, 0, 0, 65 * PAGE, 0))
    assert fails(device, vm, uapi.KVM_GET_DIRTY_LOG, asked) == "ENOENT"
    device.ioctl(vm, uapi.KVM_SET_USER_MEMORY_REGION, uapi.MEMORY_REGION.pack(0, 1, 0, 65 * PAGE, 0))
    assert device.ioctl(vm, uapi.KVM_GET_DIRTY_LOG, asked) == 0
    assert list(bitmap_) == [0, 0]
    assert fails(device, vm, uapi.KVM_GET_DIRTY_LOG, uapi.DIRTY_LOG.pack(0, 0, NOWHERE)) == "EFAULT"


def test_a_gic_keeps_its_registers(device):
    vm, _ = create_vcpu(device)
    created = bytearray(uapi.CREATE_DEVICE.pack(7, 0, 0))
    assert device.ioctl(vm, uapi.KVM_CREATE_DEVICE, uapi.CREATE_DEVICE.pack(7, 0, 1)) == 0
    assert device.ioctl(vm, uapi.KVM_CREATE_DEVICE, created) == 0
    assert fails(device, vm, uapi.KVM_CREATE_DEVICE, created) == "EEXIST"
    assert fails(device, vm, uapi.KVM_CREATE_DEVICE, uapi.CREATE_DEVICE.pack(5, 0, 0)) == "ENODEV"
    gic = uapi.CREATE_DEVICE.unpack(created)[1]
    value = ctypes.c_uint64(0x12_3456_0000)
    attribute = uapi.DEVICE_ATTR.pack(0, uapi.KVM_DEV_ARM_VGIC_GRP_ADDR, 2, ctypes.addressof(value))
    assert device.ioctl(gic, uapi.KVM_HAS_DEVICE_ATTR, attribute) == 0
    assert device.ioctl(gic, uapi.KVM_SET_DEVICE_ATTR, attribute) == 0
    value.value = 0
    assert device.ioctl(gic, uapi.KVM_GET_DEVICE_ATTR, attribute) == 0
    assert value.value == 0x12_3456_0000
    assert fails(device, gic, uapi.KVM_HAS_DEVICE_ATTR, uapi.DEVICE_ATTR.pack(0, 99, 0, 0)) == "ENXIO"
    assert fails(device, gic, uapi.KVM_SET_DEVICE_ATTR, uapi.DEVICE_ATTR.pack(0, 0, 2, NOWHERE)) == "EFAULT"


def test_a_gic_tells_the_interrupts_that_it_was_given(device):
    """GICD_TYPER.ITLinesNumber is the number of interrupts over 32, less one."""
    vm, _ = create_vcpu(device)
    created = bytearray(uapi.CREATE_DEVICE.pack(7, 0, 0))
    device.ioctl(vm, uapi.KVM_CREATE_DEVICE, created)
    gic = uapi.CREATE_DEVICE.unpack(created)[1]
    value = ctypes.c_uint32(288)
    device.ioctl(gic, uapi.KVM_SET_DEVICE_ATTR, uapi.DEVICE_ATTR.pack(0, 3, 0, ctypes.addressof(value)))
    device.ioctl(gic, uapi.KVM_GET_DEVICE_ATTR, uapi.DEVICE_ATTR.pack(0, 1, 4, ctypes.addressof(value)))
    assert value.value & 0x1F == 8


# vCPUs


def test_the_order_of_errors_before_init(device):
    """kvm_arch_vcpu_ioctl(): ENOEXEC comes before a look at the argument, but INIT reads it first."""
    _, vcpu = create_vcpu(device)
    for request in (
        uapi.KVM_GET_ONE_REG, uapi.KVM_SET_ONE_REG, uapi.KVM_GET_REG_LIST, uapi.KVM_ARM_VCPU_FINALIZE,
        uapi.KVM_GET_VCPU_EVENTS, uapi.KVM_SET_VCPU_EVENTS,
    ):  # fmt: skip
        assert fails(device, vcpu, request, NOWHERE) == "ENOEXEC"
    assert fails(device, vcpu, uapi.KVM_RUN) == "ENOEXEC"
    assert fails(device, vcpu, uapi.KVM_RUN, 1) == "EINVAL"
    assert fails(device, vcpu, uapi.KVM_ARM_VCPU_INIT, NOWHERE) == "EFAULT"


def test_the_order_of_errors_before_finalize(device):
    _, vcpu = create_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
    assert fails(device, vcpu, uapi.KVM_GET_REG_LIST, NOWHERE) == "EPERM"
    assert fails(device, vcpu, uapi.KVM_ARM_VCPU_FINALIZE, NOWHERE) == "EFAULT"
    assert fails(device, vcpu, uapi.KVM_GET_ONE_REG, NOWHERE) == "EFAULT"


def test_a_list_without_room_gives_the_number_and_nothing_else(device):
    """The protocol of E2BIG: n is what there is, and not one entry is written."""
    _, vcpu = create_sve_vcpu(device)
    expected = device_free_list()
    argument = bytearray(uapi.REG_LIST.pack(0))
    assert fails(device, vcpu, uapi.KVM_GET_REG_LIST, argument) == "E2BIG"
    (n,) = uapi.REG_LIST.unpack(argument)
    assert n == len(expected)
    argument = bytearray(struct.pack(f"<Q{n}Q", n - 1, *[7] * n))
    assert fails(device, vcpu, uapi.KVM_GET_REG_LIST, argument) == "E2BIG"
    assert argument == struct.pack(f"<Q{n}Q", n, *[7] * n)
    assert device.ioctl(vcpu, uapi.KVM_GET_REG_LIST, argument) == 0
    assert argument == struct.pack(f"<Q{n}Q", n, *expected)


def device_free_list():
    """The list of the same vCPU on the model itself."""
    vcpu = Host(sve_vqs={1, 2}, sme_vqs={1, 2, 4}).create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE})
    vcpu.finalize(Feature.VEC)
    return vcpu.get_reg_list()


def test_a_list_that_ends_outside_memory_is_efault_with_what_there_was_room_for(device):
    _, vcpu = create_sve_vcpu(device)
    expected = device_free_list()
    edge = Edge()
    address = edge.place(struct.pack("<Q5Q", len(expected), *[7] * 5))
    assert fails(device, vcpu, uapi.KVM_GET_REG_LIST, address) == "EFAULT"
    assert edge.taken(48) == struct.pack("<Q5Q", len(expected), *expected[:5])


@pytest.mark.parametrize("room", [0, 1, 31, 32, 255])
def test_a_register_that_ends_outside_memory_is_efault(device, room):
    """Z is copied up to the end of memory; a SET that faults leaves what there was, then zeroes."""
    _, vcpu = create_sve_vcpu(device)
    old, new = pattern(256, 1), pattern(256, 2)
    put(device, vcpu, z(3), old)
    edge = Edge()
    address = edge.place(bytes(room))
    assert fails(device, vcpu, uapi.KVM_GET_ONE_REG, uapi.ONE_REG.pack(z(3), address)) == "EFAULT"
    assert edge.taken(room) == old[:32].ljust(256, b"\0")[:room]
    address = edge.place(new[:room])
    request = uapi.ONE_REG.pack(z(3), address)
    if room >= 32:
        assert device.ioctl(vcpu, uapi.KVM_SET_ONE_REG, request) == 0
    else:
        assert fails(device, vcpu, uapi.KVM_SET_ONE_REG, request) == "EFAULT"
    assert get(device, vcpu, z(3)) == new[: min(room, 32)].ljust(256, b"\0")


@pytest.mark.parametrize("room", range(8))
def test_a_system_register_is_stored_at_once_or_not_at_all(device, room):
    _, vcpu = create_sve_vcpu(device)
    edge = Edge()
    address = edge.place(b"\xa5" * room)
    assert fails(device, vcpu, uapi.KVM_GET_ONE_REG, uapi.ONE_REG.pack(regid.ZCR_EL1, address)) == "EFAULT"
    assert edge.taken(room) == b"\xa5" * room


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_set_of_a_system_register_fetches_8_bytes_whatever_its_id_says(device, size):
    """rfc-v2.md 3.3: first the bytes, then ENOENT for an ID of another size."""
    _, vcpu = create_sve_vcpu(device)
    reg_id = regid.ZCR_EL1 & ~(0xF << 52) | size << 52
    for room, outcome in ((7, "EFAULT"), (8, "ENOENT")):
        edge = Edge()
        request = uapi.ONE_REG.pack(reg_id, edge.place(bytes(room)))
        assert fails(device, vcpu, uapi.KVM_SET_ONE_REG, request) == outcome


def test_what_has_no_room_for_its_descriptor_can_be_created_later(device):
    """KVM undoes the creation: the vCPU is as new, and there is no interrupt controller."""

    def refuse(file):
        raise OSError(errno.EMFILE, "no room")

    vm = device.ioctl(device.open(), uapi.KVM_CREATE_VM)
    gic = ctypes.create_string_buffer(uapi.CREATE_DEVICE.pack(7, 0, 0))
    for request, argument in ((uapi.KVM_CREATE_VCPU, 3), (uapi.KVM_CREATE_DEVICE, ctypes.addressof(gic))):
        with pytest.raises(OSError, match="no room"):
            device.call(identity(vm), request, argument, ProcessMemory(os.getpid()), refuse)
        assert device.ioctl(vm, request, argument) >= 0
        assert fails(device, vm, request, argument) == "EEXIST"


def test_an_id_of_the_largest_size_is_refused_by_its_rule(device):
    _, vcpu = create_sve_vcpu(device)
    huge = regid.ARM64 | 0xF << 52 | regid.SVE
    assert fails(device, vcpu, uapi.KVM_SET_ONE_REG, uapi.ONE_REG.pack(huge, NOWHERE)) == "EINVAL"


def test_the_state_of_a_vcpu_is_kept(device):
    _, vcpu = create_sve_vcpu(device)
    state = bytearray(4)
    for wanted in (5, 0, 10):
        device.ioctl(vcpu, uapi.KVM_SET_MP_STATE, uapi.MP_STATE.pack(wanted))
        device.ioctl(vcpu, uapi.KVM_GET_MP_STATE, state)
        assert uapi.MP_STATE.unpack(state) == (wanted,)
    assert fails(device, vcpu, uapi.KVM_SET_MP_STATE, uapi.MP_STATE.pack(1)) == "EINVAL"


def test_a_vcpu_that_is_powered_off_starts_stopped(device):
    _, vcpu = create_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, uapi.VCPU_INIT.pack(5, 1, *[0] * 6))
    state = bytearray(4)
    device.ioctl(vcpu, uapi.KVM_GET_MP_STATE, state)
    assert uapi.MP_STATE.unpack(state) == (5,)


def test_events_are_kept_and_forgotten_at_a_reset(device):
    _, vcpu = create_sve_vcpu(device)
    events = uapi.VCPU_EVENTS.pack(1, 1, 0, 0x1234)
    read = bytearray(64)
    device.ioctl(vcpu, uapi.KVM_SET_VCPU_EVENTS, events)
    device.ioctl(vcpu, uapi.KVM_GET_VCPU_EVENTS, read)
    assert read == events
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
    device.ioctl(vcpu, uapi.KVM_GET_VCPU_EVENTS, read)
    assert read == bytes(64)


# Runs


def word(vcpu, offset):
    return int.from_bytes(os.pread(vcpu, 4, offset), "little")


def test_a_guest_with_nothing_to_do_is_interrupted(device):
    _, vcpu = create_sve_vcpu(device)
    assert fails(device, vcpu, uapi.KVM_RUN) == "EINTR"
    assert word(vcpu, uapi.RUN_EXIT_REASON) == uapi.KVM_EXIT_INTR


def test_a_script_acts_and_ends_the_run():
    runs = []

    def script(guest, vcpu, n):
        runs.append((vcpu, n))
        if n:
            return SHUTDOWN
        guest.zcr = 1
        guest.z[5] = bytes(range(32))
        return mmio_write(0x9000000, b"\x2a")

    device = Device(Host(sve_vqs={1, 2}), script=script)
    _, vcpu = create_sve_vcpu(device)
    assert device.ioctl(vcpu, uapi.KVM_RUN) == 0
    assert word(vcpu, 8) == 6
    assert os.pread(vcpu, 21, 32) == struct.pack("<Q8sIB", 0x9000000, b"\x2a", 1, 1)
    assert device.ioctl(vcpu, uapi.KVM_RUN) == 0
    assert (word(vcpu, 8), word(vcpu, 32)) == (24, 1)
    assert runs == [(0, 0), (0, 1)]
    assert get(device, vcpu, z(5))[:32] == bytes(range(32))


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no such file"), SystemExit(3), ZeroDivisionError("by 0")])
def test_what_a_script_raises_is_no_errno_of_kvm(error):
    def script(guest, vcpu, n):
        raise error

    device = Device(Host(sve_vqs={1}), script=script)
    _, vcpu = create_sve_vcpu(device)
    with pytest.raises(ScriptFailure, match=f"^{type(error).__name__}: "):
        device.ioctl(vcpu, uapi.KVM_RUN)
    assert get(device, vcpu, z(0)) == bytes(256)


def start_run():
    """A device, a VM, its vCPU, the thread that is in its KVM_RUN, and the event that lets its guest go."""
    entered, leave = threading.Event(), threading.Event()

    def script(guest, vcpu, n):
        entered.set()
        assert leave.wait(60)

    device = Device(Host(sve_vqs={1}), script=script)
    vm, vcpu = create_sve_vcpu(device)
    running = threading.Thread(target=fails, args=(device, vcpu, uapi.KVM_RUN))
    running.start()
    assert entered.wait(60)
    return device, vm, vcpu, running, leave


def test_a_vcpu_that_is_closed_while_it_runs_is_open_until_the_run_ends():
    """What takes its number meanwhile is not written to."""
    device, _, vcpu, running, leave = start_run()
    os.close(vcpu)
    assert device.sweep() == []
    leave.set()
    running.join(60)
    assert device.sweep() == ["vm 0 vcpu 0"]


def test_a_stopped_vcpu_does_not_run_its_guest():
    device = Device(Host(sve_vqs={1}), script=lambda guest, vcpu, n: SHUTDOWN)
    _, vcpu = create_sve_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_SET_MP_STATE, uapi.MP_STATE.pack(5))
    assert fails(device, vcpu, uapi.KVM_RUN) == "EINTR"
    device.ioctl(vcpu, uapi.KVM_SET_MP_STATE, uapi.MP_STATE.pack(0))
    assert device.ioctl(vcpu, uapi.KVM_RUN) == 0


def test_guests_do_what_those_of_a_recording_did(tmp_path):
    """The vCPU of the same index takes the recorded steps, one run after the other."""
    host = Host(sve_vqs={1, 2})
    with kvmsve.record(tmp_path / "runs.jsonl", host) as recorded:
        vcpu = recorded.create_vm().create_vcpu(0)
        vcpu.init({Feature.SVE})
        vcpu.finalize(Feature.VEC)
        for n in (3, 4):
            with vcpu.run() as guest:
                guest.v[n] = pattern(16, n)
    device = Device(host, script=load_script(tmp_path / "runs.jsonl"))
    _, vcpu = create_sve_vcpu(device)
    for _ in range(3):
        assert fails(device, vcpu, uapi.KVM_RUN) == "EINTR"
    for n in (3, 4):
        assert get(device, vcpu, z(n))[:16] == pattern(16, n)


def test_a_recorded_guest_is_that_of_the_same_index(tmp_path):
    host = Host(sve_vqs={1, 2})
    with kvmsve.record(tmp_path / "runs.jsonl", host) as recorded:
        vm = recorded.create_vm()
        for index in (0, 1):
            vcpu = vm.create_vcpu(index)
            vcpu.init({Feature.SVE})
            vcpu.finalize(Feature.VEC)
            with vcpu.run() as guest:
                guest.v[1] = pattern(16, index)
    device = Device(host, script=load_script(tmp_path / "runs.jsonl"))
    vm, first = create_vcpu(device, 1)
    for index, vcpu in ((1, first), (0, device.ioctl(vm, uapi.KVM_CREATE_VCPU, 0))):
        device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
        device.ioctl(vcpu, uapi.KVM_ARM_VCPU_FINALIZE, uapi.WORD.pack(Feature.VEC.value))
        assert fails(device, vcpu, uapi.KVM_RUN) == "EINTR"
        assert get(device, vcpu, z(1))[:16] == pattern(16, index)


def test_an_ioctl_waits_for_the_one_at_work_on_the_same_file():
    """As on vcpu->mutex; an ioctl on another file of the VM does not wait."""
    device, vm, vcpu, running, leave = start_run()
    asking = threading.Thread(target=fails, args=(device, vcpu, uapi.KVM_GET_MP_STATE, bytearray(4)))
    asking.start()
    asking.join(0.1)
    waits = asking.is_alive()
    others = device.ioctl(vm, uapi.KVM_IRQ_LINE, bytes(8))
    leave.set()
    assert (waits, others) == (True, 0)
    for thread in (running, asking):
        thread.join(60)
        assert not thread.is_alive()


def test_a_host_that_crashes_stays_down():
    """A read of SMIDR_EL1 in the series as posted (rfc-v2.md Q27)."""
    device = Device(Host(sve_vqs={1}, sme_vqs={1}, abi=kvmsve.RFC_V2_R1))
    vm, vcpu = create_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, uapi.VCPU_INIT.pack(5, 1 << 4 | 1 << 8, *[0] * 6))
    with pytest.raises(kvmsve.HostOops):
        get(device, vcpu, regid.SMIDR_EL1, 8)
    assert fails(device, vm, uapi.KVM_CREATE_VCPU, 1) == "ENODEV"


def test_calls_on_the_device_are_recorded(tmp_path):
    path, host = tmp_path / "calls.jsonl", Host(sve_vqs={1, 2})
    with kvmsve.record(path, host) as recorded:
        device = Device(host, recorded)
        _, vcpu = create_sve_vcpu(device)
        put(device, vcpu, z(0), pattern(256, 3))
        fails(device, vcpu, uapi.KVM_GET_ONE_REG, uapi.ONE_REG.pack(z(0), NOWHERE))
        fails(device, vcpu, uapi.KVM_RUN)
    recording = Recording(path)
    replay = Replay(recording)
    ops = []
    for line, op in recording:
        replay.play(line, op)
        ops.append((op.name, op.errno))
    assert ops[-3:] == [("set", None), ("get_short", "EFAULT"), ("run", None)]
    assert replay.vcpus[0].get_one_reg(z(0))[:32] == pattern(256, 3)[:32]


def test_vls_before_finalize(device):
    """The lengths are set as a VMM does it, through a 512-bit register."""
    _, vcpu = create_vcpu(device)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, SVE_INIT)
    assert get(device, vcpu, regid.SVE_VLS, 64) == bitmap(1, 2)
    put(device, vcpu, regid.SVE_VLS, bitmap(1))
    assert get(device, vcpu, regid.SVE_VLS, 64) == bitmap(1)
