"""kvmsve.rewrite: many states at once, in arrays of any shape and stride, and what it refuses."""

import re
from itertools import product
from math import prod

import model
import numpy as np
import pytest

from kvmsve import batch, rewrite

RNG = np.random.default_rng(3)


def states_of(vq: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (*shape, 546 * vq), np.uint8)


def expected(states: np.ndarray, dst_vq: int, src_vq: int) -> np.ndarray:
    """Each state by itself, by rewrite() of rfc-v2.md 4.2."""
    result = np.zeros((*states.shape[:-1], 546 * dst_vq), np.uint8)
    for index in np.ndindex(states.shape[:-1]):
        store = model.relayout(int.from_bytes(states[index].tobytes(), "little"), src_vq, dst_vq)
        result[index] = np.frombuffer(store.to_bytes(546 * dst_vq, "little"), np.uint8)
    return result


@pytest.mark.parametrize("dst_vq", range(1, 17))
def test_every_pair_of_lengths(dst_vq):
    for src_vq in range(1, 17):
        states = states_of(src_vq, 2)
        before = states.copy()
        result = rewrite(states, dst_vq, src_vq)
        assert result.dtype == np.uint8
        assert np.array_equal(result, expected(states, dst_vq, src_vq)), src_vq
        assert np.array_equal(states, before)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (0,), (3, 0), (0, 3)], ids=str)
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_leading_shape(shape, threads):
    for dst_vq, src_vq in ((4, 2), (2, 4)):
        states = states_of(src_vq, *shape)
        result = rewrite(states, dst_vq, src_vq, threads=threads)
        assert result.shape == (*shape, 546 * dst_vq)
        assert np.array_equal(result, expected(states, dst_vq, src_vq))


