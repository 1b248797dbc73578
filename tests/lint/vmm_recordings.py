"""How virtual machine monitors save and restore a streaming guest, recorded: `python tests/lint/vmm_recordings.py DIR`.

Each VMM makes the calls, in the order, that its source makes them (QEMU 7.2 to 11.1, Firecracker, cloud-hypervisor,
crosvm). None of them knows SME: what they are taught here is to ask for the feature bit, and where they would stop at
a register that the list names and they do not know, to go on. A call that the kernel refuses is recorded, and the VMM
goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import kvmsve
from kvmsve import Feature, Host, KvmError
from kvmsve.facts import layout, regid
from kvmsve.facts.abi import Abi
from kvmsve.facts.layout import SMCR_EZT0, SMCR_FA64
from kvmsve.facts.revisions import NEXT, RFC_V2
from kvmsve.recording.recorded_guest import RecordedGuest
from kvmsve.rules import reglist

REVISIONS = (RFC_V2, NEXT)
SVE_VQ, SME_VQ = 2, 4
FIRECRACKER_ROOM = 500

CORE_WITHOUT_V = [reg_id for reg_id in reglist.CORE_REGS if reg_id not in (*reglist.VREGS, regid.FPSR, regid.FPCR)]
X_SP_PC_PSTATE = CORE_WITHOUT_V[:34]
VREGS = sorted(reglist.VREGS)
VECTORS = [*reglist.ZREGS, *reglist.PREGS, regid.FFR_ID]

Saved = dict[int, bytes]


def host_of(revision: Abi) -> Host:
    """A host with SME2 and FA64 whose streaming length is the longer one; FPMR is younger than RFC v2."""
    return Host(
        abi=revision,
        sve_vqs={1, SVE_VQ},
        sme_vqs={1, 2, SME_VQ},
        sme2=True,
        fa64=True,
        fpmr=revision is not RFC_V2,
    )


def run_guest(vcpu: Any, has_fpmr: bool) -> None:
    """A guest in streaming mode with ZA on, whose vector registers have no byte that is zero."""
    with vcpu.run() as guest:
        guest.zcr = SVE_VQ - 1
        guest.smcr = SMCR_FA64 | SMCR_EZT0 | SME_VQ - 1
        guest.smstart()
        fill(guest)
        guest.fpsr, guest.fpcr = 0x0800001F, 1 << 24
        if has_fpmr:
            guest.fpmr = 0x0807_0605


def fill(guest: RecordedGuest) -> None:
    vl = layout.zreg_bytes(SME_VQ)
    for n in range(layout.NUM_ZREGS):
        guest.z[n] = pattern(n, vl)
    for n in range(layout.NUM_PREGS):
        guest.p[n] = pattern(64 + n, vl // 8)
    guest.ffr = b"\xff" * (vl // 8)
    for row in range(vl):
        guest.za[row] = pattern(96 + row, vl)
    guest.zt0 = pattern(192, layout.ZT0_BYTES)


def pattern(seed: int, size: int) -> bytes:
    return bytes((seed + 7 * position) % 255 + 1 for position in range(size))


class Vmm:
    """What the VMMs have in common: one vCPU, and how they call for it. Starts as all but QEMU do."""

    def __init__(self, vcpu: Any) -> None:
        self.vcpu = vcpu

    def start(self) -> None:
        """The vCPU has SVE and SME at all lengths of the host."""
        self.create()
        self.finalize()

    def create(self) -> None:
        """KVM_ARM_VCPU_INIT with SVE and SME."""
        self.vcpu.init({Feature.SVE, Feature.SME, Feature.PSCI_0_2})

    def finalize(self) -> None:
        self.vcpu.finalize(Feature.VEC)

    def read(self, reg_ids: Iterable[int], refused: bytes | None = None) -> Saved:
        """The registers that can be read; one that is refused is left out, or `refused`."""
        values = {}
        for reg_id in reg_ids:
            try:
                values[reg_id] = self.vcpu.get_one_reg(reg_id)
            except KvmError:
                if refused is not None:
                    values[reg_id] = refused
        return values

    def write(self, values: Saved) -> None:
        for reg_id, value in values.items():
            try:
                self.vcpu.set_one_reg(reg_id, value)
            except KvmError:
                continue

    def restore_as_saved(self, saved: Saved) -> None:
        """SVE_VLS between INIT and FINALIZE, the rest in the order in which it was read."""
        self.create()
        self.write({reg_id: value for reg_id, value in saved.items() if reg_id == regid.SVE_VLS})
        self.finalize()
        self.write({reg_id: value for reg_id, value in saved.items() if reg_id != regid.SVE_VLS})

    def list_registers(self, room: int) -> list[int]:
        """KVM_GET_REG_LIST, once more with enough room where the first has too little."""
        try:
            ids: list[int] = self.vcpu.get_reg_list(room)
        except KvmError as error:
            ids = self.vcpu.get_reg_list(error.n)
        return ids


class Qemu(Vmm):
    """Vectors by number, everything else by a list that is read once, before the guest runs."""

    def start(self) -> None:
        self.create()
        self.write({regid.SVE_VLS: regid.pack_vls({1, SVE_VQ})})
        self.finalize()
        self.listed = self.list_registers(0)
        self.create()

    def save(self) -> Saved:
        return self.read([*CORE_WITHOUT_V, *VECTORS, regid.FPSR, regid.FPCR, *self._by_list()])

    def restore(self, saved: Saved) -> None:
        self.start()
        self.write(saved)

    def _by_list(self) -> list[int]:
        """U32 and U64; QEMU aborts at another size (SME_VLS), here it goes on without."""
        not_by_list = (regid.CORE, regid.SVE, regid.SME)
        return [reg_id for reg_id in self.listed if regid.coproc(reg_id) not in not_by_list]


class Firecracker(Vmm):
    """Everything that the list names, in its order."""

    def save(self) -> Saved:
        return self.read(self.list_registers(FIRECRACKER_ROOM))

    def restore(self, saved: Saved) -> None:
        self.restore_as_saved(saved)


class CloudHypervisor(Vmm):
    """Core registers by number, then the list in two parts: SVE and system registers."""

    def save(self) -> Saved:
        """cloud-hypervisor stops at a listed register of SME; here SME goes with SVE, as the nearest thing."""
        listed = self.list_registers(FIRECRACKER_ROOM)
        has_sve = any(regid.coproc(reg_id) == regid.SVE for reg_id in listed)
        core = [*CORE_WITHOUT_V, *([] if has_sve else VREGS), regid.FPSR, regid.FPCR]
        extended = [reg_id for reg_id in listed if regid.coproc(reg_id) in (regid.SVE, regid.SME)]
        return self.read([*core, *extended, *(reg_id for reg_id in listed if is_system(reg_id))])

    def restore(self, saved: Saved) -> None:
        self.restore_as_saved(saved)


class Crosvm(Vmm):
    """V through core, also where there is SVE; no FPSR, no FPCR."""

    def save(self) -> Saved:
        """A V register that is refused stays zero in crosvm's structure."""
        general = self.read(X_SP_PC_PSTATE)
        vectors = self.read(VREGS, refused=bytes(layout.VREG_BYTES))
        listed = self.list_registers(FIRECRACKER_ROOM)
        return general | vectors | self.read(reg_id for reg_id in listed if regid.coproc(reg_id) == regid.SYSREG)

    def restore(self, saved: Saved) -> None:
        """SP, PC and PSTATE, X, V, system registers."""
        self.start()
        last_three = X_SP_PC_PSTATE[31:]
        order = [*last_three, *(reg_id for reg_id in saved if reg_id not in last_three)]
        self.write({reg_id: saved[reg_id] for reg_id in order})


def is_system(reg_id: int) -> bool:
    """Listed, of 32 or 64 bits, and not one of the core's."""
    return regid.size_bytes(reg_id) <= 8 and regid.coproc(reg_id) != regid.CORE


VMMS: dict[str, Callable[[Any], Any]] = {
    "qemu": Qemu,
    "firecracker": Firecracker,
    "cloud-hypervisor": CloudHypervisor,
    "crosvm": Crosvm,
}


def write_recording(directory: Path, name: str, revision: Abi) -> Path:
    """The recording of one VMM's save and restore is in the directory."""
    path = directory / f"vmm-{name}-{revision.name}.jsonl.xz"
    model = host_of(revision)
    source = "made on the model by tests/lint/vmm_recordings.py"
    with kvmsve.record(path, model, source) as host:
        saver = VMMS[name](host.create_vm().create_vcpu(0))
        saver.start()
        run_guest(saver.vcpu, model.fpmr)
        host.note(f"{name} saves")
        saved = saver.save()
        host.note(f"{name} restores")
        VMMS[name](host.create_vm().create_vcpu(0)).restore(saved)
    return path


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name in VMMS:
        for revision in REVISIONS:
            print(write_recording(directory, name, revision))


if __name__ == "__main__":
    main()
