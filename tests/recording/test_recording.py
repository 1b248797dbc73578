"""Reading of recordings: what is right is read as it stands, all else is one RecordingError with file and line."""

from __future__ import annotations

import copy
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recorded
from places import RECORDINGS
from recorded import SMALL, Op

from kvmsve import MAINLINE_7_3
from kvmsve.recording.file import Recording, RecordingError
from kvmsve.recording.replay import Replay

TEXT = "".join(json.dumps(line) + "\n" for line in SMALL).encode()
OPTIONAL = {"tail", "mask", "copied", "host_dependent", "immediate_exit", "source", "reg_list_base", "esr", "vl"}


def read(path: Path) -> list[tuple[int, Op]]:
    return [(line, recorded.fields(op)) for line, op in Recording(path)]


def replay(path: Path) -> None:
    recording = Recording(path)
    model = Replay(recording)
    for line, op in recording:
        model.play(line, op)


def complaint(path: Path) -> str:
    """What is said of a file that cannot be used, behind its name."""
    with pytest.raises(RecordingError) as caught:
        read(path)
    prefix, reason = str(caught.value)[: len(str(path))], str(caught.value)[len(str(path)) :]
    assert prefix == str(path)
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize("name", ["file.jsonl", "file.xz"])
@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_plain_and_xz_are_told_apart_by_content(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(pack(TEXT))
    assert read(path) == list(enumerate(SMALL, 1))[1:]
    assert Recording(str(path)).header.source == "made by hand"
    replay(path)


def test_header_says_what_host_it_was(tmp_path: Path) -> None:
    header = Recording(recorded.write(tmp_path / "file", SMALL)).header
    host = header.create_host()
    assert header.abi.name == host.abi.name == "rfc-v2"
    assert (host.sve_vqs, host.sme_vqs, host.sme2, host.fa64) == ({1}, {1, 2}, True, True)
    assert header.unlisted == 0


def test_a_kernel_without_sme_does_not_offer_its_feature() -> None:
    host = recorded.lines("v12-s2m4")[0]["host"]
    assert host["sme_feature"] in host["features_offered"]
    under_mainline = Recording(RECORDINGS / "v12-s2m4.jsonl.xz").header.under(MAINLINE_7_3)
    others = [bit for bit in host["features_offered"] if bit != host["sme_feature"]]
    assert under_mainline.create_host().features_offered == {*others}


# Damage to the file


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ": the file is empty"),
        (b"\n", ", line 1: not JSON"),
        (b"\x7fELF\x02\x01\x01\n", ", line 1: not JSON"),
        (b"[1, 2]\n", ", line 1: not a JSON object"),
        (b"{}\n", ", line 1: no recording"),
        (TEXT[:-1], ", line 20: .*(mid-line|within the line)"),
        (TEXT + b"\n", ", line 21: not JSON"),
        (TEXT + b"\xff\xfe\n", ", line 21: not UTF-8"),
        (TEXT.replace(b"once or twice", b"once or tw\xffce"), ", line 3: not UTF-8"),
        (b"\xef\xbb\xbf" + TEXT, ", line 1: a byte order mark"),
        (TEXT.decode().encode("utf-16"), ", line 1: not UTF-8"),
        (TEXT.split(b"\n")[0].decode().encode("utf-32-le") + b"\n", ", line 1: not JSON"),
        (TEXT.replace(b"\n", b"\r"), ": the file ends within the line"),
        (TEXT.replace(b'"abi"', b'"version": 1, "abi"'), ', line 1: "version" is there twice'),
        (TEXT.replace(b'"index"', b'"vcpu": 1, "index": "a", "index"'), ', line 6: "vcpu" is there twice'),
        (TEXT.replace(b'"n_in": 5', b'"n_in": 5' + b"0" * 5000), ", line 7: a number has more digits than any"),
        (TEXT.replace(b'"n_in": 5', b'"n_in": 1e999'), ', line 7: "n_in" is Infinity, not a number of 0 or more'),
        (TEXT.replace(b'"n_in": 5', b'"n_in": NaN'), ', line 7: "n_in" is NaN'),
        (TEXT + b'{"a":' * 100_000 + b"\n", ", line 21: not JSON"),
        (lzma.compress(TEXT) * 2, ", line 21: there is more behind the xz data"),
        (lzma.compress(TEXT) + bytes(4), ", line 21: there is more behind the xz data"),
        (lzma.compress(TEXT, format=lzma.FORMAT_ALONE), ", line 1: not UTF-8"),
        (TEXT.replace(b"EPERM", b"EPERM\0"), ", line 10: not JSON"),
        (TEXT + b"[" * 100_000 + b"\n", ", line 21: not JSON"),
        (TEXT + b"1" * 10_000 + b"\n", ", line 21: a number has more digits"),
        (lzma.compress(TEXT)[:-1], ", line [0-9]+: .*xz data"),
        (lzma.compress(TEXT)[:7], ": .*xz data"),
        (lzma.compress(TEXT[:-1]), ", line 20: .*(mid-line|within the line)"),
        (lzma.compress(b""), ": the file is empty"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RecordingError, match=f"^{tmp_path / 'file'}{reason}"):
        read(tmp_path / "file")


