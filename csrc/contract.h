/* What the functions of kvmsve.h ask of their callers, to be asserted. Private to csrc/. */
#ifndef KVMSVE_CONTRACT_H
#define KVMSVE_CONTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

/* count ranges of memory, `bytes` each, that begin every `step` bytes. */
struct ranges {
	uintptr_t lowest;
	size_t step;
	size_t bytes;
	size_t count;
};

static inline bool is_length(unsigned vq)
{
	return vq >= VQ_MIN && vq <= VQ_MAX;
}

/* stride may be negative: then memory is used downwards. */
static inline struct ranges states_at(const uint8_t *first, ptrdiff_t stride,
				      unsigned vq, size_t count)
{
	const size_t step = stride < 0 ? 0 - (size_t)stride : (size_t)stride;
	const size_t below = stride < 0 && count > 0 ? step * (count - 1) : 0;

	return (struct ranges){ (uintptr_t)first - below, step, state_bytes(vq), count };
}

static inline bool are_apart(uintptr_t a, size_t a_bytes,
			     uintptr_t b, size_t b_bytes)
{
	return a - b >= b_bytes && b - a >= a_bytes;
}

/* Two pieces of memory that do not overlap; neither is null. */
static inline bool are_two(const uint8_t *a, size_t a_bytes,
			   const uint8_t *b, size_t b_bytes)
{
	return a && b && are_apart((uintptr_t)a, a_bytes, (uintptr_t)b, b_bytes);
}

static inline bool are_apart_inside(struct ranges r)
{
	return r.count <= 1 || r.step >= r.bytes;
}

/* Of the ranges that end behind `start`, the lowest is the one that may overlap. */
static inline bool is_apart_from_each(uintptr_t start, size_t bytes, struct ranges r)
{
	size_t ended = 0;	/* how many ranges end at or below start */

	if (start >= r.lowest && start - r.lowest >= r.bytes)
		ended = r.step ? (start - r.lowest - r.bytes) / r.step + 1 : r.count;
	return ended >= r.count ||
	       are_apart(start, bytes, r.lowest + ended * r.step, r.bytes);
}

static inline size_t span(struct ranges r)
{
	return r.count ? r.step * (r.count - 1) + r.bytes : 0;
}

/* Rows of one array may lie between those of another, hence the second look. */
static inline bool are_all_apart(struct ranges a, struct ranges b)
{
	if (are_apart(a.lowest, span(a), b.lowest, span(b)))
		return true;
	for (size_t i = 0; i < a.count; i++)
		if (!is_apart_from_each(a.lowest + i * a.step, a.bytes, b))
			return false;
	return true;
}

/* What is asked of many states, their lengths taken for granted. */
static inline bool are_rewritable(const uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
				  const uint8_t *src, ptrdiff_t src_stride, unsigned src_vq,
				  size_t count)
{
	const struct ranges written = states_at(dst, dst_stride, dst_vq, count);
	const struct ranges read = states_at(src, src_stride, src_vq, count);

	return (count == 0 || (dst && src)) &&
	       are_apart_inside(written) && are_all_apart(written, read);
}

#endif
