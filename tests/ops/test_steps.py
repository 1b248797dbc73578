"""Guest steps, one at a time: what each does, what it must find, and what is said when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import recorded

from kvmsve import Feature, FpState, Guest, GuestUndefined, Host, Vcpu
from kvmsve.ops.act import observe_step, take_step
from kvmsve.ops.outcome import Difference

ZEN, FPEN = 0x30000, 0x300000


@contextmanager
def running(**machine: Any) -> Iterator[tuple[Guest, Vcpu]]:
    """A guest with SVE vq 2 and SME vq 4, SME2 and FA64 unless it is said otherwise."""
    host = Host(**{"sve_vqs": {1, 2}, "sme_vqs": {1, 2, 4}, "sme2": True, "fa64": True} | machine)
    vcpu = host.create_vm().create_vcpu(0)
    kinds = {Feature.SVE: host.sve_vqs, Feature.SME: host.sme_vqs}
    vcpu.init({feature for feature, vqs in kinds.items() if vqs})
    if any(kinds.values()):
        vcpu.finalize(Feature.VEC)
    with vcpu.run() as guest:
        take(guest, {"msr": "cpacr", "value": "3330000"})
        yield guest, vcpu


def take(guest: Guest, *steps: dict[str, Any]) -> None:
    for step in steps:
        take_step(guest, recorded.step(step))


def said(guest: Guest, step: dict[str, Any]) -> str:
    with pytest.raises(Difference) as caught:
        take_step(guest, recorded.step(step))
    return str(caught.value.args[0])


@pytest.mark.parametrize(
    ("register", "value"),
    [("zcr", "1"), ("smcr", "c0000003"), ("fpsr", "800009f"), ("fpcr", "7c00000"), ("svcr", "3"), ("cpacr", "300000")],
)
def test_control_register_reads_what_was_written(register: str, value: str) -> None:
    with running() as (guest, _):
        write, read = {"msr": register, "value": value}, {"mrs": register, "value": value}
        take(guest, {"msr": "zcr", "value": "3"}, {"msr": "smcr", "value": "c0000003"}, write, read)
        other = f"{int(value, 16) ^ 1:x}"
        assert said(guest, {**read, "value": other}) == f"mrs {register}: expected 0x{other}, actual 0x{value}"
        take(guest, {**read, "value": other, "mask": "fffffffffffffffe"}, {**read, "value": "0", "mask": "0"})


def test_registers_that_read_as_zero() -> None:
    with running() as (guest, vcpu):
        take(guest, {"msr": "smpri", "value": "f"}, {"mrs": "smpri", "value": "0"}, {"mrs": "smidr", "value": "0"})
        take(guest, {"mrs": "tpidr2", "value": "1de7ec7edbadc0de"})
        assert vcpu.fp_state is FpState.GUEST_OWNED


@pytest.mark.parametrize("step", [{"msr": "cpacr", "value": "0"}, {"undef": "zt0"}])
def test_cpacr_and_undef_are_no_use_of_fp(step: dict[str, Any]) -> None:
    with running() as (guest, vcpu):
        take_step(guest, recorded.step(step))
        assert vcpu.fp_state is FpState.HOST_OWNED


@pytest.mark.parametrize(
    "step",
    [{"narrow": 16}, {"rdvl": 16}, {"mrs": "fpsr", "value": "0"}, {"read": "v0", "data": "00" * 16}, {"smstop": "za"}],
)
def test_every_other_step_is_one(step: dict[str, Any]) -> None:
    with running() as (guest, vcpu):
        take_step(guest, recorded.step(step))
        assert vcpu.fp_state is FpState.GUEST_OWNED


def test_modes_and_lengths() -> None:
    with running() as (guest, _):
        take(guest, {"msr": "zcr", "value": "f"}, {"rdvl": 32}, {"msr": "zcr", "value": "0"}, {"rdvl": 16})
        take(guest, {"msr": "smcr", "value": "f"}, {"smstart": "sm"}, {"mrs": "svcr", "value": "1"}, {"rdvl": 64})
        take(guest, {"mrs": "fpsr", "value": "800009f"}, {"smstart": "za"}, {"mrs": "svcr", "value": "3"})
        assert said(guest, {"rdvl": 16}) == "rdvl: expected 16, actual 64"
        take(guest, {"smstop": "sm"}, {"mrs": "svcr", "value": "2"}, {"smstop": "za"}, {"mrs": "svcr", "value": "0"})


BANKS = [  # what, its length in bytes at vl 32, and the registers as a guest names them
    ("zpffr", 1024 + 17 * 4, [*(f"z{n}" for n in range(32)), *(f"p{n}" for n in range(16)), "ffr"]),
    ("zp", 1024 + 16 * 4, [*(f"z{n}" for n in range(32)), *(f"p{n}" for n in range(16))]),
    ("v", 512, [f"v{n}" for n in range(32)]),
    ("z31", 32, ["z31"]),
    ("p15", 4, ["p15"]),
    ("ffr", 4, ["ffr"]),
    ("v7", 16, ["v7"]),
    ("za", 1024, ["za"]),
    ("zt0", 64, ["zt0"]),
]


@pytest.mark.parametrize(("what", "size", "registers"), BANKS, ids=[what for what, *_ in BANKS])
def test_banks_are_packed_in_order(what: str, size: int, registers: list[str]) -> None:
    data = bytes(n % 251 + 1 for n in range(size))
    length = {} if what[0] == "v" or what == "zt0" else {"vl": 32}
    with running(sme_vqs={2}) as (guest, _):
        take(guest, {"msr": "zcr", "value": "1"}, {"msr": "smcr", "value": "40000001"}, {"smstart": "za"})
        take(guest, {"write": what, **length, "data": data.hex()}, {"read": what, **length, "data": data.hex()})
        at = 0
        for register in registers:
            share = {"z": 32, "p": 4, "f": 4, "v": 16}[register[0]] if what not in ("za", "zt0") else size
            take_step(guest, recorded.step({"read": register, "data": data[at : at + share].hex()}))
            at += share
        assert at == size
        changed = bytearray(data)
        changed[-1] ^= 0x40
        last = {"za": ("ZA31", 31), "zt0": ("ZT0", 63)}.get(what, (registers[-1].upper(), share - 1))
        complaint = f"{last[0]}: byte {last[1]}: expected 0x{changed[-1]:02x}, actual 0x{data[-1]:02x}"
        assert said(guest, {"read": what, **length, "data": changed.hex()}) == complaint


def test_length_must_be_the_one_in_force() -> None:
    with running() as (guest, _):
        take(guest, {"msr": "zcr", "value": "1"}, {"msr": "smcr", "value": "3"}, {"smstart": "za"})
        complaint = "the length in force: expected {}, actual {}"
        assert said(guest, {"read": "z0", "vl": 64, "data": "00" * 64}) == complaint.format(64, 32)
        assert said(guest, {"write": "p0", "vl": 16, "data": "0000"}) == complaint.format(16, 32)
        assert said(guest, {"read": "za", "vl": 32, "data": "00" * 1024}) == complaint.format(32, 64)


def test_a_row_of_za_has_the_streaming_length() -> None:
    row = bytes(range(64)).hex()
    with running() as (guest, _):
        take(guest, {"msr": "zcr", "value": "1"}, {"msr": "smcr", "value": "3"}, {"smstart": "za"})
        take(guest, {"write": "za5", "vl": 64, "data": row}, {"read": "za5", "vl": 64, "data": row}, {"rdvl": 32})


@pytest.mark.parametrize("access", ["read", "write"])
def test_a_step_at_another_length_is_not_taken(access: str) -> None:
    """Where nobody minds the difference, as in a device's script."""
    with running() as (guest, _):
        take(guest, {"msr": "zcr", "value": "1"}, {"write": "z0", "vl": 32, "data": "11" * 32})
        seen = list(observe_step(guest, recorded.step({access: "z0", "vl": 64, "data": "22" * 64})))
        assert [(observation.recorded, observation.actual) for observation in seen] == [(64, 32)]
        take(guest, {"read": "z0", "vl": 32, "data": "11" * 32})


