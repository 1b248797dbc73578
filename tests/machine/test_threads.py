"""vCPUs in threads: each in its own, as many as one likes; and one in several, which then take turns."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from driver import check
from examples import PFR1, SVCR, a_host, enter_and_leave, make_vcpu, pattern, refused, u64, z, za
from places import TESTS

from kvmsve import V12, Feature, Host, KvmError, Vcpu
from kvmsve.machine.guest import Guest
from kvmsve.machine.regfile import RegFile

THREADS = 4


@pytest.fixture(autouse=True)
def _threads_switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What each of so many threads, which begin at once, has made of its number."""
    begin = threading.Barrier(count)

    def begun(n: int) -> Any:
        begin.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begun, range(count)))


def test_programs_in_threads(tmp_path: Path) -> None:
    """Each is compared with its model all the time."""
    together(THREADS, lambda n: [check(1000 + 10 * n + k, tmp_path) for k in range(4)])


def test_vcpus_of_one_vm_in_threads() -> None:
    """rfc-v2.md 4.2, row d: a run cuts Z to the SVE length, and what the guest writes is found afterwards."""
    vm = a_host().create_vm()
    vcpus = [vm.create_vcpu(n) for n in range(THREADS)]

    def work(n: int) -> None:
        vcpu = vcpus[n]
        vcpu.init({Feature.SVE, Feature.SME})
        vcpu.finalize(Feature.VEC)
        vcpu.set_one_reg(SVCR, u64(2))
        for turn in range(40):
            mine = [pattern(64, 1000 * n + 10 * turn + k) for k in range(3)]
            for k in range(3):
                vcpu.set_one_reg(z(k), mine[k])
            vcpu.set_one_reg(za(turn), mine[0])
            assert vcpu.get_one_reg(z(1)) == mine[1] + bytes(192)
            with vcpu.run() as guest:
                guest.zcr, guest.smcr = 1, 3
                assert guest.za[turn] == mine[0]
                guest.z[0] = guest.z[2]
            cut = [mine[k][:32] + bytes(224) for k in (2, 1, 2)]
            assert [vcpu.get_one_reg(z(k)) for k in range(3)] == cut

    together(THREADS, work)


def test_features_of_a_vm_are_those_of_one_of_its_vcpus() -> None:
    """rfc-v2.md 2.2, 10: the first INIT decides."""
    choices = [{Feature.SVE}, {Feature.SME}, {Feature.SVE, Feature.SME}, set()]

    for _ in range(100):
        vm = a_host().create_vm()
        vcpus = [vm.create_vcpu(n) for n in range(THREADS)]
        ends = together(THREADS, lambda n, vcpus=vcpus: end_of(lambda: vcpus[n].init(choices[n])))
        assert sorted(ends) == ["", "EINVAL", "EINVAL", "EINVAL"]
        assert vm.features == vcpus[ends.index("")].feature_words[0]


def end_of(call: Callable[[], Any]) -> str:
    """The errno of a call, if it has one."""
    try:
        call()
    except KvmError as error:
        return error.symbol
    return ""


def test_index_is_given_once() -> None:
    for _ in range(100):
        vm = a_host().create_vm()
        ends = together(THREADS, lambda _, vm=vm: end_of(lambda: vm.create_vcpu(7)))
        assert sorted(ends) == ["", "EEXIST", "EEXIST", "EEXIST"]


def test_id_register_is_fixed_before_a_guest_sees_it() -> None:
    """rfc-v2.md 1.4: a write is refused once a vCPU of the VM has run."""
    for _ in range(100):
        vm = Host(sve_vqs={1}, sme_vqs={1}, sme2=True, abi=V12).create_vm()
        vcpus = [vm.create_vcpu(n) for n in range(2)]
        for vcpu in vcpus:
            vcpu.init({Feature.SVE, Feature.SME})
            vcpu.finalize(Feature.VEC)

        def work(n: int, vcpus: list[Vcpu] = vcpus) -> bytes | str:
            if n == 0:
                enter_and_leave(vcpus[0])
                return vcpus[0].get_one_reg(PFR1)
            return end_of(lambda: vcpus[1].set_one_reg(PFR1, u64(1 << 24)))

        value, end = together(2, work)
        assert (value, end) in ((u64(1 << 24), ""), (u64(2 << 24), "EBUSY"))


# One vCPU


def hammer(vcpu: Vcpu, seconds: float = 0.3) -> None:
    """Threads that read, write and run one vCPU; every read is of a whole value, at one of the lengths."""
    over = threading.Event()
    threading.Timer(seconds, over.set).start()

    def read(_: int) -> None:
        while not over.is_set():
            for k in (0, 31):
                value = vcpu.get_one_reg(z(k))
                live = value.rstrip(b"\0")
                assert len(live) in (0, 32, 64)
                assert live == live[:1] * len(live), value.hex()

    def write(n: int) -> None:
        while not over.is_set():
            for k in (0, 31):
                vcpu.set_one_reg(z(k), bytes([n + 1]) * 64)

    def enter(_: int) -> None:
        while not over.is_set():
            enter_and_leave(vcpu)

    together(5, lambda n: (read, read, write, write, enter)[n](n))