def test_file_that_is_not_there_and_directory(tmp_path: Path) -> None:
    assert complaint(tmp_path / "nothing") == ": No such file or directory"
    assert complaint(tmp_path) == ": Is a directory"


@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_line_without_end_is_not_held_in_memory(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmsve.recording.lines.LINE_BYTES_MAX", 100_000)
    (tmp_path / "file").write_bytes(pack(TEXT + b"[" * 300_000 + b"\n"))
    assert "line 21: the line is" in complaint(tmp_path / "file")


def test_cut_file_ends_early_or_is_refused(tmp_path: Path) -> None:
    """A plain file that is cut behind a line is a shorter recording; nothing else is read without complaint."""
    ends = {at + 1 for at, byte in enumerate(TEXT) if byte == ord("\n")}
    for pack, whole in ((bytes, ends), (lzma.compress, set())):
        packed = pack(TEXT)
        for at in {*range(0, len(packed) - 1, 37), *ends} & set(range(len(packed))):
            (tmp_path / "file").write_bytes(packed[:at])
            got = []
            try:
                got += read(tmp_path / "file")
            except RecordingError:
                assert at not in whole
            else:
                assert at in whole
                assert got == list(enumerate(SMALL, 1))[1 : 1 + len(got)]
                assert len(got) == TEXT[:at].count(b"\n") - 1


def test_flipped_bit_of_an_xz_file_is_noticed(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress(TEXT))
    for at in range(6, len(packed), 5):
        packed[at] ^= 1 << at % 8
        (tmp_path / "file").write_bytes(packed)
        assert complaint(tmp_path / "file")
        packed[at] ^= 1 << at % 8


# Lines that say something wrong


def changed(path: Path, line: int, change: Callable[[Op], Any]) -> Path:
    lines = copy.deepcopy(SMALL)
    change(lines[line - 1])
    return recorded.write(path, lines)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"format": "kvmsve-host-recording"}, 'no recording: "format" is not "kvmsve-recording"'),
        ({"version": 2}, "version 2; this program reads 1"),
        ({"version": True}, "version true; this program reads 1"),
        ({"version": "1" * 1000}, 'version "11111111111111111111111111111111111 ...; this program reads 1'),
        ({"abi": "x" * 1000}, "no revision is called 'xxx"),
        ({"abi": "rfc-v2-r2"}, "no revision is called 'rfc-v2-r2'; did you mean rfc-v2"),
        ({"abi": 7}, '"abi" is 7, not a string'),
        ({"host": []}, '"host" is [], not an object'),
    ],
)
def test_wrong_header_is_named(tmp_path: Path, fields: Op, reason: str) -> None:
    got = complaint(changed(tmp_path / "file", 1, lambda header: header.update(fields)))
    assert got.startswith(f", line 1: {reason}")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sve_vqs": [2, 4]}, "a CPU with SVE has the length vq 1"),
        ({"sme_vqs": [3]}, "no CPU has the SME length vq 3"),
        ({"sve_vqs": [0]}, '"sve_vqs" is [0], not a list of vector lengths in quadwords'),
        ({"sve_vqs": [17]}, '"sve_vqs" is [17]'),
        ({"fa64": 1}, '"fa64" is 1, not true or false'),
        ({"reg_list_base": "184"}, '"reg_list_base" is "184"'),
        ({"features_offered": [32]}, '"features_offered" is [32]'),
        ({"sme_feature": 32}, '"sme_feature" is 32, not a feature bit, 0 to 31'),
        ({"sme_feature": "\ud800"}, '"sme_feature" is "\\ud800", not a feature bit'),
        ({"sve_vqs": [{"\ud800": 1}]}, '"sve_vqs" is [{"\\ud800": 1}], not a list of vector lengths'),
        ({"sme_feature": 1 << 63}, '"sme_feature" is 9223372036854775808, not a feature bit'),
        ({"id_regs": {"603000000013c020": "11"}}, '"id_regs" is '),
        ({"id_regs": {"c020": "1100000000000000"}}, '"id_regs" is '),
    ],
)
def test_impossible_host_is_named(tmp_path: Path, fields: Op, reason: str) -> None:
    got = complaint(changed(tmp_path / "file", 1, lambda header: header["host"].update(fields)))
    assert got.startswith(f", line 1: {reason}")


