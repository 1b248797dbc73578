"""GET_ONE_REG of Z0 by a program under `kvmsve run`, beside a message to a server of Python and back.

A call cannot take less than that: the ratio is what the device adds. Two programs at once make at the most as many
times the calls of one as there are CPUs.
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from measure import overall

CALLS = 200  # of a round, of which the least counts
ROUNDS = 100
REPEATS = 3
SOURCE = Path(__file__).with_name("device_laps.c")
KVMSVE_RUN = [sys.executable, "-m", "kvmsve", "run", "--"]
EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
CROSS_COMPILER = "aarch64-linux-gnu-gcc"


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Path]:
    """The socket of a process that sends back what it receives, with a thread for each connection."""
    path = tmp_path / "echo"
    server = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    yield path
    server.kill()
    server.communicate()


def serve(path: str) -> None:
    def answer(connection: socket.socket) -> None:
        while message := connection.recv(64):
            connection.send(message)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while True:
            threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


def build(compiler: str, program: Path) -> str:
    subprocess.run([compiler, "-O2", SOURCE, "-o", program], check=True)
    return str(program)


def laps(command: Sequence[str]) -> list[tuple[float, float]]:
    """What each of the command's programs tells: the least microseconds of a call, and the mean."""
    out = subprocess.run(command, input="\n\n", capture_output=True, text=True, check=True).stdout
    return [(float(least), float(mean)) for least, mean in map(str.split, out.splitlines())]


def calls_and_messages(program: str, echo: Path, emulator: Sequence[str] = ()) -> list[dict[str, float]]:
    """Microseconds of each, in runs that take turns."""
    often = str(CALLS), str(ROUNDS)
    device = [*KVMSVE_RUN, program, "device", *often]
    message = [*emulator, program, "echo", *often, str(echo)]
    return [{"message": laps(message)[0][0], "GET Z0": laps(device)[0][0]} for _ in range(REPEATS)]


def gains_of_two(program: str) -> list[float]:
    """Calls of two programs at once over those of one, in runs that take turns."""
    one = f"{program} device {CALLS} {ROUNDS}"
    commands = [[*KVMSVE_RUN, "sh", "-c", script] for script in (one, f"echo | {one} & echo | {one}; wait")]
    turns = [[max(mean for _, mean in laps(command)) for command in commands] for _ in range(REPEATS)]
    return [2 * one / two for one, two in turns]


def test_device(report, benchmark, tmp_path, echo):
    here = build("cc", tmp_path / "laps")
    turns = {platform.machine(): calls_and_messages(here, echo)}
    if shutil.which(CROSS_COMPILER) and shutil.which(EMULATOR[0]) and platform.machine() != "aarch64":
        turns["aarch64, by QEMU"] = calls_and_messages(build(CROSS_COMPILER, tmp_path / "laps-aarch64"), echo, EMULATOR)
    report.figure("device", [us["GET Z0"] / us["message"] for us in turns[platform.machine()]])
    report.figure("programs", gains_of_two(here))
    report.table("us", ["message", "GET Z0"], {name: [*overall(us).values()] for name, us in turns.items()})
    benchmark.pedantic(laps, [[*KVMSVE_RUN, here, "device", "1", "1"]], rounds=1)


if __name__ == "__main__":
    serve(sys.argv[1])
