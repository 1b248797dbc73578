"""`kvmsve run`: programs of C on /dev/kvm, through the shim and the server, natively and under qemu-aarch64."""

import errno
import itertools
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import complaint, run
from examples import pattern, z
from ioctl_host import Guests, InProcess, IoctlHost, Remote
from places import CLIENTS, SHIPPED

import kvmsve
from kvmsve import Feature, Host
from kvmsve.device import Device, program
from kvmsve.device.program import command, environment, find_program
from kvmsve.device.server import Server, abstract
from kvmsve.facts import uapi
from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay

KVMSVE = [sys.executable, "-m", "kvmsve"]
SECONDS = 60
HAS_SVE = f"open\nioctl 3 {uapi.KVM_CHECK_EXTENSION:x} =170\n"  # KVM_CAP_ARM_SVE: a /dev/kvm of x86 has not
TOOLS = "qemu-aarch64", "aarch64-linux-gnu-gcc"
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
HINT = "sudo apt install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
ELSEWHERE = pytest.param(
    "aarch64",
    marks=[
        pytest.mark.qemu,
        pytest.mark.skipif(bool(MISSING), reason=f"there is no {', no '.join(MISSING)}: {HINT}"),
    ],
)
MACHINES = pytest.mark.parametrize("machine", [platform.machine(), ELSEWHERE])


PARTS = [  # of kvm_life.c
    "names", "ways", "files", "copies", "pages", "fork", "exec", "sent", "vfork", "killed", "closed", "threads",
    "limit", "cancelled", "sandbox", "signals",
]  # fmt: skip


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """`build(name, machine)` is a program of tests/device/clients, for this machine or for aarch64."""
    folder, built = tmp_path_factory.mktemp("clients"), {}

    def compile_client(name, machine):
        if (name, machine) not in built:
            compiler = "cc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
            built[name, machine] = folder / f"{name}-{machine}"
            flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
            source = CLIENTS / f"{name}.c"
            subprocess.run([compiler, *flags, source, "-o", built[name, machine], "-lpthread"], check=True)
        return built[name, machine]

    return compile_client


@contextmanager
def remote(path, device, complaints=None):
    """Ioctls that a client makes on the device, in a process of its own."""
    program = find_program(str(path))
    with Server(device, (complaints if complaints is not None else []).append) as server:
        client = Remote(command(program, []), environment(program, server.name, None))
        yield client
        assert client.end() == 0


# Real ioctls


@MACHINES
@pytest.mark.parametrize("name", ["rfc-r1-s2m4", "rfc-posted"])
def test_a_recording_replays_through_real_ioctls(build, machine, name):
    """Every errno, byte and list of a real kernel's recording, as a program of C sees them."""
    recording, guests = Recording(SHIPPED / f"{name}.jsonl.xz"), Guests()
    host = recording.header.create_host()
    replay = Replay(recording)
    with remote(build("ioctl_client", machine), Device(host, script=guests)) as client:
        replay.host = IoctlHost(client, guests, host.abi)
        for line, op in recording:
            replay.play(line, op)


@MACHINES
def test_bad_addresses_are_efault_and_memory_is_copied_up_to_its_end(build, machine):
    device = Device(Host(sve_vqs={1, 2}))
    with remote(build("ioctl_client", machine), device) as client:
        host = IoctlHost(client, Guests(), kvmsve.RFC_V2)
        vcpu = host.create_vm().create_vcpu(0)
        with pytest.raises(OSError, match="Bad address"):
            client.ioctl(vcpu.on, uapi.KVM_ARM_VCPU_INIT, bytearray(31))
        with pytest.raises(OSError, match="Bad address"):
            client.ioctl(vcpu.on, uapi.KVM_ARM_VCPU_INIT, 0x10)
        vcpu.init({Feature.SVE})
        vcpu.finalize(4)
        vcpu.set_one_reg(z(1), pattern(256))
        for room in (0, 1, 31, 255):
            buffer = bytearray(b"\xa5" * room)
            with pytest.raises(kvmsve.KvmError, match="EFAULT"):
                vcpu.get_one_reg_into(z(1), buffer)
            assert buffer == pattern(256)[:32].ljust(256, b"\0")[:room]


