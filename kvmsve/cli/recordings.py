"""The recording that a command reads, with its progress."""

from __future__ import annotations

from collections.abc import Iterator

from ..ops import Operation
from ..recording import Recording
from .terminal import with_progress


class Reading(Recording):
    """A recording that is read with its progress shown."""

    def __iter__(self) -> Iterator[tuple[int, Operation]]:
        return with_progress(super().__iter__(), self.path.name, lambda: self.share_read)
