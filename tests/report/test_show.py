"""What `kvmsve show` prints: owner, format, lengths, SVCR, and which bytes are live, padding and stale.

Expected bytes come from what a recording's client set or read, their marks from rfc-v2.md sections 4 and 5.
"""

from __future__ import annotations

import model
import pytest
import recorded
from places import RECORDINGS

from kvmsve import Feature, Host, Vcpu, abi
from kvmsve.cli import main
from kvmsve.report.vcpu import describe

Shown = dict[str, str]  # a register's bytes as hexadecimal digits, each byte behind its mark
S2M4, S4M2, SMEONLY = "rfc-r1-s2m4", "rfc-r1-s4m2", "rfc-r123-smeonly-s0m4"
REGISTERS = [*(f"Z{n}" for n in range(32)), *(f"P{n}" for n in range(16)), "FFR"]


def parse(lines: list[str]) -> tuple[Shown, Shown]:
    """The labelled facts at the top, and the registers."""
    facts = {name: text.strip() for name, _, text in (line.partition(" ") for line in lines) if name.isalpha()}
    shown: Shown = {}
    register = ""
    for line in lines:
        label, groups = line[:5].strip(), line[7:]
        if line[:1] != " " or line[5:7] != "  " or "no mark" in line or line[3:4] in "+~":
            continue
        register = label or register
        while groups:
            mark, group = groups[0], groups[1:].split(" ")[0]
            shown[register] = shown.get(register, "") + marked(group, mark)
            groups = groups[1 + len(group) + 1 :]
    return facts, shown


def marked(data: str | bytes, mark: str) -> str:
    text = data.hex() if isinstance(data, bytes) else data
    return mark + "0" if text == "0" else "".join(mark + text[at : at + 2] for at in range(0, len(text), 2))


def show(capsys: pytest.CaptureFixture[str], name: str, line: int) -> tuple[Shown, Shown]:
    assert main(["show", str(RECORDINGS / f"{name}.jsonl.xz"), "--at", str(line)]) == 0
    return parse(capsys.readouterr().out.splitlines())


def last_set(name: str, line: int) -> dict[str, bytes]:
    """What userspace had last set Z, P and FFR to, as long as the recording has it."""
    sets = [op for _, op in recorded.history(name, line) if op["op"] == "set" and op["ret"] == 0]
    ids = {int(op["id"], 16): bytes.fromhex(op["data"]) for op in sets}
    return {recorded.register_name(reg_id): data for reg_id, data in ids.items() if reg_id in model.SVE_IDS[1:]}


def guest_data(name: str, line: int, access: str, what: str) -> bytes:
    steps = recorded.lines(name)[line - 1]["guest"]
    return bytes.fromhex(next(step["data"] for step in steps if step.get(access) == what))