def needed_fields() -> list[tuple[int, Callable[[Op], Op], str]]:
    """Every field that a line must have: the line, the object in it, and the name."""
    found = [(1, lambda op: op["host"], name) for name in SMALL[0]["host"]]
    for line, op in enumerate(SMALL[1:], 2):
        found += [(line, lambda op: op, name) for name in op]
        for at, step in enumerate(op.get("guest", ())):
            found += [(line, lambda op, at=at: op["guest"][at], name) for name in step]
    return [(line, where, name) for line, where, name in found if name not in OPTIONAL]


@pytest.mark.parametrize("instead", [..., None, 1.5, [None], {"a": 1}])
def test_missing_or_wrong_field_is_named(tmp_path: Path, instead: Any) -> None:
    fields = needed_fields()
    assert len(fields) > 100
    for line, where, name in fields:
        if (name, instead) == ("id_regs", {"a": 1}):
            continue

        def damage(op: Op, where: Callable[[Op], Op] = where, name: str = name) -> None:
            where(op)[name] = instead
            if instead is ...:
                del where(op)[name]

        got = complaint(changed(tmp_path / "file", line, damage))
        assert got.startswith(f", line {line}: ")
        assert f'"{name}"' in got or "unknown operation" in got or "unknown guest step" in got


@pytest.mark.parametrize(
    ("line", "fields", "reason"),
    [
        (4, {"op": "destroy_vm"}, "unknown operation 'destroy_vm'"),
        (4, {"ret": -1}, '"create_vm" failed without saying how: no "errno"'),
        (10, {"ret": 0}, '"get" succeeded, but has no "data"'),
        (16, {"ret": 0}, '"reg_list" succeeded, but has no "core"'),
        (10, {"errno": "EOOPS"}, '"errno" is "EOOPS", not the name of an error'),
        (18, {"guest": [{"hvc": 1}]}, 'unknown guest step {"hvc": 1}'),
        (18, {"guest": [{}]}, "unknown guest step"),
        (18, {"guest": [{"rdvl": 16}, {"msr": "zcr", "value": "0x1"}]}, '"value" is "0x1", not a hexadecimal number'),
        (18, {"guest": [{"rdvl": 16}, {"smstart": "both"}]}, '"smstart" is "both", not "sm" or "za"'),
        (18, {"guest": [{"read": "z0", "vl": "16", "data": ""}]}, '"vl" is "16", not a number of 0 or more'),
        (9, {"data": "0" * 127}, '"data" is "0000'),
        (9, {"mask": "no"}, '"mask" is "no", not bytes in hexadecimal'),
    ],
)
def test_line_that_says_something_impossible(tmp_path: Path, line: int, fields: Op, reason: str) -> None:
    got = complaint(changed(tmp_path / "file", line, lambda op: op.update(fields)))
    assert got.startswith(f", line {line}: {reason}")