VIEWS = {
    "every second": lambda vq: states_of(vq, 12)[::2],
    "reversed": lambda vq: states_of(vq, 6)[::-1],
    "a column range": lambda vq: states_of(vq + 1, 6)[:, 7 : 7 + 546 * vq],
    "one row repeated": lambda vq: np.broadcast_to(states_of(vq), (6, 546 * vq)),
    "reversed columns and rows": lambda vq: states_of(vq, 4, 6)[::-1, ::-2],
    "transposed": lambda vq: states_of(vq, 2, 3, 4).transpose(2, 0, 1, 3),
    "part of a block": lambda vq: states_of(vq, 3, 4)[1:, :3],
    "read-only": lambda vq: np.frombuffer(states_of(vq, 2).tobytes(), np.uint8).reshape(2, -1),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("view", VIEWS)
def test_rows_may_be_strided(view, threads):
    for dst_vq, src_vq in ((4, 2), (1, 3)):
        states = VIEWS[view](src_vq)
        assert np.array_equal(rewrite(states, dst_vq, src_vq, threads=threads), expected(states, dst_vq, src_vq))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("view", [view for view in VIEWS if view not in ("read-only", "one row repeated")])
def test_out_may_be_strided(view, threads):
    out = VIEWS[view](4)
    out.base[...] = 0xEE
    states = states_of(2, *out.shape[:-1])
    assert rewrite(states, 4, 2, out=out, threads=threads) is out
    assert np.array_equal(out, expected(states, 4, 2))
    out[...] = 0xEE
    assert (out.base == 0xEE).all()  # nothing was written between the rows


def test_out_beside_the_states_of_one_array():
    both = states_of(6, 5)
    states, out = both[:, : 546 * 2], both[:, 546 * 2 :]
    wanted, before = expected(states, 4, 2), states.copy()
    rewrite(states, 4, 2, out=out)
    assert np.array_equal(out, wanted)
    assert np.array_equal(states, before)


@pytest.mark.parametrize("threads", range(1, 9))
def test_each_number_of_threads_covers_all_rows(threads):
    for count in range(1, 9):
        states = states_of(2, count)
        out = np.full((count, 546), 0xEE, np.uint8)
        assert np.array_equal(rewrite(states, 1, 2, out, threads), expected(states, 1, 2))


STREAMED_BYTES = 32 << 20  # of states and out together, as the docstring of rewrite() says
DISTINCT = 7


@pytest.mark.parametrize(("dst_vq", "src_vq"), [(16, 5), (4, 16), (9, 9)])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("place", "gap"), [(0, 0), (1, 13)])
def test_about_as_many_states_as_the_cache_holds(dst_vq, src_vq, beyond, threads, place, gap):
    count = -(-STREAMED_BYTES // (546 * (dst_vq + src_vq))) + beyond
    states = np.resize(states_of(src_vq, DISTINCT), (count, 546 * src_vq))
    memory = np.full((count + 1, 546 * dst_vq + gap), 0xEE, np.uint8)
    rows = memory.ravel()[place:][: count * memory.shape[1]].reshape(count, -1)
    out = rows[:, : 546 * dst_vq]
    assert rewrite(states, dst_vq, src_vq, out, threads) is out
    wanted = expected(states[:DISTINCT], dst_vq, src_vq)
    assert all((out[first::DISTINCT] == state).all() for first, state in enumerate(wanted))
    assert (rows[:, 546 * dst_vq :] == 0xEE).all()
    assert (memory.ravel()[:place] == 0xEE).all()
    assert (memory.ravel()[place + rows.size :] == 0xEE).all()


@pytest.mark.parametrize(("bytes_short", "reused", "streamed"), [(1, True, False), (0, True, True), (0, False, False)])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_past_the_cache(monkeypatch, bytes_short, reused, streamed, threads):
    """Only what is large, and never new memory, whose zeroes the kernel has just put into the cache."""
    called, real = set(), batch.lib

    class Noted:
        def __getattr__(self, name):
            called.add(name)
            return getattr(real, name)

    monkeypatch.setattr(batch, "lib", Noted())
    count = (STREAMED_BYTES - bytes_short) // (546 * 4) + (not bytes_short)
    states = np.zeros((count, 546 * 3), np.uint8)
    rewrite(states, 1, 3, np.empty((count, 546), np.uint8) if reused else None, threads)
    assert ("kvmsve_rewrite_streamed" in called) == streamed


@pytest.mark.parametrize(("dst_vq", "src_vq"), [(0, 1), (1, 0), (17, 1), (1, 17), (-1, 1), (1, 512)])
def test_a_length_that_there_is_not(dst_vq, src_vq):
    wrong = next(vq for vq in (dst_vq, src_vq) if vq != 1)
    with pytest.raises(ValueError, match=f"is a number from 1 to 16, not {wrong}$"):
        rewrite(np.zeros((1, 546), np.uint8), dst_vq, src_vq)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads):
    with pytest.raises(ValueError, match=f"threads is a number from 1 to 1023, not {threads}"):
        rewrite(states_of(1, 1), 1, 1, threads=threads)


@pytest.mark.parametrize(
    "wrong", [bytes(546), [0] * 546, None, np.zeros((1, 546), np.int8), np.zeros(546), "states"], ids=type
)
def test_another_type_than_an_array_of_bytes(wrong):
    with pytest.raises(TypeError, match=r"states must be a uint8 array of shape \(\.\.\., 546\), not "):
        rewrite(wrong, 2, 1)
    if wrong is not None:
        with pytest.raises(TypeError, match=r"out must be a uint8 array of shape \(1, 546\), not "):
            rewrite(states_of(2, 1), 1, 2, out=wrong)


@pytest.mark.parametrize("shape", [(), (0,), (545,), (546 * 2,), (546, 1), (2, 547)], ids=str)
def test_states_of_another_shape(shape):
    message = f"states must be a uint8 array of shape (..., 546), not of shape {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        rewrite(np.zeros(shape, np.uint8), 2, 1)


@pytest.mark.parametrize("shape", [(), (1092,), (3, 1092), (2, 546), (1, 2, 1092), (2, 1, 1092)], ids=str)
def test_out_of_another_shape(shape):
    message = f"out must be a uint8 array of shape (2, 1092), not of shape {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        rewrite(states_of(1, 2), 2, 1, out=np.zeros(shape, np.uint8))


