"""kvmsve convert: raw sve_state images at another vector length."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..batch import rewrite
from ..facts import layout
from ..files import whole_file
from .common import UsageError, blaming
from .terminal import with_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONVERTED_AT_ONCE = 1024


def run(options: argparse.Namespace) -> int:
    """The states of one file are in another, at another vector length."""
    state_bytes = layout.sve_state_bytes(options.from_vq)
    try:
        with blaming(options.file), options.file.open("rb") as source:
            chunks = _chunks(options.file, source, state_bytes)
            with blaming(options.out), whole_file(options.out) as partial, partial.open("wb") as out:
                size = options.file.stat().st_size
                for states in with_progress(chunks, options.file.name, lambda: source.tell() / size if size else 0.0):
                    out.write(rewrite(states, options.to_vq, options.from_vq).tobytes())
    except ValueError:
        raise UsageError(
            f"{options.file}: not a number of whole states of vq {options.from_vq}, {state_bytes} bytes each"
        ) from None
    return 0


def _chunks(path: Path, source: IO[bytes], state_bytes: int) -> Iterator[NDArray[np.uint8]]:
    """The states of a file, some thousand at a time; ValueError where it has none or ends within one."""
    import numpy as np

    with blaming(path):
        yield np.frombuffer(source.read(state_bytes), np.uint8).reshape(1, state_bytes)
        while chunk := source.read(CONVERTED_AT_ONCE * state_bytes):
            yield np.frombuffer(chunk, np.uint8).reshape(-1, state_bytes)
