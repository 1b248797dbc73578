"""What fuzzers found (`python -m fuzz`), each cut down to what it needs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import recorded
from command_line import Capture, complaint, run

# Files


def file_with(folder: Path, line: int, fields: dict[str, Any]) -> Path:
    """The small recording with these fields in a line, or in its header's host."""
    lines = copy.deepcopy(recorded.SMALL)
    (lines[line - 1] if line > 1 else lines[0]["host"]).update(fields)
    return recorded.write(folder / "file", lines)


COMMANDS = [["replay"], ["show"], ["lint"], ["diff", "rfc-v2", "v12", "--recording"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("line", "fields", "said"),
    [
        (6, {"index": (1 << 32) - 1}, '"index" is 4294967295, not a signed number of 32 bits'),
        (11, {"feature": 1 << 31}, '"feature" is 2147483648, not a signed number of 32 bits'),
        (1, {"sme_feature": 1 << 40}, '"sme_feature" is 1099511627776, not a feature bit'),
        (1, {"sme_feature": 32}, '"sme_feature" is 32, not a feature bit'),
        (14, {"copied": (1 << 64) - 1}, '"copied" is 18446744073709551615, but "avail" is 4'),
        (15, {"copied": 5}, '"copied" is 5, but "avail" is 4'),
    ],
)
def test_number_that_nothing_can_be_done_with(
    tmp_path: Path, capsys: Capture, command: list[str], line: int, fields: dict[str, Any], said: str
) -> None:
    path = file_with(tmp_path, line, fields)
    assert complaint(capsys, *command, path) == f"kvmsve: {path}, line {line}: {said}\n"


def test_sme_vls_whose_id_is_zero(tmp_path: Path, capsys: Capture) -> None:
    """Operations without an ID are not taken for one of register 0."""
    path = file_with(tmp_path, 1, {"sme_vls": "0" * 16})
    code, out, err = run(capsys, "diff", "rfc-v2", "v12", "--recording", path)
    assert (code, err) == (1, "")
    assert "operations differ" in out