def split(data: bytes, vl: int) -> dict[str, bytes]:
    """Z, P and FFR as a guest stores them at a length, one behind the other."""
    sizes = [vl if name[0] == "Z" else vl // 8 for name in REGISTERS]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    return {name: data[at : at + size] for name, at, size in zip(REGISTERS, starts, sizes, strict=True)}


USER_FORMAT = [  # recording, note, bytes of Z in user format, live bytes of Z and of P
    (S2M4, "SVCR 0, set, enter without running, get, get again, enter, get", 64, 32, 4),
    (S2M4, "SVCR 1, set, enter without running, get, get again, enter, get", 64, 64, 8),
    (S4M2, "SVCR 2, set, enter without running, get, get again, enter, get", 64, 64, 8),
    (S4M2, "SVCR 3, set, enter without running, get, get again, enter, get", 64, 32, 4),
    (SMEONLY, "SVCR 0, set, enter without running, get, get again, enter, get", 64, 16, 0),
    (SMEONLY, "SVCR 1, set, enter without running, get, get again, enter, get", 64, 64, 8),
]


@pytest.mark.parametrize(("name", "note", "size", "live_z", "live_p"), USER_FORMAT)
def test_user_format(
    capsys: pytest.CaptureFixture[str], name: str, note: str, size: int, live_z: int, live_p: int
) -> None:
    """What userspace set is all there; the next KVM_RUN keeps what the guest has room for (4.2 d to i)."""
    line = recorded.find(name, note, op="run") - 1
    facts, shown = show(capsys, name, line)
    svcr = int(note[5])
    assert facts["owner"] == "USER_OWNED"
    assert facts["format"] == "user: Z, P and FFR at vq 4 (64 bytes)"
    assert facts["SVCR"] == f"0x{svcr:x}: SM {'on' if svcr & 1 else 'off'}, ZA {'on' if svcr & 2 else 'off'}"
    values = last_set(name, line)
    assert len(values) == 49
    for register, value in values.items():
        full, live = (size, live_z) if register[0] == "Z" else (size // 8, live_p)
        value = value[:full]
        assert shown[register] == marked(value[:live], " ") + marked(value[live:], "+"), register
    assert all(shown[f"V{n}"] == "~0" for n in range(32))
    assert shown["ZA0"] == (" 0" if svcr & 2 else "~0")


GUEST_FORMAT = [  # recording, note, format, the guest's length, what of sve_state is behind its registers
    (S2M4, "SVCR 0, set, guest dumps", "vq 2 (32 bytes)", 32, 546 * 2),
    (S2M4, "SVCR 1, set, guest dumps", "vq 4 (64 bytes)", 64, 0),
    (S4M2, "SVCR 0, set, guest dumps", "vq 4 (64 bytes)", 64, 0),
    (S4M2, "SVCR 3, set, guest dumps", "vq 2 (32 bytes)", 32, 546 * 2),
    (SMEONLY, "SVCR 3, set, guest dumps", "vq 4 (64 bytes)", 64, 0),
]


@pytest.mark.parametrize(("name", "note", "layout", "vl", "tail"), GUEST_FORMAT)
def test_guest_format(
    capsys: pytest.CaptureFixture[str], name: str, note: str, layout: str, vl: int, tail: int
) -> None:
    """What the guest stored is live, the zeroed rest of sve_state is stale, and V is not used (5)."""
    line = recorded.find(name, note, op="run", ret=0)
    facts, shown = show(capsys, name, line)
    assert facts["owner"] == "GUEST_OWNED"
    assert facts["format"] == f"guest: Z, P and FFR at {layout}"
    for register, value in split(guest_data(name, line, "read", "zpffr"), vl).items():
        assert shown[register] == marked(value, " "), register
    assert shown.get("tail") == ("~0" if tail else None)
    assert all(shown[f"V{n}"] == "~0" for n in range(32))


def test_sme_only_guest_outside_streaming_mode(capsys: pytest.CaptureFixture[str]) -> None:
    """4.2 h: V is live, and sve_state keeps the image that userspace had set."""
    line = recorded.find(SMEONLY, "SVCR 0, set, guest dumps", op="run", ret=0)
    facts, shown = show(capsys, SMEONLY, line)
    assert (facts["owner"], facts["format"]) == ("GUEST_OWNED", "guest: V alone (FPSIMD)")
    data = guest_data(SMEONLY, line, "read", "v")
    assert [shown[f"V{n}"] for n in range(32)] == [marked(data[16 * n :][:16], " ") for n in range(32)]
    for register, value in last_set(SMEONLY, line).items():
        assert shown[register] == marked(value[: 64 if register[0] == "Z" else 8], "~"), register


def test_vcpu_with_sve_only(capsys: pytest.CaptureFixture[str]) -> None:
    name = "linux73-vq1-2-4"
    line = recorded.find(name, "guest loads from memory, userspace reads", op="run", ret=0)
    facts, shown = show(capsys, name, line)
    step = next(step for step in recorded.lines(name)[line - 1]["guest"] if "write" in step)
    assert facts["owner"] == "GUEST_OWNED"
    for register, value in split(bytes.fromhex(step["data"]), step["vl"]).items():
        assert shown[register].startswith(marked(value, " ")), register
    assert all(shown[f"V{n}"] == "~0" for n in range(32))
    assert "ZA0" not in shown


def test_vcpu_without_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    name = "linux61-nosve"
    line = next(n for n, op in enumerate(recorded.lines(name), 1) if "write" in str(op.get("guest", "")))
    facts, shown = show(capsys, name, line)
    assert facts["format"] == "guest: V alone (FPSIMD)"
    writes = {step["write"]: step["data"] for step in recorded.lines(name)[line - 1]["guest"] if "write" in step}
    for register, value in ((f"v{n}", writes["v"][32 * n : 32 * n + 32]) for n in range(32)):
        assert shown[register.upper()] == marked(writes.get(register, value), " ")
    assert set(shown) == {f"V{n}" for n in range(32)}


# States that no recording has


def made(sve_vqs: set[int], sme_vqs: set[int], sme2: bool = True) -> Vcpu:
    host = Host(sve_vqs=sve_vqs, sme_vqs=sme_vqs, sme2=sme2, abi=abi("rfc-v2"))
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE, Feature.SME} if sve_vqs else {Feature.SME})
    return vcpu