@pytest.mark.parametrize("what", ["z0", "p0", "ffr", "v0", "zpffr", "zp", "v"])
def test_too_many_or_too_few_bytes_do_not_pass(what: str) -> None:
    size = {"z0": 32, "p0": 4, "ffr": 4, "v0": 16, "zpffr": 1024 + 68, "zp": 1024 + 64, "v": 512}[what]
    for access in ("read", "write"):
        with running() as (guest, _):
            take(guest, {"msr": "zcr", "value": "1"}, {access: what, "data": "00" * size})
            assert (
                said(guest, {access: what, "data": "00" * (size + 1)})
                == f"bytes of the step: expected {size + 1}, actual {size}"
            )
            with pytest.raises(
                (Difference, ValueError), match=r"expected \d+ bytes, actual|at the length in force, not"
            ):
                take_step(guest, recorded.step({access: what, "data": "00" * (size - 1)}))


@pytest.mark.parametrize("what", ["", "x0", "z", "z-1", "zz", "pffr", "ZA", "v1.5", "fpsr", "z 1"])
@pytest.mark.parametrize("access", ["read", "write"])
def test_wrong_register_name(access: str, what: str) -> None:
    with running() as (guest, _), pytest.raises(ValueError, match=f"no register is called {what!r}"):
        take_step(guest, recorded.step({access: what, "data": ""}))


