/* Z, P and FFR from one vector length to another (vcpu_rewrite_sve()). */
#include <assert.h>
#include <string.h>

#include "kvmsve.h"
#include "layout.h"

/* count registers of src_bytes each, resized to dst_bytes each */
static void resize_regs(uint8_t *restrict dst, size_t dst_bytes,
			const uint8_t *restrict src, size_t src_bytes,
			unsigned count)
{
	const size_t kept = dst_bytes < src_bytes ? dst_bytes : src_bytes;

	for (unsigned n = 0; n < count; n++) {
		memcpy(dst, src, kept);
		memset(dst + kept, 0, dst_bytes - kept);
		dst += dst_bytes;
		src += src_bytes;
	}
}

void kvmsve_rewrite(uint8_t *dst, unsigned dst_vq,
		    const uint8_t *src, unsigned src_vq)
{
	assert(dst_vq >= VQ_MIN && dst_vq <= VQ_MAX);
	assert(src_vq >= VQ_MIN && src_vq <= VQ_MAX);

	resize_regs(dst, zreg_bytes(dst_vq), src, zreg_bytes(src_vq), NUM_ZREGS);
	resize_regs(dst + zregs_bytes(dst_vq), preg_bytes(dst_vq),
		    src + zregs_bytes(src_vq), preg_bytes(src_vq), NUM_PREGS);
}

void kvmsve_rewrite_many(uint8_t *dst, ptrdiff_t dst_stride, unsigned dst_vq,
			 const uint8_t *src, ptrdiff_t src_stride,
			 unsigned src_vq, size_t count)
{
	for (; count > 0; count--) {
		kvmsve_rewrite(dst, dst_vq, src, src_vq);
		dst += dst_stride;
		src += src_stride;
	}
}