def test_bytes_of_a_state_that_are_not_adjacent():
    spread = np.zeros((2, 546 * 2), np.uint8)[:, ::2]
    backwards = np.zeros((2, 546), np.uint8)[:, ::-1]
    for array in (spread, backwards, np.zeros((546, 2), np.uint8).T):
        with pytest.raises(ValueError, match=r"states must be adjacent; pass numpy\.ascontiguousarray\(states\)"):
            rewrite(array, 1, 1)
        with pytest.raises(ValueError, match=r"out must be adjacent; pass numpy\.ascontiguousarray\(out\)"):
            rewrite(states_of(2, 2), 1, 2, out=array)


def test_out_that_cannot_be_written():
    out = np.zeros((2, 546), np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writeable"):
        rewrite(states_of(2, 2), 1, 2, out=out)


@pytest.mark.parametrize(("start", "refused"), [(0, True), (1, True), (545, True), (546, False), (600, False)])
def test_out_over_the_states(start, refused):
    memory = np.zeros(2000, np.uint8)
    memory[:] = states_of(4)[:2000]
    states, out = memory[:546], memory[start : start + 1092]
    before = memory.copy()
    if refused:
        with pytest.raises(ValueError, match="out must not overlap states"):
            rewrite(states, 2, 1, out=out)
        assert np.array_equal(memory, before)
    else:
        wanted = expected(states, 2, 1)
        assert np.array_equal(rewrite(states, 2, 1, out=out), wanted)


@pytest.mark.parametrize(
    ("shape", "steps", "overlap"),
    [
        ((1,), (0,), False),
        ((3,), (0,), True),
        ((2,), (546,), False),
        ((2,), (545,), True),
        ((2, 3), (3 * 546, 546), False),
        ((2, 3), (3 * 546 - 1, 546), True),
        ((3, 2), (546, 3 * 546), False),  # the second axis steps over the first
        ((3, 2), (546, 3 * 546 - 1), True),
        ((2, 2, 2), (2000, 1000, 5000), False),
        ((2, 2, 2), (2000, 1000, 3545), True),
        ((3, 2), (1092, 1638), False),  # between one another: at 0 1638 1092 2730 2184 3822
        ((3, 2), (1092, 1637), True),
        ((2, 3), (-1638, 1092), False),
        ((3, 2), (546, 1092), True),  # two at the same place
        ((1, 2), (0, 546), False),
        ((2, 1), (545, 9), True),
        ((3, 0), (545, 546), False),  # no state at all
        ((0, 2), (0, 0), False),
        ((1 << 40, 2), (0, 546), True),
    ],
)
def test_states_of_out_lie_apart(shape, steps, overlap):
    memory = np.zeros(12_000, np.uint8)
    out = np.lib.stride_tricks.as_strided(memory[2000:], (*shape, 546), (*steps, 1))
    if overlap:
        with pytest.raises(ValueError, match="the states of out must not overlap one another"):
            rewrite(np.broadcast_to(states_of(1), out.shape), 1, 1, out=out)
        assert not memory.any()
    else:
        states = states_of(1, prod(shape)).reshape(*shape, 546)
        assert np.array_equal(rewrite(states, 1, 1, out=out), states)


def test_lengths_are_checked_first_then_type_shape_adjacency_overlap():
    with pytest.raises(ValueError, match="dst_vq"):
        rewrite(None, 0, 0, threads=0)
    with pytest.raises(ValueError, match="src_vq"):
        rewrite(None, 1, 17, threads=0)
    with pytest.raises(ValueError, match="threads"):
        rewrite(None, 1, 1, threads=0)
    with pytest.raises(TypeError, match="states"):
        rewrite(np.zeros(5), 1, 1, out=None)
    with pytest.raises(ValueError, match="of shape"):
        rewrite(np.zeros((2, 20), np.uint8)[:, ::2], 1, 1)
    same = np.zeros((2, 1092), np.uint8)[:, ::2]
    with pytest.raises(ValueError, match="adjacent"):
        rewrite(np.zeros((2, 546), np.uint8), 1, 1, out=same)
    for vq, index in product((1, 4), range(2)):
        states = states_of(vq, 2)
        with pytest.raises(ValueError, match="overlap"):
            rewrite(states[index], vq, vq, out=states[index])