@pytest.mark.parametrize(("what", "size"), [("z32", 16), ("p16", 2), ("v32", 16), ("z100", 16)])
def test_register_number_out_of_range(what: str, size: int) -> None:
    with running() as (guest, _), pytest.raises(IndexError, match=f"there is no {what.upper()}"):
        take_step(guest, recorded.step({"read": what, "data": "00" * size}))


def test_wrong_control_register_and_probe() -> None:
    with running() as (guest, _):
        for step in ({"msr": "zcr_el1", "value": "0"}, {"msr": "tpidr2", "value": "0"}, {"mrs": "ffr", "value": "0"}):
            with pytest.raises(ValueError, match="no control register is called"):
                take_step(guest, recorded.step(step))
        with pytest.raises(ValueError, match="no instruction is called 'z31'"):
            take_step(guest, recorded.step({"undef": "z31"}))


# Instructions that took an exception


@pytest.mark.parametrize(
    ("machine", "before", "what"),
    [
        ({"sve_vqs": (), "sme_vqs": ()}, [], "sve"),
        ({"sve_vqs": ()}, [], "sve"),
        ({}, [{"msr": "cpacr", "value": f"{FPEN:x}"}], "sve"),
        ({"fa64": False}, [{"msr": "smcr", "value": "80000003"}, {"smstart": "sm"}], "ffr"),
        ({}, [{"msr": "smcr", "value": "3"}, {"smstart": "sm"}], "ffr"),
        ({"sve_vqs": ()}, [], "ffr"),
        ({}, [{"msr": "smcr", "value": "40000003"}], "zt0"),
        ({}, [{"smstart": "za"}], "zt0"),
        ({"sme2": False}, [{"msr": "smcr", "value": "40000003"}, {"smstart": "za"}], "zt0"),
        ({"sme_vqs": ()}, [], "smidr"),
    ],
)
def test_undefined_instruction_is_expected(machine: dict[str, Any], before: list[dict[str, Any]], what: str) -> None:
    with running(**machine) as (guest, vcpu):
        take(guest, *before)
        owner = vcpu.fp_state
        take_step(guest, recorded.step({"undef": what, "esr": "2000000"}))
        assert vcpu.fp_state is owner


@pytest.mark.parametrize(
    ("before", "what"),
    [
        ([{"msr": "cpacr", "value": f"{FPEN | ZEN:x}"}], "sve"),
        ([], "ffr"),
        ([{"msr": "smcr", "value": "80000003"}, {"smstart": "sm"}], "ffr"),
        ([{"msr": "smcr", "value": "40000003"}, {"smstart": "za"}], "zt0"),
        ([], "smidr"),
    ],
)
def test_instruction_that_is_there_is_a_difference(before: list[dict[str, Any]], what: str) -> None:
    with running() as (guest, _):
        take(guest, *before)
        assert said(guest, {"undef": what}) == f"{what}: expected UNDEFINED, actual an access"


@pytest.mark.parametrize("step", [{"rdvl": 16}, {"mrs": "svcr", "value": "0"}, {"write": "ffr", "data": "00"}])
def test_step_of_a_register_that_is_not_there_is_undefined(step: dict[str, Any]) -> None:
    with running(sve_vqs=(), sme_vqs=()) as (guest, _), pytest.raises(GuestUndefined):
        take_step(guest, recorded.step(step))