@MACHINES
def test_files_processes_and_threads(build, machine):
    """clients/kvm_life.c: copies; other processes, to which a VM is EIO; signals, threads, the limit of descriptors.

    Asked of Linux 6.12 and 7.3: EIO comes before EFAULT, EINVAL and the request's number.
    """
    ran = subprocess.run(
        [*KVMSVE, "run", "--", build("kvm_life", machine)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (ran.returncode, ran.stdout.split()) == (0, PARTS), ran


@pytest.mark.qemu
@pytest.mark.skipif(bool(MISSING), reason=f"there is no {', no '.join(MISSING)}: {HINT}")
def test_a_script_starts_programs_of_both_machines(build):
    here, elsewhere = build("kvm_life", platform.machine()), build("kvm_life", "aarch64")
    script = f"qemu-aarch64 {elsewhere} & {here} & wait"
    sysroot = ["--sysroot", program.CROSS_LIBRARIES] * program.CROSS_LIBRARIES.exists()  # for the emulator
    ran = subprocess.run(
        [*KVMSVE, "run", *sysroot, "--", "sh", "-c", script],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (sorted(ran.stdout.split()), ran.stderr) == (sorted(PARTS * 2), "")


def test_both_ways_of_making_ioctls_end_alike(build):
    """What the test's own two clients see of one program is the same: neither hides what the other shows."""
    outcomes = []
    for way in ("process", "remote"):
        device = Device(Host(sve_vqs={1, 2}))
        if way == "process":
            outcomes.append(some_calls(InProcess(device)))
        else:
            with remote(build("ioctl_client", platform.machine()), device) as client:
                outcomes.append(some_calls(client))
    assert outcomes[0] == outcomes[1]


def some_calls(ioctls):
    """Outcomes of calls that fail and succeed, descriptors aside."""
    seen = []
    vcpu = IoctlHost(ioctls, Guests(), kvmsve.RFC_V2).create_vm().create_vcpu(0)
    for call in (
        lambda: vcpu.get_reg_list(0), lambda: vcpu.init({4}), lambda: vcpu.get_reg_list(0), lambda: vcpu.finalize(5),
        lambda: vcpu.finalize(4), lambda: vcpu.get_reg_list(1), lambda: vcpu.get_reg_list(400),
        lambda: vcpu.get_one_reg(z(0)), lambda: vcpu.get_one_reg(z(0) | 1), lambda: vcpu.init({5}),
    ):  # fmt: skip
        try:
            seen.append(call())
        except kvmsve.KvmError as error:
            seen.append((error.errno, error.n))
    return seen


# Either side killed


def start(build, *options):
    """`kvmsve run` of the client, which waits for orders on its standard input."""
    client = build("ioctl_client", platform.machine())
    return subprocess.Popen(
        [*KVMSVE, "run", *options, "--", client], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def ask(process, line):
    process.stdin.write(line + "\n")
    return process.stdout.readline().split()


def test_a_program_whose_host_is_killed_gets_enodev(build):
    process = start(build)
    kvm, _ = ask(process, "open")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    answer = ["0"]
    for _ in range(100 * SECONDS):  # its server process dies of it, in its own time
        answer = ask(process, f"ioctl {kvm} ae00 =0")
        if answer[0] == "-1":
            break
        time.sleep(0.01)
    assert answer == ["-1", str(errno.ENODEV)]
    assert ask(process, "open") == ["-1", str(errno.ENODEV)]
    process.stdin.close()
    assert process.stdout.read() == ""


def test_a_program_that_is_killed_leaves_nothing_behind(build, tmp_path):
    process = start(build, "--record", tmp_path / "calls.jsonl")
    kvm, _ = ask(process, "open")
    ask(process, f"ioctl {kvm} ae01 =0")
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
    os.kill(child, signal.SIGKILL)
    assert process.wait(SECONDS) == 128 + signal.SIGKILL
    assert [op.name for _, op in Recording(tmp_path / "calls.jsonl")] == ["create_vm"]
    assert [path.name for path in tmp_path.iterdir()] == ["calls.jsonl"]


def test_a_signal_to_kvmsve_reaches_the_program(build, tmp_path):
    process = start(build, "--record", tmp_path / "calls.jsonl")
    ask(process, "open")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 128 + signal.SIGTERM
    assert (tmp_path / "calls.jsonl").exists()


def test_an_interrupt_ends_the_program_and_the_recording_is_whole(build, tmp_path):
    """As from the terminal, SIGINT goes to both; the program decides."""
    process = subprocess.Popen(
        [*KVMSVE, "run", "--record", tmp_path / "calls.jsonl", "--", build("ioctl_client", platform.machine())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
    )  # fmt: skip
    ask(process, "open")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(SECONDS) == 128 + signal.SIGINT
    assert list(Recording(tmp_path / "calls.jsonl")) == []


def test_files_of_a_program_that_died_are_gone(build):
    device = Device(Host(sve_vqs={1}))
    program = find_program(str(build("ioctl_client", platform.machine())))
    with Server(device, print) as server:
        client = Remote(command(program, []), environment(program, server.name, None))
        vcpu = IoctlHost(client, Guests(), kvmsve.RFC_V2).create_vm().create_vcpu(0)
        assert device.sweep() == []
        client.process.kill()
        client.process.wait(SECONDS)
        gone, end = set(), time.monotonic() + SECONDS
        while len(gone) < 3 and time.monotonic() < end:  # the server's own copies go when its threads have answered
            gone |= {*device.sweep()}
        assert gone == {"kvm", "vm 0", "vm 0 vcpu 0"}, vcpu


def test_a_crash_of_the_host_is_told_once_and_ends_no_program(build):
    complaints = []
    device = Device(Host(sve_vqs={1}, sme_vqs={1}, abi=kvmsve.RFC_V2_R1))
    with remote(build("ioctl_client", platform.machine()), device, complaints) as client:
        vcpu = IoctlHost(client, Guests(), kvmsve.RFC_V2_R1).create_vm().create_vcpu(0)
        vcpu.init({4, 8})
        for _ in range(2):
            with pytest.raises(kvmsve.KvmError, match="ENODEV"):
                vcpu.get_one_reg(0x603000000013C806)
    assert [line.partition(":")[0] for line in complaints] == ["the host has crashed"]


def test_a_script_that_fails_is_told_and_the_run_fails(build):
    def script(guest, vcpu, n):
        guest.z[99] = b""

    complaints = []
    device = Device(Host(sve_vqs={1}), script=script)
    with remote(build("ioctl_client", platform.machine()), device, complaints) as client:
        vcpu = IoctlHost(client, Guests(), kvmsve.RFC_V2).create_vm().create_vcpu(0)
        vcpu.init({4})
        vcpu.finalize(4)
        with pytest.raises(OSError, match="Input/output error"):
            client.ioctl(vcpu.on, uapi.KVM_RUN)
        assert vcpu.get_one_reg(z(0)) == bytes(256)
    assert complaints == ["the guest's script has failed: IndexError: there is no Z99: they go from 0 to 31"]


def test_who_says_nonsense_to_the_server_is_not_answered():
    """No message, a short one, one without descriptors: the next program is answered all the same."""
    import socket

    with Server(Device(Host()), print) as server:
        path = server.name.rpartition(":")[0]
        for message, where in itertools.product((b"", b"x", b"x" * 24, b"x" * 40), (path, abstract(path))):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nobody:
                nobody.connect(where)
                nobody.send(message)
                nobody.settimeout(SECONDS)
                assert nobody.recv(1) == b""


def test_a_call_for_which_there_is_no_thread_fails_and_the_next_is_answered(build, monkeypatch):
    def refuse(thread):
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    with remote(build("ioctl_client", platform.machine()), Device(Host())) as client:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="No such device"):
            client.open()
        kvm = client.open()
        assert client.ioctl(kvm, uapi.KVM_GET_API_VERSION) == 12


def run_client(build, variables, orders, *before):
    """What the client says, and what is on standard error, in this environment and started by the words `before`."""
    ran = subprocess.run(
        [*before, build("ioctl_client", platform.machine())], env=variables, input=orders,
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    return ran.stdout, ran.stderr


def test_a_program_that_does_not_know_the_secret_is_not_answered(build):
    with Server(Device(Host()), print) as server:
        path, _, secret = server.name.rpartition(":")
        for told, outcome in (f"{int(secret) ^ 1}", "-1 19\n"), (secret, "3 0\n"):
            variables = environment(find_program("sh"), f"{path}:{told}", None)
            assert run_client(build, variables, "open\n")[0] == outcome


def test_a_program_without_a_server_is_told_once(build):
    """ENODEV is all that it sees; whoever looks at its standard error reads why."""
    with Server(Device(Host()), print) as server:
        name = server.name
    said = "kvmsve: /dev/kvm is lost: kvmsve run has ended, or cannot be reached from here\n"
    variables = environment(find_program("sh"), name, None)
    assert run_client(build, variables, "open\nopen\n") == ("-1 19\n" * 2, said)
    assert not Path(name.rpartition(":")[0]).parent.exists()


ORDERS = "open\nioctl 3 ae01 =0\nioctl 4 ae41 =0\nioctl 4 8020aeaf " + "00" * 32 + "\n"
ANSWERS = "3 0\n4 0\n5 0\n0 0 05" + "00" * 31 + "\n"
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]


def can_unshare():
    return (
        shutil.which("unshare")
        and subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_unshare(), reason="there are no namespaces for users here")
def test_a_program_of_another_network_is_answered(build):
    with Server(Device(Host(sve_vqs={1})), print) as server:
        assert run_client(build, environment(find_program("sh"), server.name, None), ORDERS, *NAMESPACE) == (
            ANSWERS,
            "",
        )


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_a_program_that_becomes_another_users_is_answered(build):
    with Server(Device(Host(sve_vqs={1})), print) as server:
        variables = environment(find_program("sh"), server.name, None)
        assert run_client(build, variables, "user 65534\n" + ORDERS) == ("0 0\n" + ANSWERS, "")


def test_a_guest_that_does_nothing_is_told_once(build, capfd):
    client = build("ioctl_client", platform.machine())
    init = uapi.VCPU_INIT.pack(5, 0, *[0] * 6).hex()
    orders = f"open\\nioctl 3 ae01 =0\\nioctl 4 ae41 =0\\nioctl 5 4020aeae {init}\\n" + "ioctl 5 ae80 =0\\n" * 205
    code, out, err = run(capfd, "run", "--", "sh", "-c", f"printf '{orders}' | {client}")
    assert (code, out.count("-1 4\n"), err.count("\n")) == (0, 205, 1)
    assert "each KVM_RUN is EINTR; --guest FILE" in err


# Several processes


@pytest.mark.parametrize("options", [[], ["--guest", "idle.py"]], ids=["a server each", "one server"])
def test_a_daemon_that_outlives_its_parent_is_answered(build, tmp_path, options):
    """It opens /dev/kvm when the program has ended, and works on it for longer than that may take."""
    client, log = build("ioctl_client", platform.machine()), tmp_path / "log"
    (tmp_path / "idle.py").write_text("def run(guest, vcpu, n): return None")
    orders = "sleep 0.5; echo open; sleep 2.3; echo ioctl 3 ae00 =0"
    ran = subprocess.run(
        [*KVMSVE, "run", *options, "--", "sh", "-c", f"({orders}) | {client} >{log} & exit 3"],
        cwd=tmp_path, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (ran.returncode, log.read_text()) == (3, "3 0\n12 0\n")


def test_a_process_that_is_left_behind_and_has_no_device_does_not_keep_kvmsve(tmp_path):
    start = time.monotonic()
    subprocess.run([*KVMSVE, "run", "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & exit 0"], timeout=SECONDS, check=True)
    assert time.monotonic() - start < 30


def test_a_signal_ends_kvmsve_when_only_daemons_are_left(build, tmp_path):
    client = build("ioctl_client", platform.machine())
    process = subprocess.Popen(
        [*KVMSVE, "run", "--", "sh", "-c", f"(echo open; sleep 50) | {client} & sleep 0.3"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"3 0\n"
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_a_crash_of_the_host_is_one_for_all_programs(build):
    client = build("ioctl_client", platform.machine())
    init, one_reg = uapi.VCPU_INIT.pack(5, 0x110, *[0] * 6).hex(), uapi.ONE_REG.pack(0x603000000013C806, 0).hex()
    make = "open", "ioctl 3 ae01 =0", "ioctl 4 ae41 =0"
    steps = *make, f"ioctl 5 4020aeae {init}", f"ioctl 5 4010aeab {one_reg} {bytes(8).hex()}"
    crash = "\\n".join(steps)
    first, second = crash, "\\n".join(steps[:2])
    ran = subprocess.run(
        [*KVMSVE, "run", "--abi", "rfc-v2-r1", "--sme", "1", "--", "sh", "-c",
         f"printf '{first}\\n' | {client}; printf '{second}\\n' | {client}"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert [line.split()[:2] for line in ran.stdout.splitlines()[-3:]] == [["-1", "19"], ["3", "0"], ["-1", "19"]]
    assert ran.stderr.count("the host has crashed") == 1


# The command


def test_the_exit_code_is_the_programs(capfd):
    assert run(capfd, "run", "--", "sh", "-c", "echo hello; exit 7") == (7, "hello\n", "")
    assert run(capfd, "run", "sh", "-c", "kill -9 $$")[0] == 128 + 9


def test_the_trace_names_ioctls_registers_and_errnos(build, capfd, monkeypatch):
    client = build("ioctl_client", platform.machine())
    orders = "open\\nioctl 3 ae01 =0\\nioctl 4 ae41 =0\\nioctl 5 4010aeab 0000\\n"
    code, _, err = run(capfd, "run", "--trace", "--", "sh", "-c", f"printf '{orders}' | {client}")
    lines = [line.split(" ", 2)[2] for line in err.splitlines()]
    assert code == 0
    assert lines[0].startswith("kvm: KVM_CREATE_VM vm 0 = ")
    assert lines[1].startswith("vm 0: KVM_CREATE_VCPU vm 0 vcpu 0 = ")
    assert lines[2] == "vm 0 vcpu 0: KVM_GET_ONE_REG = -1 ENOEXEC: the vCPU is not initialised"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no program to run"),
        (["--"], "no program to run"),
        (["--", "no-such-program"], "no-such-program: no such program"),
        (["--", "/etc/passwd"], "/etc/passwd: not executable"),
        (["--sve", "2", "--", "true"], "a CPU with SVE has the length vq 1"),
        (["--guest", "none.py", "--", "true"], "none.py"),
        (["--guest", "none.jsonl", "--", "true"], "none.jsonl"),
        (["--record", "/none/calls.jsonl", "--", "true"], "kvmsve: /none/calls.jsonl: No such file or directory"),
        (["--abi", "rfc-v3", "--", "true"], "no revision is called 'rfc-v3'"),
    ],
)
def test_a_mistake_is_one_line(capsys, arguments, said):
    assert said in complaint(capsys, "run", *arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run = 3", "a function run(guest, vcpu, n)"),
        ("1 +", "SyntaxError"),
        ("raise KeyError('x')", "KeyError"),
        ("open('/none')", "FileNotFoundError"),
        ("exit(3)", "SystemExit"),
    ],
)
def test_a_script_that_is_none_is_refused_before_the_program_starts(capsys, tmp_path, text, said):
    script = tmp_path / "guest.py"
    script.write_text(text)
    assert said in complaint(capsys, "run", "--guest", script, "--", "true")


def test_a_static_program_is_refused(capsys, tmp_path):
    source, program = tmp_path / "main.c", tmp_path / "main"
    source.write_text("int main(void) { return 0; }")
    subprocess.run(["cc", "-static", source, "-o", program], check=True)
    assert "statically linked" in complaint(capsys, "run", "--", program)


def test_a_program_of_another_machine_is_refused(capsys, tmp_path):
    program = tmp_path / "main"
    head = bytearray(Path(shutil.which("true")).read_bytes()[:64])
    head[18:20] = (243).to_bytes(2, "little")  # RISC-V
    program.write_bytes(head)
    program.chmod(0o755)
    assert "another machine" in complaint(capsys, "run", "--", program)


@pytest.mark.parametrize("size", [4, 20, 64, 100])
def test_a_program_cut_short_is_refused(capsys, tmp_path, size):
    program = tmp_path / "main"
    program.write_bytes(Path(shutil.which("true")).read_bytes()[:size])
    program.chmod(0o755)
    complaint(capsys, "run", "--", program)


def test_what_is_missing_is_named_with_the_way_to_get_it(capsys, tmp_path, monkeypatch):
    """Without compilers there is no shim; without an emulator there are no aarch64 programs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    true = shutil.which("true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler; on Debian: sudo apt install gcc" in complaint(capsys, "run", "--", true)


def test_a_program_of_this_folder_is_not_looked_for_in_path(tmp_path, monkeypatch, capfd):
    script = tmp_path / "ls"
    script.write_text("#!/bin/sh\necho mine\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert run(capfd, "run", "--", "./ls") == (0, "mine\n", "")


def test_a_recording_that_cannot_be_written_fails_the_run_and_no_call(build, capfd):
    client = build("ioctl_client", platform.machine())
    orders = "open\\nioctl 3 ae01 =0\\n" + "ioctl 4 ae03 =1\\n" * 300
    code, out, err = run(capfd, "run", "--record", "/dev/full", "--", "sh", "-c", f"printf '{orders}' | {client}")
    assert (code, err) == (2, "kvmsve: /dev/full: No space left on device\n")
    assert len(out.splitlines()) == 302
    assert "-1" not in out.split()


def test_emulators_that_a_script_starts_are_told_of_the_shim(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "shim", lambda machine: Path(f"/shim-{machine}"))
    monkeypatch.setenv("QEMU_SET_ENV", "A=B")
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    variables = environment(find_program(str(script)), "the-server", Path("/arm64"))
    assert variables["KVMSVE_SOCKET"] == "the-server"
    assert variables["LD_PRELOAD"].split(":")[0] == f"/shim-{platform.machine()}"
    assert variables["QEMU_SET_ENV"] == "LD_PRELOAD=/shim-aarch64,KVMSVE_EMULATED=1,A=B"
    assert variables["QEMU_LD_PREFIX"] == "/arm64"


def test_on_arm64_an_emulator_and_a_program_have_the_same_shim(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "shim", lambda machine: Path(f"/shim-{machine}"))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    variables = environment(find_program(str(script)), "the-server", None, "aarch64")
    assert variables["LD_PRELOAD"].split(":")[0] == "/shim-aarch64"
    assert "KVMSVE_EMULATED" not in variables
    assert variables["QEMU_SET_ENV"].split(",")[:2] == ["LD_PRELOAD=/shim-aarch64", "KVMSVE_EMULATED=1"]


@pytest.mark.parametrize(
    "steps", ["{0}", "sh -c {0}", "env A=B sh -c 'exec {0}'", "env -i {0}", "env -i env -i sh -c {0}"]
)
def test_children_of_children_are_reached_where_the_emulated_machine_is_this_one(build, monkeypatch, steps):
    """As on arm64, where the shim of programs and that of emulated programs are one file."""
    here = program.shim(platform.machine())
    monkeypatch.setattr(program, "shim", lambda machine: here)
    client = build("ioctl_client", platform.machine())
    shell = program.Program(find_program("sh").path, "aarch64", None)
    with Server(Device(Host(sve_vqs={1})), print) as server:
        ran = subprocess.run(
            ["sh", "-c", steps.format(client)], env=environment(shell, server.name, None, "aarch64"),
            input=HAS_SVE, capture_output=True, text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
    assert ran.stdout == "3 0\n1 0\n"


@pytest.mark.parametrize("way", ["close_fds=True", "close_fds=False", "preexec_fn=int"])  # execve and posix_spawn
def test_a_program_that_is_started_without_an_environment_has_the_device(build, way):
    code = f"import subprocess, sys; subprocess.run(sys.argv[1], env={{}}, {way}, check=True)"
    with Server(Device(Host(sve_vqs={1})), print) as server:
        variables = environment(find_program("sh"), server.name, None)
        out, err = run_client(build, variables, HAS_SVE, sys.executable, "-c", code)
    assert (out, err) == ("3 0\n1 0\n", "")


@MACHINES
def test_calls_that_are_not_for_the_device_end_as_without_the_shim(build, tmp_path, machine):
    """clients/calls.c: NULL, unmapped, unterminated and too long paths; bad flags, modes, buffers and descriptors."""
    calls = find_program(str(build("calls", machine)))
    starting = command(calls, [str(tmp_path)])
    with Server(Device(Host()), print) as server:
        shimmed = environment(calls, server.name, None)
    plain = {name: value for name, value in shimmed.items() if name not in ("LD_PRELOAD", "QEMU_SET_ENV")}
    without, with_it = (
        subprocess.run(starting, env=variables, capture_output=True, text=True, timeout=SECONDS, check=True)
        for variables in (plain, shimmed)
    )
    assert len(with_it.stdout.splitlines()) > 10_000
    assert outcomes(with_it.stdout) == outcomes(without.stdout)
    assert list(tmp_path.iterdir()) == []


def outcomes(text):
    """The lines, without those that an emulator answers with ENOSYS: it does not know KVM's ioctls."""
    return [line for line in text.splitlines() if not re.match(r"ioctl \d+ \d+ \w*ae\w\w =", line)]


def test_the_shim_is_built_once(build, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run(capfd, "run", "--", "true")
    (built,) = (path for path in (tmp_path / "kvmsve").iterdir() if platform.machine() in path.name)
    before = built.stat().st_mtime_ns
    time.sleep(0.01)
    run(capfd, "run", "--", "true")
    assert built.stat().st_mtime_ns == before


# Programs that need the libraries of another system

ARM64_LINKER = "lib/ld-linux-aarch64.so.1"


@pytest.fixture
def arm64_tree(tmp_path, monkeypatch):
    """A folder with a program and its dynamic linker, as an arm64 system has them; and an emulator in the path."""
    for name in (ARM64_LINKER, "usr/bin/tool", "usr/lib/aarch64-linux-gnu/libtool.so", "bin/qemu-aarch64"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("QEMU_LD_PREFIX", raising=False)
    monkeypatch.setattr(program, "shim", lambda machine: Path(f"/shim-{machine}"))
    return tmp_path


def arm64_program(path):
    return program.Program(path, "aarch64", f"/{ARM64_LINKER}")


@pytest.mark.parametrize("is_told", [True, False], ids=["sysroot", "tree"])
def test_on_arm64_the_programs_of_a_tree_have_its_libraries(arm64_tree, tmp_path_factory, is_told):
    """By its own dynamic linker: the system's has another C library."""
    place = tmp_path_factory.mktemp("elsewhere") / "tool" if is_told else arm64_tree / "usr/bin/tool"
    started = command(arm64_program(place), ["-a"], arm64_tree if is_told else None, "aarch64")
    libraries = f"{arm64_tree}/usr/lib/aarch64-linux-gnu:{arm64_tree}/lib:{arm64_tree}/usr/lib"
    assert started == [f"{arm64_tree}/{ARM64_LINKER}", "--library-path", libraries, str(place), "-a"]


def test_elsewhere_they_have_the_emulator_which_is_told_of_the_tree(arm64_tree):
    tool = arm64_program(arm64_tree / "usr/bin/tool")
    assert command(tool, ["-a"], None, "x86_64") == ["qemu-aarch64", str(tool.path), "-a"]
    assert environment(tool, "the-server", None, "x86_64")["QEMU_LD_PREFIX"] == str(arm64_tree)


def test_on_arm64_a_sysroot_without_a_linker_is_refused(arm64_tree, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(program.BadProgram, match=f"there is no {empty}/{ARM64_LINKER}: --sysroot is the folder"):
        command(arm64_program(arm64_tree / "usr/bin/tool"), [], empty, "aarch64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_program_of_the_system_is_started_by_itself(tmp_path, machine):
    """On x86 also where the libraries are for the emulators that it may start."""
    own = find_program("sh").interpreter
    shell = program.Program(Path("/bin/sh"), machine, own)
    for sysroot in (None, Path("/"), *[tmp_path] * (machine == "x86_64")):
        assert command(shell, ["-c", ":"], sysroot, machine) == ["/bin/sh", "-c", ":"]


@pytest.fixture
def native_tree(tmp_path):
    """A folder with a program of this machine, and all that it needs in other places than the system's."""
    tree = tmp_path / "tree"
    cat = Path(shutil.which("cat")).resolve()
    listed = subprocess.run(["ldd", cat], capture_output=True, text=True, check=True).stdout
    library = Path(re.search(r"=> (\S*libc\.so\.6)", listed)[1])
    linker = Path(find_program(str(cat)).interpreter)
    for source, name in ((cat, "usr/bin/cat"), (library, "lib/libc.so.6"), (linker, str(linker).lstrip("/"))):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.resolve(), tree / name)
    return tree


@pytest.mark.parametrize("is_told", [True, False], ids=["sysroot", "tree"])
def test_the_shim_is_before_a_program_of_a_tree(native_tree, tmp_path, capfd, is_told):
    path = native_tree / "usr/bin/cat"
    if is_told:
        path = shutil.copy(path, tmp_path / "cat")
    options = ["--sysroot", native_tree] if is_told else []
    code, out, err = run(capfd, "run", *options, "--", path, "/proc/self/maps")
    assert (code, err) == (0, "")
    loaded = {line.split()[-1] for line in out.splitlines() if ".so" in line}
    assert f"{native_tree}/lib/libc.so.6" in loaded
    assert any("/kvm_shim-" in name for name in loaded)
