/*
 * What kvmsve is measured against, and the loops that time both.
 *
 * patch_rewrite() does what vcpu_rewrite_sve() of the RFC does, written anew:
 * a zeroed buffer, a memcpy() per register, all of it copied back.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* cffi: begin */
typedef void rewrite_fn(uint8_t *dst, unsigned dst_vq, const uint8_t *src, unsigned src_vq);
typedef void fpsimd_to_sve_fn(uint8_t *sve, unsigned vq, const uint8_t *vregs, bool swap);
typedef void sve_to_fpsimd_fn(uint8_t *vregs, const uint8_t *sve, unsigned vq, bool swap);

rewrite_fn patch_rewrite;	/* in place: dst == src, with room for the larger length */
rewrite_fn copy_larger;		/* memcpy() of as much as the larger of the two states */
fpsimd_to_sve_fn copy_state;	/* memcpy() of as much as the conversion writes, */
sve_to_fpsimd_fn copy_vregs;	/* and for the way back */
void nothing(uint8_t *state, uint64_t reg_id, const uint8_t *data);

/* Nanoseconds per call. */
double rewrite_ns(rewrite_fn *rewrite, uint8_t *dst, unsigned dst_vq, const uint8_t *src, unsigned src_vq, int calls);
double round_trip_ns(fpsimd_to_sve_fn *there, sve_to_fpsimd_fn *back, uint8_t *sve, uint8_t *vregs, unsigned vq,
		     int calls);
/* cffi: end */

static size_t state_bytes(unsigned vq)
{
	return (size_t)546 * vq;
}

void patch_rewrite(uint8_t *dst, unsigned dst_vq, const uint8_t *src, unsigned src_vq)
{
	const unsigned larger = dst_vq > src_vq ? dst_vq : src_vq;
	const size_t kept = dst_vq < src_vq ? dst_vq : src_vq;
	uint8_t *fresh = calloc(1, state_bytes(larger));

	if (!fresh)
		return;
	for (size_t n = 0; n < 32; n++)
		memcpy(fresh + n * 16 * dst_vq, src + n * 16 * src_vq, 16 * kept);
	for (size_t n = 0; n < 17; n++)
		memcpy(fresh + (256 + n) * 2 * dst_vq, src + (256 + n) * 2 * src_vq, 2 * kept);
	memcpy(dst, fresh, state_bytes(larger));
	free(fresh);
}

void copy_larger(uint8_t *dst, unsigned dst_vq, const uint8_t *src, unsigned src_vq)
{
	memcpy(dst, src, state_bytes(dst_vq > src_vq ? dst_vq : src_vq));
}

void copy_state(uint8_t *sve, unsigned vq, const uint8_t *vregs, bool swap)
{
	(void)swap;
	memcpy(sve, vregs, state_bytes(vq));
}

void copy_vregs(uint8_t *vregs, const uint8_t *sve, unsigned vq, bool swap)
{
	(void)vq, (void)swap;
	memcpy(vregs, sve, 512);
}

void nothing(uint8_t *state, uint64_t reg_id, const uint8_t *data)
{
	(void)state, (void)reg_id, (void)data;
}

static double now_ns(void)
{
	struct timespec now;

	timespec_get(&now, TIME_UTC);
	return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

double rewrite_ns(rewrite_fn *rewrite, uint8_t *dst, unsigned dst_vq, const uint8_t *src, unsigned src_vq, int calls)
{
	const double start = now_ns();

	for (int i = 0; i < calls; i++)
		rewrite(dst, dst_vq, src, src_vq);
	return (now_ns() - start) / calls;
}

double round_trip_ns(fpsimd_to_sve_fn *there, sve_to_fpsimd_fn *back, uint8_t *sve, uint8_t *vregs, unsigned vq,
		     int calls)
{
	const double start = now_ns();

	for (int i = 0; i < calls; i++) {
		there(sve, vq, vregs, false);
		back(vregs, sve, vq, false);
	}
	return (now_ns() - start) / calls;
}
