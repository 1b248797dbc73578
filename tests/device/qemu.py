"""An unmodified QEMU, spoken to by QMP: started, asked, migrated, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

LIMIT_SECONDS = 120  # nothing takes so long: what does is ended, and its test fails
POLL_SECONDS = 0.02
WAITS = ("-S", "-incoming", "defer")  # QEMU's arguments


def arguments(*more: str, cpu: str = "host", machine: str = "none") -> list[str]:
    """QEMU's arguments for a vCPU with no more around it than the machine, controlled from standard input."""
    shown = ["-display", "none", "-nodefaults", "-qmp", "stdio"]
    return ["-accel", "kvm", "-M", machine, "-cpu", cpu, *shown, *more]


def kvmsve_run(program: Path, *options: object) -> list[str]:
    """The start of a command line; the program's arguments follow."""
    return [sys.executable, "-m", "kvmsve", "run", *map(str, options), "--", str(program)]


class Qemu:
    """`with Qemu(command) as qemu:` has started it in a process group of its own, which ends with the block."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._limit = threading.Timer(LIMIT_SECONDS, self.kill)
        self._limit.daemon = True
        self._limit.start()

    def __enter__(self) -> Qemu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.cancel()
        self.kill()
        self.process.communicate()

    def greet(self) -> None:
        """QEMU takes commands. EOFError, with what it said, where it has ended instead; so with each command."""
        self._hear()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """What a command returns; AssertionError where it is refused."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = {}
        while "return" not in answer:
            answer = self._hear()
            assert "error" not in answer, answer["error"]
        return answer["return"]

    def quit(self) -> None:
        """QEMU has ended well."""
        self.ask("quit")
        assert self.end() == (0, "")

    def end(self) -> tuple[int, str]:
        """Exit code and standard error of a QEMU that ends by itself."""
        _, said = self.process.communicate()
        return self.process.returncode, said

    def kill(self) -> None:
        """Nothing of it runs any more."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """What was started here and still runs; not what has ended and waits for somebody to ask how."""
        stats = [path.read_text().rpartition(") ")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
        return [int(group) for state, _, group, *_ in stats if int(group) == self.process.pid and state != "Z"]

    def child(self) -> int:
        """The process that the started one has started."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self.end())
        heard: dict[str, Any] = json.loads(line)
        return heard


def save(source: Qemu, stream: Path) -> None:
    """The vCPU stands still, and its state is in the file."""
    source.ask("migrate", uri=f"exec:cat > {stream}")
    _await_migration(source)


def restore(destination: Qemu, stream: Path) -> None:
    """The vCPU of a QEMU that waits for it (WAITS) has the state in the file."""
    destination.ask("migrate-incoming", uri=f"exec:cat {stream}")
    _await_migration(destination)


def _await_migration(qemu: Qemu) -> None:
    while (said := qemu.ask("query-migrate")).get("status") not in ("completed", "failed"):
        time.sleep(POLL_SECONDS)
    assert said["status"] == "completed", said


def await_file(path: Path, qemu: Qemu) -> None:
    """The file is there, or QEMU has ended."""
    while not path.exists() and qemu.process.poll() is None:
        time.sleep(POLL_SECONDS)
    assert path.exists()
