/* SPDX-License-Identifier: Apache-2.0 */
/* leaf.c - leaf digests and roots by libxxhash. */
#include "base/leaf.h"

#include <errno.h>
#include <xxhash.h>
#ifdef HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* the widest vectors of this CPU, rather than of the oldest one */
#endif

_Static_assert(sizeof(XXH128_canonical_t) == DIGEST_BYTES, "digest size");

static struct digest to_digest(XXH128_hash_t hash)
{
	XXH128_canonical_t canonical;
	struct digest digest;

	XXH128_canonicalFromHash(&canonical, hash);
	memcpy(&digest, &canonical, sizeof(digest));
	return digest;
}

struct digest digest_of(const void *bytes, size_t length)
{
	return to_digest(XXH3_128bits(bytes, length));
}

struct digest digest_of_zeros(size_t length)
{
	static const uint8_t zeros[LEAF_BYTES];

	CHECK(length <= LEAF_BYTES);
	return digest_of(zeros, length);
}

int leaf_run_init(struct leaf_run *run)
{
	memset(run, 0, sizeof(*run));
	run->state = XXH3_createState();
	return run->state ? 0 : -ENOMEM;
}

void leaf_run_fini(struct leaf_run *run)
{
	(void)XXH3_freeState(run->state); /* NULL is fine */
	run->state = NULL;
}

void leaf_run_begin(struct leaf_run *run, uint64_t offset, struct digest *out, size_t cap)
{
	CHECK(offset % LEAF_BYTES == 0);
	run->offset = offset;
	run->bytes = 0;
	run->count = 0;
	run->out = out;
	run->cap = cap;
	(void)XXH3_128bits_reset(run->state);
}

static void leaf_run_finish_leaf(struct leaf_run *run)
{
	CHECK(run->count < run->cap);
	run->out[run->count++] = to_digest(XXH3_128bits_digest(run->state));
	(void)XXH3_128bits_reset(run->state);
}

void leaf_run_add(struct leaf_run *run, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		size_t room = (size_t)(LEAF_BYTES - run->offset % LEAF_BYTES);
		size_t part = min_size(length, room);
		if (part == LEAF_BYTES) {
			CHECK(run->count < run->cap);
			run->out[run->count++] = to_digest(XXH3_128bits(next, part));
		} else {
			(void)XXH3_128bits_update(run->state, next, part);
			if (part == room)
				leaf_run_finish_leaf(run);
		}
		next += part;
		length -= part;
		run->offset += part;
		run->bytes += part;
		run->total += part;
	}
}

size_t leaf_run_end(struct leaf_run *run)
{
	if (run->offset % LEAF_BYTES != 0) {
		leaf_run_finish_leaf(run);
		run->offset = round_up(run->offset, LEAF_BYTES);
	}
	return run->count;
}

static XXH128_hash_t leaf_term(uint64_t leaf_index, const struct digest *leaf)
{
	uint8_t bytes[8 + DIGEST_BYTES];

	put_le64(bytes, leaf_index);
	memcpy(bytes + 8, leaf, DIGEST_BYTES);
	return XXH3_128bits(bytes, sizeof(bytes));
}

void leaf_sum_add(struct leaf_sum *sum, uint64_t leaf_index, const struct digest *leaf)
{
	XXH128_hash_t term = leaf_term(leaf_index, leaf);

	sum->low += term.low64;
	sum->high += term.high64 + (sum->low < term.low64);
}

void leaf_sum_remove(struct leaf_sum *sum, uint64_t leaf_index, const struct digest *leaf)
{
	XXH128_hash_t term = leaf_term(leaf_index, leaf);

	sum->high -= term.high64 + (sum->low < term.low64);
	sum->low -= term.low64;
}

struct digest leaf_root(const struct leaf_sum *sum, uint64_t size)
{
	uint8_t bytes[24];

	put_le64(bytes, size);
	put_le64(bytes + 8, sum->low);
	put_le64(bytes + 16, sum->high);
	return to_digest(XXH3_128bits(bytes, sizeof(bytes)));
}
