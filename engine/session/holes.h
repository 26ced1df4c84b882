/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holes.h - the data extents of a sparse file, and which leaves lie in its holes. Both sides go by
 * the same MAP, so that neither sends, asks for or stores a leaf without data. Pure.
 */
#ifndef ZH_SESSION_HOLES_H
#define ZH_SESSION_HOLES_H

#include "base/leaf.h"
#include "zerohaul.h"

/* Sorted, not empty, not overlapping, within the file. extent NULL: the file is all data. */
struct holes {
	struct zh_extent *extent; /* of data, owned */
	size_t count;
	bool sparse;
};

void holes_free(struct holes *holes);
/* Whether no byte of the leaf is data. */
bool holes_has_leaf(const struct holes *holes, uint64_t leaf);
/* Bytes of the leaves that have data, in a file of size bytes. */
uint64_t holes_data_bytes(const struct holes *holes, uint64_t size);
/* Whether a range of whole leaves has data in every one of them. */
bool holes_spare(const struct holes *holes, const struct zh_extent *range);
/* The leaves in holes are zeros: their digests, in the sum of the root. */
void holes_add(const struct holes *holes, uint64_t size, struct leaf_sum *sum);

#endif
