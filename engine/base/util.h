/* SPDX-License-Identifier: Apache-2.0 */
/*
 * util.h - what C lacks and every room needs: checks for our own bugs, arithmetic that cannot
 * overflow silently, little-endian bytes, scope cleanup for leaf functions.
 */
#ifndef ZH_BASE_UTIL_H
#define ZH_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define must_check               __attribute__((warn_unused_result))
#define printf_like(text, first) __attribute__((format(printf, text, first)))

/* An ignored result; the reason stands beside it. */
#define IGNORE(call) ((void)!(call))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define KIB          ((uint64_t)1 << 10)
#define MIB          ((uint64_t)1 << 20)
#define GIB          ((uint64_t)1 << 30)

/* Stops the program: a state that only a bug of ours can reach. Never used on input. */
_Noreturn void check_failed(const char *condition, const char *file, int line);
#define CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* unit is a power of two */
static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
	return value & ~(unit - 1);
}

static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
	return round_down(value + unit - 1, unit);
}

static inline uint64_t div_up(uint64_t value, uint64_t unit)
{
	return value / unit + (value % unit != 0);
}

/* True when [offset, offset + length) lies inside a thing of size bytes. */
static inline bool range_fits(uint64_t offset, uint64_t length, uint64_t size)
{
	return offset <= size && length <= size - offset;
}

static inline void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(uint8_t *p, uint32_t v)
{
	put_le16(p, (uint16_t)v);
	put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void put_le64(uint8_t *p, uint64_t v)
{
	put_le32(p, (uint32_t)v);
	put_le32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_le32(const uint8_t *p)
{
	return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

static inline uint64_t get_le64(const uint8_t *p)
{
	return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

/* Memory that grows on demand and starts on a page. Zeroed: empty. */
struct buffer {
	uint8_t *memory;
	size_t cap;
};

/* Makes room for bytes; what it held is lost. 0 or -ENOMEM. */
int buffer_reserve(struct buffer *buffer, size_t bytes) must_check;
void buffer_free(struct buffer *buffer);

/* Copies text into a fixed array, cutting it if need be; always ends it. */
static inline void text_set(char *ret_text, size_t cap, const char *text)
{
	size_t length = 0;
	while (length < cap - 1 && text[length] != '\0') /* gcc warns of strnlen past a literal */
		length++;
	memcpy(ret_text, text, length);
	ret_text[length] = '\0';
}
#define TEXT_SET(array, text) text_set((array), sizeof(array), (text))

#endif
