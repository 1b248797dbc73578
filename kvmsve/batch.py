"""Many states at once: numpy arrays of sve_state rewritten from one vector length to another, on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

from ._ffi import ffi, lib
from .errors import check_number
from .facts import layout

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from numpy.typing import NDArray

_STREAMED_BYTES = 32 << 20  # read and written; less may still be in the CPU's cache when it is used again


def rewrite(
    states: NDArray[np.uint8],
    dst_vq: int,
    src_vq: int,
    out: NDArray[np.uint8] | None = None,
    threads: int = 1,
) -> NDArray[np.uint8]:
    """A uint8 array (..., 546 * dst_vq) with the states of a uint8 array (..., 546 * src_vq) at the other length.

    Each register is zero-extended or truncated. `out`, if given, is filled and returned; it must not overlap `states`.
    Beyond 32 MiB of `states` and `out` its bytes go past the CPU's cache, which is faster if it was used before.
    Rows may be strided, the bytes of one state must be adjacent. ValueError and TypeError name what was expected:
    lengths first, then type, shape, adjacency, overlap.
    """
    import numpy as np

    dst_vq = check_number("dst_vq", dst_vq, 1, layout.VQ_MAX + 1)
    src_vq = check_number("src_vq", src_vq, 1, layout.VQ_MAX + 1)
    threads = check_number("threads", threads, 1, 1 << 10)
    _expect_states(states, "states", (..., layout.sve_state_bytes(src_vq)))
    dst_shape = (*states.shape[:-1], layout.sve_state_bytes(dst_vq))
    rewrite_many = lib.kvmsve_rewrite_many
    if out is None:
        out = np.empty(dst_shape, np.uint8)
    else:
        _expect_states(out, "out", dst_shape)
        if not out.flags.writeable:
            raise ValueError("out must be writeable")
        if np.shares_memory(out, states):
            raise ValueError("out must not overlap states")
        if _states_overlap(out):
            raise ValueError("the states of out must not overlap one another")
        if states.size + out.size >= _STREAMED_BYTES:
            rewrite_many = lib.kvmsve_rewrite_streamed
    share = partial(_rewrite_share, rewrite_many, out, states, dst_vq, src_vq, threads)
    others = _waiting_threads(threads - 1).map(share, range(1, threads)) if threads > 1 else ()
    try:
        share(0)
    finally:
        for _ in others:
            continue
    return out


@lru_cache(maxsize=1)
def _waiting_threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for the next call; to start them anew costs as much as to rewrite a thousand states."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count)


os.register_at_fork(after_in_child=_waiting_threads.cache_clear)


def _expect_states(array: NDArray[np.uint8], what: str, shape: tuple[Any, ...]) -> None:
    """`array` is a uint8 array of that shape (a leading ... stands for any axes) with adjacent bytes in each state."""
    wanted = f"a uint8 array of shape ({', '.join('...' if n is ... else str(n) for n in shape)})"
    if not hasattr(array, "__array_interface__") or array.dtype != "uint8":
        raise TypeError(f"{what} must be {wanted}, not {getattr(array, 'dtype', type(array).__name__)}")
    fits = array.shape[-1:] == shape[-1:] if shape[0] is ... else array.shape == shape
    if not fits:
        raise ValueError(f"{what} must be {wanted}, not of shape {array.shape}")
    if array.strides[-1] != 1 and array.size:
        raise ValueError(f"the bytes of one state of {what} must be adjacent; pass numpy.ascontiguousarray({what})")


def _states_overlap(array: NDArray[np.uint8]) -> bool:
    """Whether two states share a byte."""
    import numpy as np

    if not array.size:
        return False
    axes = sorted((abs(stride), n) for stride, n in zip(array.strides[:-1], array.shape[:-1], strict=True) if n > 1)
    span = size = array.shape[-1]
    is_nested = True  # from the innermost axis outwards each step is over all that the last axis reaches
    for stride, count in axes:
        is_nested &= stride >= span
        span += stride * (count - 1)
    if is_nested or array.size > span:
        return not is_nested
    starts = np.zeros(1, np.int64)
    for stride, count in axes:
        starts = np.add.outer(starts, stride * np.arange(count)).ravel()
    return bool((np.diff(np.sort(starts)) < size).any())


def _rewrite_share(
    rewrite_many: Callable[..., None],
    dst: NDArray[np.uint8],
    src: NDArray[np.uint8],
    dst_vq: int,
    src_vq: int,
    threads: int,
    thread: int,
) -> None:
    """One thread's blocks of the rows; C runs without the GIL."""
    for to, source in islice(_row_blocks(dst, src, threads), thread, None, threads):
        rewrite_many(_pointer(to), to.strides[0], dst_vq, _pointer(source), source.strides[0], src_vq, len(to))


def _row_blocks(
    dst: NDArray[np.uint8], src: NDArray[np.uint8], blocks: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of two-dimensional views that together cover dst and src, at least `blocks` if there are so many rows."""
    if not dst.size:
        return
    try:
        dst_rows = dst.reshape(-1, dst.shape[-1], copy=False)
        src_rows = src.reshape(-1, src.shape[-1], copy=False)
    except ValueError:  # the leading axes do not lie at one stride
        for dst_part, src_part in zip(dst, src, strict=True):
            yield from _row_blocks(dst_part, src_part, blocks)
        return
    count = len(dst_rows)
    edges = [count * block // blocks for block in range(blocks + 1)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield dst_rows[start:stop], src_rows[start:stop]


def _pointer(rows: NDArray[np.uint8]) -> Any:
    return ffi.cast("uint8_t *", rows.__array_interface__["data"][0])
