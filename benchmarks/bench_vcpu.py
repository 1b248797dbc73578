"""A register access, a whole save, and runs of a vCPU, beside the bare calls that they cannot do without."""

from __future__ import annotations

import ctypes

import pytest
from baseline import ffi, lib
from measure import overall, statements

from kvmsve import Feature, Host
from kvmsve.facts import regid
from kvmsve.machine.regfile import RegFile

RUNS = 1000
ZREG = regid.zreg_id(3)


def finalized_vcpu():
    """SVE up to vq 2, SME up to vq 4: its formats differ, so that userspace and guest need conversions."""
    host = Host(sve_vqs={1, 2}, sme_vqs={1, 2, 4}, sme2=True)
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE, Feature.SME})
    vcpu.finalize(Feature.VEC)
    return vcpu


def empty_ctypes_call():
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p)
    return prototype(int(ffi.cast("uintptr_t", ffi.addressof(lib, "nothing"))))


def test_one_register(report, benchmark):
    vcpu = finalized_vcpu()
    state = ffi.new("uint8_t[]", len(vcpu.sve_state))
    names = {
        "get": vcpu.get_one_reg, "get_into": vcpu.get_one_reg_into, "set": vcpu.set_one_reg,
        "nothing": lib.nothing, "ctypes_nothing": empty_ctypes_call(),
        "state": state, "address": int(ffi.cast("uintptr_t", state)), "view": ffi.buffer(state),
        "where": slice(192, 256), "reg_id": ZREG, "data": bytes(256), "buffer": bytearray(256),
    }  # fmt: skip
    rows = {
        "empty cffi call": "nothing(state, reg_id, data)",
        "empty ctypes call": "ctypes_nothing(address, reg_id, data)",
        "slice of a cffi buffer": "view[where]",
        "get_one_reg": "get(reg_id)",
        "get_one_reg_into": "get_into(reg_id, buffer)",
        "set_one_reg": "set(reg_id, data)",
    }
    parts = statements(rows, names)
    for name, function in {"get": "get_one_reg", "set": "set_one_reg"}.items():
        report.figure(name, [ns[function] / ns["empty cffi call"] for ns in parts])
    report.table("one Z register at vq 4", ["ns"], {name: [ns] for name, ns in overall(parts).items()}, ".0f")
    benchmark.pedantic(vcpu.get_one_reg, (ZREG,), iterations=1000, rounds=50)


def test_save(report, benchmark):
    """The block of Z, P and FFR in the list is known to a caller who has looked at one list."""
    vcpu = finalized_vcpu()
    listed = vcpu.get_reg_list()
    vectors = [reg_id for reg_id in listed if regid.coproc(reg_id) == regid.SVE and reg_id != regid.SVE_VLS]
    start = listed.index(vectors[0])
    assert listed[start : start + len(vectors)] == vectors
    names = {"vcpu": vcpu, "get": vcpu.get_one_reg, "vectors": vectors, "block": slice(start, start + len(vectors))}
    rows = {
        "save": "[get(reg_id) for reg_id in vcpu.get_reg_list()[block]]",
        "gets": "[get(reg_id) for reg_id in vectors]",
    }
    parts = statements(rows, names, calls=100)
    us = overall(parts)["save"] / 1000
    report.figure("save", [ns["save"] / ns["gets"] for ns in parts], f"{us:.0f} us")
    benchmark.pedantic(lambda: [vcpu.get_one_reg(reg_id) for reg_id in vcpu.get_reg_list()[names["block"]]], rounds=100)


def test_runs(report, benchmark, monkeypatch: pytest.MonkeyPatch):
    conversions = []
    for move in ("rewrite", "fpsimd_to_sve", "sve_to_fpsimd"):
        original = getattr(RegFile, move)

        def counted(regs, *lengths, original=original):
            conversions.append(lengths)
            original(regs, *lengths)

        monkeypatch.setattr(RegFile, move, counted)
    vcpu = finalized_vcpu()

    def run():
        with vcpu.run() as guest:
            guest.v[0] = bytes(16)

    vcpu.set_one_reg(ZREG, bytes(256))
    run()
    assert conversions, "the first run after an access by userspace converts"
    conversions.clear()
    benchmark.pedantic(run, rounds=RUNS)
    report.figure("conversions", [len(conversions)])
