"""What people write where something else is meant: by kind of object, patterns of attributes and the right way."""

from __future__ import annotations

Ways = tuple[tuple[str, str], ...]

GUEST: Ways = (
    (r"(z|p|v|za)(\d+)", r"guest.\1[\2]"),
    (r"(z|p|v|za)", r"guest.\1[n] = data writes one register"),
    (r"vl", "guest.zcr, in streaming mode guest.smcr, limits the length in force"),
    (r"svl", "guest.smcr limits the streaming length in force"),
    (r"tpidr2|smidr|smpri", "a guest here only reads it"),
    (r"(zcr|smcr|cpacr|smidr|smpri)_?el1|(svcr|fpsr|fpcr|fpmr|tpidr2)_?el0", r"guest.\1\2"),
    (r"zt", "guest.zt0"),
    (r"[bhsdq](\d+)", r"it is the low bytes of guest.v[\1]"),
    (r"[xw]\d+|sp|pc|lr|pstate|nzcv", "a guest here has vector state alone; vcpu.get_one_reg() reads other registers"),
)
BANK: Ways = ((r".*", "bank[n] reads a register, bank[n] = data writes it"),)
RUN: Ways = (
    (r"z|p|v|za|ffr|zt0|svcr|zcr|smcr|vl|svl|fpsr|fpcr|smstart|smstop", r"with vcpu.run() as guest: guest.\g<0>"),
)
VCPU: Ways = (
    (r"svcr", "vcpu.set_one_reg(regid.SVCR, data), or guest.svcr in a run"),
    (r"fpsr", "vcpu.set_one_reg(regid.FPSR, data), or guest.fpsr in a run"),
    (r"fpcr", "vcpu.set_one_reg(regid.FPCR, data), or guest.fpcr in a run"),
    (r"(z|p|v)(\d+)", r"vcpu.set_one_reg(regid.\1reg_id(\2), data), or guest.\1[\2] in a run"),
    (r"za(\d+)", r"vcpu.set_one_reg(regid.za_row_id(\1), data), or guest.za[\1] in a run"),
    (r"z|p|v|za|ffr|zt0|zcr|smcr|vl|svl", r"vcpu.set_one_reg(reg_id, data), or guest.\g<0> in a run"),
    (r"max_vq|lengths", "before FINALIZE a SET of SVE_VLS or SME_VLS limits them"),
    (r"sve_state|sme_state|vregs|sysregs|fp_state", "it shows what the kernel holds; set_one_reg() changes registers"),
    (r"features|feature_words", "vcpu.init(features) decides them"),
    (r"abi", "make another Host"),
)
HOST: Ways = (
    (r"(create|new)_?vcpu", "host.create_vm().create_vcpu(0)"),
    (r"pmu|pointer_authentication|nested", "host.features_offered has it as a feature bit"),
    (r"abi|cpu|fa64|fpmr|sme2|sme_vqs|sve_vqs", "make another Host"),
)
VM: Ways = (
    (r"init|finalize|run|[gs]et_one_reg|get_reg_list", r"vcpu = vm.create_vcpu(0), then vcpu.\g<0>()"),
    (r"features", "vcpu.init(features) decides them"),
)
