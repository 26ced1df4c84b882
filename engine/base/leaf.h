/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaf.h - digests of a file's content. A leaf is one aligned MiB (the last one may be shorter);
 * its digest is XXH3-128 of its bytes. A root stands for a whole file: it is made from the size and
 * from every (leaf index, leaf digest), and does not depend on the order in which they are added,
 * so that any number of streams can feed it and a re-sent leaf can be taken out again.
 * Against accidents, not against an adversary.
 */
#ifndef ZH_BASE_LEAF_H
#define ZH_BASE_LEAF_H

#include "base/util.h"

#define LEAF_BYTES   MIB
#define DIGEST_BYTES 16

/* Canonical (big-endian) XXH3-128, as it goes over the wire. */
struct digest {
	uint8_t byte[DIGEST_BYTES];
};

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline uint64_t leaf_count(uint64_t size)
{
	return div_up(size, LEAF_BYTES);
}

/* Of bytes in memory; of at most a leaf it is the digest of that leaf. */
struct digest digest_of(const void *bytes, size_t length);

/* Of that many zeros, at most a leaf: what a hole holds. */
struct digest digest_of_zeros(size_t length);

/* Digests leaves of a run of bytes that is handed over in order. */
struct leaf_run {
	void *state;     /* XXH3_state_t */
	uint64_t offset; /* of the next byte, in the file */
	uint64_t bytes;  /* digested since leaf_run_begin */
	uint64_t total;  /* digested since leaf_run_init */
	size_t count;    /* finished digests in out */
	size_t cap;
	struct digest *out;
};

/* Returns 0 or -ENOMEM. */
int leaf_run_init(struct leaf_run *run) must_check;
void leaf_run_fini(struct leaf_run *run);
/* offset is leaf-aligned. out has room for cap digests and stays the caller's. */
void leaf_run_begin(struct leaf_run *run, uint64_t offset, struct digest *out, size_t cap);
void leaf_run_add(struct leaf_run *run, const void *bytes, size_t length);
/* Finishes a last, short leaf. Returns the number of digests in out. */
size_t leaf_run_end(struct leaf_run *run);

/* Sum, modulo 2^128, of the digests of (index, leaf digest). */
struct leaf_sum {
	uint64_t low;
	uint64_t high;
};

void leaf_sum_add(struct leaf_sum *sum, uint64_t leaf_index, const struct digest *leaf);
void leaf_sum_remove(struct leaf_sum *sum, uint64_t leaf_index, const struct digest *leaf);
struct digest leaf_root(const struct leaf_sum *sum, uint64_t size);

#endif