@pytest.mark.parametrize("sve_vq", range(1, 16))
def test_padding_starts_at_any_byte(sve_vq: int) -> None:
    """A guest that is shorter than 16 quadwords, in user format: 2 bytes a quadword of P are live."""
    vcpu = made(set(range(1, sve_vq + 1)), {16})
    vcpu.finalize(Feature.VEC)
    for reg_id, size in ((model.Z_BASE, 256), (model.P_BASE, 32)):
        vcpu.set_one_reg(reg_id, bytes(range(1, size // 2 + 1)) * 2)
    _, shown = parse(list(describe(vcpu)))
    for register, size, live in (("Z0", 256, 16 * sve_vq), ("P0", 32, 2 * sve_vq)):
        data = bytes(range(1, size // 2 + 1)) * 2
        assert shown[register] == marked(data[:live], " ") + marked(data[live:], "+")


def test_za_and_zt0_are_live_while_za_is_on() -> None:
    vcpu = made({1}, {1, 2})
    vcpu.finalize(Feature.VEC)
    with vcpu.run() as guest:
        guest.smcr = 0x40000001
        guest.smstart(za=True)
        guest.za[5], guest.zt0 = bytes(range(32)), bytes(range(64))
    on = parse(list(describe(vcpu)))[1]
    with vcpu.run() as guest:
        guest.smstop(za=True)
    off = parse(list(describe(vcpu)))[1]
    for shown, mark in ((on, " "), (off, "~")):
        assert (shown["ZA5"], shown["ZT0"]) == (marked(bytes(range(32)), mark), marked(bytes(range(64)), mark))
        assert (shown["ZA4"], shown["ZA31"]) == (f"{mark}0", f"{mark}0")
        assert "ZA32" not in shown
    assert "ZT0" not in parse(list(describe(made({1}, {1, 2}, sme2=False))))[1]


def test_summary() -> None:
    vcpu = made({1, 2}, {1, 2, 4})
    vcpu.set_one_reg(model.SVCR, b"\3" + bytes(7))
    vcpu.set_one_reg(model.FPSR, b"\x9f\0\0\x08")
    before = "\n".join(describe(vcpu))
    assert "lengths  SVE vq 2, SME vq 4, user vq 4\nSVCR     0x3: SM on, ZA on\n" in before
    assert "FPSR 0x0800009f, FPCR 0x00000000" in before
    assert set(parse(before.splitlines())[1]) == {f"V{n}" for n in range(32)}
    plain = Host().create_vm().create_vcpu(0)
    assert "lengths  SVE none, SME none, user none\nSVCR     0x0: SM off, ZA off" in "\n".join(describe(plain))
