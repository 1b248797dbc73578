/* Where Z, P and FFR lie in a vq-wide sve_state. Private to csrc/. */
#ifndef KVMSVE_LAYOUT_H
#define KVMSVE_LAYOUT_H

#include <stddef.h>

enum {
	VQ_MIN = 1,
	VQ_MAX = 16,
	NUM_ZREGS = 32,
	NUM_PREGS = 17,		/* P0..P15 and FFR, which is stored as P16 */
	VREG_BYTES = 16,
	STATE_BYTES_MAX = (16 * NUM_ZREGS + 2 * NUM_PREGS) * VQ_MAX,
};

static inline size_t zreg_bytes(unsigned vq) { return (size_t)16 * vq; }
static inline size_t preg_bytes(unsigned vq) { return (size_t)2 * vq; }

static inline size_t zregs_bytes(unsigned vq)
{
	return NUM_ZREGS * zreg_bytes(vq);
}

static inline size_t zreg_offset(unsigned vq, unsigned n)
{
	return n * zreg_bytes(vq);
}

static inline size_t preg_offset(unsigned vq, unsigned n)
{
	return zregs_bytes(vq) + n * preg_bytes(vq);
}

static inline size_t state_bytes(unsigned vq)
{
	return zregs_bytes(vq) + NUM_PREGS * preg_bytes(vq);
}

#endif
