"""Replay: a recording's operations done again on the model, and the first difference found.

Return values, errnos and bytes are compared exactly, but for what a recording itself says is not ABI (`mask`, `tail`,
`copied`, `narrow`; tests/recordings/FORMAT.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from ..errors import HostOops, KvmError
from ..ops import Call, Difference, Machine, Misuse, Operation, compare_number
from ..ops import operations as ops
from ..rules import reglist
from .file import Recording, RecordingError


@contextmanager
def misuse_at(path: Path, line: int) -> Iterator[None]:
    """A Misuse in the block is a RecordingError at this line."""
    try:
        yield
    except Misuse as misuse:
        raise RecordingError(path, line, str(misuse)) from None


class Replay(Machine):
    """A model of the recorded host, and the recording's operations to be done on it in order.

    Registers that say nothing of vectors are compared where that is asked for; `beside` counts the operations on them
    that ended otherwise. What they hold is the host's, and the model knows it of some hosts only.
    """

    def __init__(self, recording: Recording, *, all_registers: bool = True) -> None:
        super().__init__(recording.header.create_host(), recording.header.unlisted)
        self._all_registers = all_registers
        self.beside = 0

    def play(self, line: int, op: Operation) -> None:
        """The operation is done. Difference if its outcome is not the recorded one, Misuse if it cannot be done."""
        if isinstance(op, ops.Get) and self._ends_as_recorded(op):
            return
        try:
            for observation in self.perform(op):
                observation.check()
            if isinstance(op, Call) and op.ret and not op.has_failed and not isinstance(op, ops.CheckExtension):
                compare_number("ret", op.ret, 0)
        except Difference as difference:
            if not self._all_registers and isinstance(op, ops.RegisterCall) and reglist.is_beside_vectors(op.reg_id):
                self.beside += 1
                return
            difference.line, difference.op = line, op
            raise

    def _ends_as_recorded(self, op: ops.Get) -> bool:
        """The short way for what a recording has most of; a GET that ends otherwise can be done again."""
        vcpu = self.vcpus.get(op.vcpu)
        if vcpu is None or (self.gets_write and self.may_write(op)):
            return False
        try:
            return vcpu.get_one_reg(op.reg_id) == op.data and op.ret == 0
        except KvmError as error:
            return error.symbol == op.errno
        except HostOops:
            return False


def played(recording: Recording, replayed: Replay, last_line: int | None = None) -> Iterator[tuple[int, Operation]]:
    """Each operation up to `last_line`, after it was done. Difference where one was not as recorded."""
    for line, op in recording:
        if last_line is not None and line > last_line:
            return
        with misuse_at(recording.path, line):
            replayed.play(line, op)
        yield line, op


def shipped_recordings() -> Iterator[Path]:
    """The recordings of real kernels that come with the package, in the order of their names."""
    shipped = resources.files(__package__).joinpath("shipped")
    for entry in sorted(shipped.iterdir(), key=lambda entry: entry.name):
        with resources.as_file(entry) as path:
            yield path
