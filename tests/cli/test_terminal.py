"""What a terminal shows: progress with the time left, tables and colours; and where it must not."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from places import RECORDINGS

LONG = RECORDINGS / "v12-s2m4.jsonl.xz"
AT_ONCE = (
    "import sys; from kvmsve.cli import main, terminal; terminal.PATIENCE_SECONDS = 0; sys.exit(main(sys.argv[1:]))"
)
ESCAPE = "\x1b["
ERASE_LINE = "\x1b[2K"


def on_terminal(
    *arguments: object, columns: int = 100, stdout_too: bool = False, **environment: str
) -> tuple[str, str]:
    """What a command that does not wait a second shows on a terminal of so many columns, and in a pipe beside it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, columns))
    command = [sys.executable, "-c", AT_ONCE, *map(str, arguments)]
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, env={**known, "TERM": "xterm", **environment}, stdin=subprocess.DEVNULL, stderr=theirs,
        stdout=theirs if stdout_too else subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            part = b""
        if not part:
            break
        shown += part
    out = process.communicate()[0] or ""
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), out


def test_a_long_replay_shows_how_far_it_is_and_how_long_it_will_take() -> None:
    shown, out = on_terminal("replay", LONG)
    shares = [int(share) for share in re.findall(r"(\d+)%", shown)]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert LONG.name in shown
    assert re.search(r"[\d-]:[\d-]{2}:[\d-]{2}", shown)
    assert re.fullmatch(rf"ok       v12 +[0-9]+ operations  {LONG.name}\n", out)


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"columns": 40}], ids=str)
@pytest.mark.parametrize(
    "command", [("replay", LONG), ("diff", "v11", "v9"), ("lint", LONG), ("show", LONG)], ids=lambda command: command[0]
)
def test_where_a_terminal_is_to_be_plain_the_output_is_that_of_a_pipe(command: tuple[object, ...], plain: dict) -> None:  # type: ignore[type-arg]
    shown, _ = on_terminal(*command, stdout_too=True, **plain)
    piped = subprocess.run([sys.executable, "-m", "kvmsve", *map(str, command)], capture_output=True, text=True)
    assert ESCAPE not in shown
    assert shown == piped.stdout + piped.stderr


@pytest.mark.parametrize("command", [("diff", "v11", "v9"), ("show", LONG)], ids=lambda command: command[0])
def test_a_terminal_shows_the_same_words_in_colours(command: tuple[object, ...]) -> None:
    shown, _ = on_terminal(*command, columns=1000, stdout_too=True)
    piped = subprocess.run([sys.executable, "-m", "kvmsve", *map(str, command)], capture_output=True, text=True)
    assert ESCAPE in shown
    words = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).split()
    assert {*piped.stdout.replace(" | ", " ").split()} <= {*words}


def test_what_is_on_the_terminal_at_the_end_is_the_result_alone(tmp_path: Path) -> None:
    shown, _ = on_terminal("replay", LONG, stdout_too=True)
    assert shown.rstrip("\n").splitlines()[-1].endswith(f"operations  {LONG.name}")
    assert ERASE_LINE in shown[shown.rindex("%") :]
