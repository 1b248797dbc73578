/* V registers to Z and back (__fpsimd_to_sve(), __sve_to_fpsimd()). */
#include <assert.h>
#include <string.h>

#include "contract.h"
#include "kvmsve.h"
#include "layout.h"

static void copy_vreg(uint8_t *restrict dst, const uint8_t *restrict src,
		      bool swap)
{
	if (swap) {
		for (unsigned i = 0; i < VREG_BYTES; i++)
			dst[i] = src[VREG_BYTES - 1 - i];
	} else {
		memcpy(dst, src, VREG_BYTES);
	}
}

void kvmsve_fpsimd_to_sve(uint8_t *sve, unsigned vq,
			  const uint8_t *vregs, bool swap)
{
	assert(is_length(vq));
	assert(are_two(sve, state_bytes(vq), vregs, NUM_ZREGS * VREG_BYTES));

	memset(sve, 0, state_bytes(vq));
	for (unsigned n = 0; n < NUM_ZREGS; n++)
		copy_vreg(sve + zreg_offset(vq, n), vregs + n * VREG_BYTES, swap);
}

void kvmsve_sve_to_fpsimd(uint8_t *vregs, const uint8_t *sve, unsigned vq,
			  bool swap)
{
	assert(is_length(vq));
	assert(are_two(vregs, NUM_ZREGS * VREG_BYTES, sve, state_bytes(vq)));

	for (unsigned n = 0; n < NUM_ZREGS; n++)
		copy_vreg(vregs + n * VREG_BYTES, sve + zreg_offset(vq, n), swap);
}
