/*
 * Z, P and FFR from one vector length to another (vcpu_rewrite_sve()).
 *
 * Bytes move in chunks of 32: two quadwords of a Z register, or one P register
 * and what lies below it.  That is why P registers go first and downwards:
 * what a chunk spoils is written later.
 */
#include <assert.h>
#include <string.h>

#include "contract.h"
#include "kvmsve.h"
#include "layout.h"
#include "stream.h"

enum { CHUNK_BYTES = 32 };	/* the largest P register */

/* On x86-64 the loader picks the code for the CPU; elsewhere there is one. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define CHOSEN_AT_LOAD __attribute__((target_clones("avx2", "default")))
#else
#define CHOSEN_AT_LOAD
#endif

/* Words, because compilers join those to the widest vectors that there are. */
static inline void copy_chunk(uint8_t *dst, const uint8_t *src)
{
	uint64_t words[CHUNK_BYTES / 8];

	for (size_t i = 0; i < CHUNK_BYTES / 8; i++)
		memcpy(&words[i], src + 8 * i, 8);
	for (size_t i = 0; i < CHUNK_BYTES / 8; i++)
		memcpy(dst + 8 * i, &words[i], 8);
}

static inline void zero_chunk(uint8_t *dst)
{
	const uint64_t zero = 0;

	for (size_t i = 0; i < CHUNK_BYTES / 8; i++)
		memcpy(dst + 8 * i, &zero, 8);
}

/* Loops over quadwords have a constant bound, so that compilers unroll them. */
static inline void copy_quads(uint8_t *dst, const uint8_t *src, unsigned count)
{
	for (unsigned q = 0; q < VQ_MAX; q += 2)
		if (q + 2 <= count)
			copy_chunk(dst + zreg_bytes(q), src + zreg_bytes(q));
	if (count % 2)
		memcpy(dst + zreg_bytes(count - 1), src + zreg_bytes(count - 1),
		       zreg_bytes(1));
}

static inline void zero_quads(uint8_t *dst, unsigned count)
{
	if (count % 2) {
		memset(dst, 0, zreg_bytes(1));
		dst += zreg_bytes(1);
	}
	for (unsigned q = 0; q < VQ_MAX; q += 2)
		if (q + 2 <= count)
			zero_chunk(dst + zreg_bytes(q));
}

/* Each register keeps its kept_vq low quadwords, zeroes follow. */
static inline void resize_regs(uint8_t *dst, unsigned dst_vq,
			       const uint8_t *src, unsigned src_vq,
			       unsigned kept_vq)
{
	for (unsigned n = NUM_PREGS; n-- > 0; ) {
		const size_t kept = preg_bytes(kept_vq);

		if (dst_vq > kept_vq)
			zero_chunk(dst + preg_offset(dst_vq, n + 1) - CHUNK_BYTES);
		copy_chunk(dst + preg_offset(dst_vq, n) + kept - CHUNK_BYTES,
			   src + preg_offset(src_vq, n) + kept - CHUNK_BYTES);
	}
	for (unsigned n = 0; n < NUM_ZREGS; n++) {
		uint8_t *zreg = dst + zreg_offset(dst_vq, n);

		copy_quads(zreg, src + zreg_offset(src_vq, n), kept_vq);
		zero_quads(zreg + zreg_bytes(kept_vq), dst_vq - kept_vq);
	}
}

CHOSEN_AT_LOAD
void kvmsve_rewrite(uint8_t *dst, unsigned dst_vq,
		    const uint8_t *src, unsigned src_vq)
{
	assert(is_length(dst_vq) && is_length(src_vq));
	assert(are_two(dst, state_bytes(dst_vq), src, state_bytes(src_vq)));

	/* Two calls: narrowing is compiled without the zeroing. */
	if (dst_vq > src_vq)
		resize_regs(dst, dst_vq, src, src_vq, src_vq);
	else
		resize_regs(dst, dst_vq, src, src_vq, dst_vq);
}

/* At this distance a state is fetched before its turn comes. */
static inline size_t states_ahead(unsigned vq)
{
	return AHEAD_BYTES / state_bytes(vq) + 1;
}

/* States of dst to come are fetched: stores that miss the cache wait one by one. */
void kvmsve_rewrite_many(uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
			 const uint8_t *src, ptrdiff_t src_stride,
			 unsigned src_vq, size_t count)
{
	assert(is_length(dst_vq) && is_length(src_vq));
	assert(are_rewritable(dst, dst_stride, dst_vq, src, src_stride, src_vq, count));

	const size_t ahead = states_ahead(dst_vq);

	for (; count > 0; count--) {
		if (count > ahead)
			fetch(dst + (ptrdiff_t)ahead * dst_stride, state_bytes(dst_vq));
		kvmsve_rewrite(dst, dst_vq, src, src_vq);
		dst += dst_stride;
		src += src_stride;
	}
}

/* States of src to come are fetched where all of their bytes are needed. */
void kvmsve_rewrite_streamed(uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
			     const uint8_t *src, ptrdiff_t src_stride,
			     unsigned src_vq, size_t count)
{
	assert(is_length(dst_vq) && is_length(src_vq));
	assert(are_rewritable(dst, dst_stride, dst_vq, src, src_stride, src_vq, count));

	if (!CAN_STREAM) {
		kvmsve_rewrite_many(dst, dst_stride, dst_vq, src, src_stride, src_vq, count);
		return;
	}

	_Alignas(LINE_BYTES) uint8_t lines[LINE_BYTES + STATE_BYTES_MAX];
	const size_t ahead = states_ahead(src_vq);

	while (count-- > 0) {
		uint8_t *state = lines + place_in_line(dst);

		if (count >= ahead && dst_vq >= src_vq)
			fetch(src + (ptrdiff_t)ahead * src_stride, state_bytes(src_vq));
		kvmsve_rewrite(state, dst_vq, src, src_vq);
		stream(dst, state, state_bytes(dst_vq));
		dst += dst_stride;
		src += src_stride;
	}
	end_stream();
}