@pytest.mark.parametrize("sm", [0, 1])
@pytest.mark.parametrize("slowly", [False, True])
def test_calls_on_one_vcpu_take_turns(monkeypatch: pytest.MonkeyPatch, sm: int, slowly: bool) -> None:
    """As under vcpu->mutex: no call sees a conversion half done. Row d of rfc-v2.md 4.2, and row g."""
    vcpu = make_vcpu({1, 2}, {4}) if not sm else make_vcpu({1, 2, 3, 4}, {2})
    vcpu.set_one_reg(SVCR, u64(sm))
    rewrite = RegFile.rewrite

    def slow_rewrite(regs: RegFile, dst_vq: int, src_vq: int) -> None:
        time.sleep(1e-4)
        rewrite(regs, dst_vq, src_vq)
        time.sleep(1e-4)

    if slowly:
        monkeypatch.setattr(RegFile, "rewrite", slow_rewrite)
    hammer(vcpu)


def test_call_during_a_run_is_an_error_in_every_thread() -> None:
    vcpu = make_vcpu({1, 2}, {4})

    def is_refused(call: Callable[[], Any]) -> bool:
        with pytest.raises(RuntimeError, match="KVM_RUN holds the vCPU"):
            call()
        return True

    with vcpu.run():
        for call in (vcpu.run, lambda: vcpu.get_one_reg(z(0)), lambda: vcpu.init(set())):
            assert together(1, lambda _, call=call: is_refused(call))
    assert vcpu.get_one_reg(z(0)) == bytes(256)


def anything(vcpu: Vcpu, guests: list[Guest], rng: random.Random) -> None:
    """Some call on the vCPU, or some act of a guest, also of one whose run another thread began or has ended."""
    calls: list[Callable[[], Any]] = [
        lambda: vcpu.get_one_reg(z(rng.randrange(32))),
        lambda: vcpu.get_one_reg_into(z(rng.randrange(32)), bytearray(rng.randrange(300))),
        lambda: vcpu.set_one_reg(z(rng.randrange(32)), bytes(rng.randrange(300))),
        lambda: vcpu.set_one_reg(SVCR, u64(rng.randrange(4))),
        lambda: vcpu.set_one_reg(za(rng.randrange(64)), bytes(256)),
        lambda: vcpu.init({Feature.SVE, Feature.SME}),
        lambda: vcpu.finalize(4),
        lambda: vcpu.fail_allocations(rng.randrange(2)),
        lambda: vcpu.get_reg_list(),
        lambda: vcpu.run(immediate_exit=True),
        lambda: [len(view) for view in (vcpu.sve_state, vcpu.sme_state, vcpu.vregs)],
    ]
    acts: list[Callable[[Guest], Any]] = [
        lambda guest: setattr(guest, "svcr", rng.randrange(4)),
        lambda guest: setattr(guest, "zcr", rng.randrange(16)),
        lambda guest: guest.z.__setitem__(rng.randrange(32), bytes(guest.vl)),
        lambda guest: guest.za.__setitem__(rng.randrange(16), bytes(guest.svl)),
        lambda guest: (guest.ffr, guest.z[0], guest.fpsr),
        lambda guest: guest.narrow(16),
    ]
    if rng.random() < 0.2:
        with vcpu.run() as guest:
            guests.append(guest)
            for _ in range(rng.randrange(20)):
                rng.choice(acts)(guests[-1])
    elif rng.random() < 0.2:
        rng.choice(acts)(guests[-1])
    else:
        rng.choice(calls)()


def abuse(seconds: float) -> None:
    """Threads do anything with one vCPU and its guests; whatever is refused, the memory stays as big as it is."""
    vcpu = make_vcpu({1, 2, 3, 4}, {1, 2, 4}, sme2=True)
    guests = [vcpu.run().__enter__()]
    vcpu.leave_guest()
    over = threading.Event()
    threading.Timer(seconds, over.set).start()

    def work(n: int) -> int:
        rng, count = random.Random(n), 0
        while not over.is_set():
            count += 1
            try:
                anything(vcpu, guests, rng)
            except (KvmError, RuntimeError, ValueError, LookupError, Exception) as refusal:
                if type(refusal).__name__ not in (
                    "KvmError",
                    "RuntimeError",
                    "ValueError",
                    "IndexError",
                    "GuestUndefined",
                ):
                    raise
        return count

    counts = together(THREADS, work)
    assert min(counts) > 0
    assert [len(vcpu.sve_state), len(vcpu.sme_state), len(vcpu.vregs)] == [546 * 4, 64 * 64 + 512, 512]
    vcpu.init({Feature.SVE, Feature.SME})
    with refused("EPERM"):
        vcpu.finalize(4)
    assert vcpu.get_one_reg(z(0)) == bytes(256)
    print(sum(counts), "calls")


def test_registers_can_be_looked_at_during_an_init() -> None:
    """A reset leaves no moment in which SVCR is not there."""
    vcpu = make_vcpu({1, 2}, {1, 2, 4})

    over = threading.Event()

    def work(n: int) -> None:
        while n and not over.is_set():
            assert vcpu.svcr == 0
        for _ in range(0 if n else 1000):
            vcpu.init({Feature.SVE, Feature.SME})
        over.set()

    together(2, work)


def test_abuse_of_one_vcpu_corrupts_nothing() -> None:
    """In a process of its own, where a crash is seen; malloc checks and fills what is freed."""
    path = f"import sys; sys.path.append({str(TESTS)!r})"
    program = f"{path}; sys.setswitchinterval(1e-6); import test_threads; test_threads.abuse(1.5)"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        cwd=Path(__file__).parent,
        env={"PYTHONMALLOC": "debug", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165", **os.environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("calls\n")
