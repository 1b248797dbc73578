/*
 * Memory that the cache lacks.  A store to it waits until its line has been
 * read, unless the line was fetched before, or all of it is replaced past the
 * cache ("streamed").  Private to csrc/.
 *
 * Both as measured on x86-64, whose compilers offer SSE2.  Elsewhere memory is
 * stored to as it comes: CPUs of arm64 see by themselves that whole lines are
 * being replaced, and do not read them.
 */
#ifndef KVMSVE_STREAM_H
#define KVMSVE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	LINE_BYTES = 64,
	AHEAD_BYTES = 4096,	/* 1024 to 8192 are as good */
};

#if defined(__SSE2__)

#include <emmintrin.h>

enum { CAN_STREAM = true };

/* The bytes are on their way into the cache. */
static inline void fetch(const uint8_t *memory, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += LINE_BYTES)
		_mm_prefetch((const char *)(memory + at), _MM_HINT_T0);
}

/* dst is aligned to a line, src to a quadword; bytes is a multiple of a line. */
static inline void stream_lines(uint8_t *dst, const uint8_t *src, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += sizeof(__m128i))
		_mm_stream_si128((__m128i *)(void *)(dst + at),
				 _mm_load_si128((const __m128i *)(const void *)(src + at)));
}

/* What was streamed is written before anything that is stored from now on. */
static inline void end_stream(void)
{
	_mm_sfence();
}

#else

enum { CAN_STREAM = false };

static inline void fetch(const uint8_t *memory, size_t bytes)
{
	(void)memory;
	(void)bytes;
}

static inline void stream_lines(uint8_t *dst, const uint8_t *src, size_t bytes)
{
	memcpy(dst, src, bytes);
}

static inline void end_stream(void) { }

#endif

static inline size_t place_in_line(const uint8_t *memory)
{
	return (uintptr_t)memory % LINE_BYTES;
}

/*
 * Copies bytes, at least a line of them; lines that dst fills are streamed.
 * src has the same place in its line as dst.  end_stream() has to follow.
 */
static inline void stream(uint8_t *dst, const uint8_t *src, size_t bytes)
{
	const size_t head = (LINE_BYTES - place_in_line(dst)) % LINE_BYTES;
	const size_t tail = (bytes - head) % LINE_BYTES;

	memcpy(dst, src, head);
	stream_lines(dst + head, src + head, bytes - head - tail);
	memcpy(dst + bytes - tail, src + bytes - tail, tail);
}

#endif
