"""The order in which the operations of a recording are written, whatever threads do them and however long they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import HostOops, KvmError
from ..machine import Mutex, Run, serialised
from .file import Writer
from .schema import Op


class OperationLog:
    """Operations, which are done one at a time and written in that order.

    A run is written where it began, once its guest has left; what is done meanwhile on other vCPUs comes after it. A
    file that cannot be written fails the recording, at its end, and no call.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting: list[Op] = []
        self._open_runs: set[int] = set()  # of these vCPUs
        self._failure: OSError | None = None
        self._mutex = Mutex()

    @serialised
    def attempt(self, op: Op, call: Callable[[], Any]) -> Any:
        """What the call returns or raises, and the operation is written with its outcome."""
        with self._refusal_of(op):
            result = call()
        self._close_run(op)
        self.write({**op, "ret": 0})
        return result

    @serialised
    def begin_run(self, op: Op, call: Callable[[], Run]) -> Run:
        """What the call returns or raises; the run is written when its guest has left."""
        with self._refusal_of(op):
            run = call()
        op.update(ret=0, guest=[])
        self._waiting.append(op)
        self._open_runs.add(op["vcpu"])
        return run

    @serialised
    def end_run(self, vcpu: int) -> None:
        """The guest has left; after the last one all that waited is written."""
        self._open_runs.discard(vcpu)
        self._flush()

    @contextmanager
    def _refusal_of(self, op: Op) -> Iterator[None]:
        """The operation is written with its outcome if the block ends in a refusal, or a crash of the host."""
        try:
            yield
        except (KvmError, HostOops) as error:
            self._close_run(op)
            self.write(_refused(op, error))
            raise

    @serialised
    def write(self, op: Op) -> None:
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

    def _close_run(self, op: Op) -> None:
        """A run of the same vCPU has ended without a guest: one that is at work would have been in the way."""
        self._open_runs.discard(op.get("vcpu", -1))

    def _flush(self) -> None:
        if self._open_runs:
            return
        waiting, self._waiting = self._waiting, []
        try:
            for op in waiting if self._failure is None else ():
                self._writer.write(**op)
        except OSError as failure:
            self._failure = failure


def _refused(op: Op, error: KvmError | HostOops) -> Op:
    """The operation with its refusal, or the host's crash."""
    if isinstance(error, HostOops):
        return {**op, "ret": -1, "crash": True}
    counted = {"n_out": op["n_in"] if error.n is None else error.n} if op["op"] == "reg_list" else {}
    return {**op, **counted, "ret": -1, "errno": error.symbol}
