/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prove.h - one thing of a manifest against what is on the disk below a root. What is read is read
 * past the page cache: with O_DIRECT where the file system can, else after what is in the page
 * cache was written back and dropped. Changes nothing and follows no link.
 */
#ifndef ZH_STORE_PROVE_H
#define ZH_STORE_PROVE_H

#include "store/manifest.h"

#include <stdatomic.h>

enum proof { PROOF_RIGHT, PROOF_WRONG, PROOF_MISSING, PROOF_UNREADABLE, PROOF_CANCELLED };

/* For one thread. */
struct prover {
	int root;                  /* borrowed */
	uint32_t flags;            /* ZH_VERIFY_MTIME, ZH_VERIFY_MODE */
	const atomic_bool *cancel; /* looked at between two leaves */
	_Atomic uint64_t *bytes;   /* of content that was read; shared by all threads */
	uint64_t direct_bytes;     /* of these, with O_DIRECT and by this prover */
	uint8_t *buffer;           /* a leaf, on a page */
	struct leaf_run run;
};

/* The caller sets what stands before direct_bytes. Returns 0 or -ENOMEM. */
int prover_init(struct prover *prover) must_check;
void prover_fini(struct prover *prover);
/* Fills err with what is wrong, unless it is right or was cancelled. */
enum proof prove_entry(
	struct prover *prover, const struct manifest_entry *entry, struct zh_error *err) must_check;

#endif
