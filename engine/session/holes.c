/* SPDX-License-Identifier: Apache-2.0 */
/* holes.c - see holes.h. */
#include "session/holes.h"

void holes_free(struct holes *holes)
{
	free(holes->extent);
	*holes = (struct holes){ 0 };
}

/* The first extent that ends behind offset; count: none. */
static size_t find(const struct holes *holes, uint64_t offset)
{
	size_t low = 0, high = holes->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct zh_extent *extent = &holes->extent[middle];
		if (extent->offset + extent->length <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool holes_has_leaf(const struct holes *holes, uint64_t leaf)
{
	size_t at;

	if (!holes->sparse)
		return false;
	at = find(holes, leaf * LEAF_BYTES);
	return at == holes->count || holes->extent[at].offset >= (leaf + 1) * LEAF_BYTES;
}

uint64_t holes_data_bytes(const struct holes *holes, uint64_t size)
{
	uint64_t bytes = 0, done = 0; /* leaves below done are counted */

	if (!holes->sparse)
		return size;
	for (size_t i = 0; i < holes->count; i++) {
		const struct zh_extent *extent = &holes->extent[i];
		uint64_t first = max_u64(done, round_down(extent->offset, LEAF_BYTES));
		uint64_t end = min_u64(size, round_up(extent->offset + extent->length, LEAF_BYTES));
		if (end > first)
			bytes += end - first;
		done = max_u64(done, end);
	}
	return bytes;
}

bool holes_spare(const struct holes *holes, const struct zh_extent *range)
{
	for (uint64_t at = 0; holes->sparse && at < range->length; at += LEAF_BYTES)
		if (holes_has_leaf(holes, (range->offset + at) / LEAF_BYTES))
			return false;
	return true;
}

void holes_add(const struct holes *holes, uint64_t size, struct leaf_sum *sum)
{
	uint64_t leaves = leaf_count(size);
	struct digest whole, last;

	if (!holes->sparse || size == 0)
		return;
	whole = digest_of_zeros(LEAF_BYTES);
	last = digest_of_zeros((size_t)(size - (leaves - 1) * LEAF_BYTES));
	for (uint64_t leaf = 0; leaf < leaves; leaf++)
		if (holes_has_leaf(holes, leaf))
			leaf_sum_add(sum, leaf, leaf + 1 == leaves ? &last : &whole);
}
