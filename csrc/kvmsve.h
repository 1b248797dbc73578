/*
 * kvmsve: register state between vector lengths.
 *
 * A state is what the kernel keeps in sve_state for a length of vq quadwords:
 * Z0..Z31 of 16*vq bytes, P0..P15 and FFR of 2*vq bytes, packed, 546*vq bytes
 * in all, every register little-endian.  vregs is 32 V registers of 16 bytes.
 *
 * Common to all functions: the destination comes first, pointers may have any
 * alignment, nothing is allocated and nothing is remembered between calls.
 * Asserted: 1 <= vq <= 16, no pointer is null, and the destination does not
 * overlap the source.
 */
#ifndef KVMSVE_H
#define KVMSVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/*
 * dst holds src's registers at dst_vq: each zero-extended or truncated.
 * Writes all 546*dst_vq bytes of dst, reads 546*src_vq bytes of src.
 */
void kvmsve_rewrite(uint8_t *dst, unsigned dst_vq,
		    const uint8_t *src, unsigned src_vq);

/*
 * The same for count states; state i lies at dst + i*dst_stride and at
 * src + i*src_stride (in bytes), which may be negative or, of src, zero.
 * Asserted too: no state of dst overlaps another or a state of src, though
 * they may lie between one another.  With a count of 0 pointers may be null.
 */
void kvmsve_rewrite_many(uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
			 const uint8_t *src, ptrdiff_t src_stride,
			 unsigned src_vq, size_t count);

/*
 * The same again, faster where dst is in no cache of the CPU, as what was used
 * before and is much larger than they; slower where it is, as new memory that
 * the kernel has just zeroed.  Whole cache lines of dst are replaced in memory
 * without being read.  Other threads may read dst after the call as they may
 * after ordinary stores.
 */
void kvmsve_rewrite_streamed(uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
			     const uint8_t *src, ptrdiff_t src_stride,
			     unsigned src_vq, size_t count);

/*
 * sve holds V0..V31 in the low 16 bytes of Z0..Z31 and zeroes everywhere
 * else: all 546*vq bytes are written.  swap reverses the 16 bytes of each V,
 * which is how a big-endian host keeps V beside a little-endian Z.
 */
void kvmsve_fpsimd_to_sve(uint8_t *sve, unsigned vq,
			  const uint8_t *vregs, bool swap);

/* vregs (512 bytes) holds the low 16 bytes of Z0..Z31; swap as above. */
void kvmsve_sve_to_fpsimd(uint8_t *vregs, const uint8_t *sve, unsigned vq,
			  bool swap);

/* cffi: end */

#endif
