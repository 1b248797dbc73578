"""Line 1 of a recording: the host that was recorded, and the kernel's revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..facts import V10, V10_RECORDED, Abi, abi
from ..machine import Host
from ..ops import Bit, Bits, Count, Flag, IdRegs, Lengths, RegId
from ..rules import Gate, VectorLengths, idregs, open_gates, reglist
from .codec import BadLine, complaint_of_fields, parse_object, read_fields, shorten, write_fields, write_object

FORMAT = "kvmsve-recording"
VERSION = 1


class RecordedHost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of `host` (FORMAT.md); those that older recordings lack can be missing."""

    sve_vqs: Lengths
    sme_vqs: Lengths
    sme2: Flag
    fa64: Flag
    features_valid: Bits | None = None
    features_offered: Bits | None = None
    fpmr: Flag | None = None
    big_endian: Flag = False
    sme_feature: Bit | None = None
    sme_cap: Count | None = None
    sme_vls: RegId | None = None
    reg_list_base: Count | None = None
    id_regs: IdRegs


@dataclass(frozen=True)
class Header:
    """What line 1 says of the host that was recorded."""

    abi: Abi
    host: RecordedHost
    source: str

    def create_host(self) -> Host:
        """A host like the recorded one; ValueError if it cannot be."""
        host = self.host
        return Host(
            abi=self.abi,
            sve_vqs=host.sve_vqs,
            sme_vqs=host.sme_vqs,
            sme2=host.sme2,
            fa64=host.fa64,
            fpmr=bool(host.fpmr),
            big_endian=host.big_endian,
            features_offered=host.features_offered,
            id_regs=host.id_regs,
        )

    def under(self, revision: Abi) -> Header:
        """The same host with a kernel of this revision; SME keeps the numbers that it has in the recording."""
        recorded = self.abi
        if revision.name == recorded.name:
            return self
        if revision.sme_feature is not None and recorded.sme_feature is not None:
            revision = revision._replace(
                sme_feature=recorded.sme_feature,
                sme_cap=recorded.sme_cap,
                sme_vls=recorded.sme_vls,
                max_features=revision.max_features + recorded.sme_feature - revision.sme_feature,
            )
        host = msgspec.structs.replace(self.host, features_offered=self._features_offered(revision))
        return replace(self, abi=revision, host=host)

    def _features_offered(self, revision: Abi) -> list[int] | None:
        """The recorded feature bits, and SME's by the rule of the revision."""
        if self.host.features_offered is None:
            return None
        offered = {*self.host.features_offered} - {self.abi.sme_feature, revision.sme_feature}
        if revision.sme_feature is not None and (self.host.sme_vqs or not revision.init_checks_host_sme):
            offered.add(revision.sme_feature)
        return sorted(offered)

    @property
    def unlisted(self) -> int:
        """How many more registers without vector meaning the recorded kernel lists than this model."""
        ours = _reg_list_base(self.create_host())
        return 0 if self.host.reg_list_base is None else self.host.reg_list_base - ours


def parse_header(line: bytes) -> Header:
    """The header that a line says. BadLine where it is none, or its host cannot be."""
    fields = parse_object(line)
    if fields.get("format") != FORMAT:
        raise BadLine(f'no recording: "format" is not "{FORMAT}"')
    version = fields.get("version")
    if type(version) is not int or version != VERSION:
        raise BadLine(f"version {shorten(version)}; this program reads {VERSION}")
    for name, kind, told in (("abi", str, "a string"), ("host", dict, "an object")):
        if name not in fields:
            raise BadLine(f'"{name}" is missing')
        if not isinstance(fields[name], kind):
            raise BadLine(f'"{name}" is {shorten(fields[name])}, not {told}')
    complaint = complaint_of_fields(RecordedHost, fields["host"])
    if complaint:
        raise BadLine(complaint)
    host = read_fields(RecordedHost, fields["host"])
    try:
        revision = _recorded(abi(fields["abi"]), host.sme_cap)._replace(**_numbers(host))
        header = Header(revision, host, str(fields.get("source", "")))
        header.create_host()
    except ValueError as error:
        raise BadLine(str(error)) from None
    return header


def header_line(host: Host, source: str) -> bytes:
    """The first line of a recording of this host."""
    described = write_fields(describe_host(host))
    return write_object(
        {"format": FORMAT, "version": VERSION, "abi": host.abi.name, "host": described, "source": source}
    )


def describe_host(host: Host) -> RecordedHost:
    """What a header says of a host."""
    return RecordedHost(
        sve_vqs=sorted(host.sve_vqs),
        sme_vqs=sorted(host.sme_vqs),
        sme2=host.sme2,
        fa64=host.fa64,
        features_valid=list(range(host.abi.max_features)),
        features_offered=sorted(host.features_offered),
        fpmr=host.fpmr,
        big_endian=host.big_endian,
        sme_feature=host.abi.sme_feature,
        sme_cap=host.abi.sme_cap,
        sme_vls=host.abi.sme_vls,
        reg_list_base=_reg_list_base(host),
        id_regs=host.id_regs,
    )


def _recorded(revision: Abi, sme_cap: int | None) -> Abi:
    """The revision of a kernel with this number of KVM_CAP_ARM_SME: the recorded v10 had the ID registers of v9."""
    return V10_RECORDED if revision is V10 and sme_cap == V10_RECORDED.sme_cap else revision


def _numbers(host: RecordedHost) -> Mapping[str, Any]:
    """The numbers of a revision that its series changed at every rebase, as this kernel has them."""
    named = {name: getattr(host, name) for name in ("sme_feature", "sme_cap", "sme_vls")}
    numbers = {name: number for name, number in named.items() if number is not None}
    return numbers | ({"max_features": max(host.features_valid) + 1} if host.features_valid else {})


def _reg_list_base(host: Host) -> int:
    """How many registers the model lists of a vCPU without features, beside core registers and SMIDR_EL1."""
    none = VectorLengths(0, 0)
    mmfr3 = host.id_regs.get(idregs.MMFR3, 0)
    gates = open_gates(host.abi, none, has_fpmr=host.cpu.fpmr, mmfr3=mmfr3) - {Gate.SMIDR}
    return len(reglist.other_regs(host.abi, gates))
