"""The order in which the operations of a recording are written, whatever threads do them and however long they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from msgspec.structs import replace

from ..errors import HostOops, KvmError
from ..machine import Mutex, serialised
from ..ops import Call, Operation, Step
from ..ops import operations as ops
from .file import Writer

Asked = TypeVar("Asked", bound=Call)
Result = TypeVar("Result")


def as_asked(op: Asked, _: object) -> Asked:
    """The operation as it is: its outcome says nothing more of it."""
    return op


class OperationLog:
    """Operations, which are done one at a time and written in that order.

    A run is written where it began, once its guest has left; what is done meanwhile on other vCPUs comes after it. A
    file that cannot be written fails the recording, at its end, and no call.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: list[Operation] = []
        self._open_runs: set[int] = set()  # of these vCPUs
        self._failure: OSError | None = None
        self._mutex = Mutex()

    @serialised
    def attempt(
        self,
        op: Asked,
        call: Callable[[], Result],
        succeeded: Callable[[Asked, Result], Call] = as_asked,
        refused: Callable[[Asked, KvmError], Call] = as_asked,
    ) -> Result:
        """What the call returns or raises, and the operation is written with its outcome.

        `succeeded` and `refused` give the operation what it says of its result besides `ret` and `errno`.
        """
        with self._refusal_of(op, refused):
            result = call()
        self._close_run(op)
        self.write(replace(succeeded(op, result), ret=0))
        return result

    @serialised
    def begin_run(self, op: ops.Run, call: Callable[[], Result], steps: list[Step]) -> Result:
        """What the call returns or raises; the run is written when its guest has left, with the steps of then."""
        with self._refusal_of(op, as_asked):
            run = call()
        self._waiting.append(replace(op, ret=0, guest=steps))
        self._open_runs.add(op.vcpu)
        return run

    @serialised
    def end_run(self, vcpu: int) -> None:
        """The guest has left; after the last one all that waited is written."""
        self._open_runs.discard(vcpu)
        self._flush()

    @contextmanager
    def _refusal_of(self, op: Asked, refused: Callable[[Asked, KvmError], Call]) -> Iterator[None]:
        """The operation is written with its outcome if the block ends in a refusal, or a crash of the host."""
        try:
            yield
        except KvmError as error:
            self._close_run(op)
            self.write(replace(refused(op, error), ret=-1, errno=error.symbol))
            raise
        except HostOops:
            self._close_run(op)
            self.write(replace(op, ret=-1, crash=True))
            raise

    @serialised
    def write(self, op: Operation) -> None:
        """One more operation is written, behind the runs that are open."""
        self._waiting.append(op)
        self._flush()

    @serialised
    def finish(self) -> None:
        """All is written. OSError where the file could not be."""
        self._open_runs.clear()
        self._flush()
        if self._failure is not None:
            raise self._failure

    def _close_run(self, op: Call) -> None:
        """A run of the same vCPU has ended without a guest: one that is at work would have been in the way."""
        if isinstance(op, ops.VcpuCall):
            self._open_runs.discard(op.vcpu)

    def _flush(self) -> None:
        if self._open_runs:
            return
        waiting, self._waiting = self._waiting, []
        try:
            for op in waiting if self._failure is None else ():
                self._writer.write(op)
        except OSError as failure:
            self._failure = failure
