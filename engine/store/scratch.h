/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.h - a directory of one's own in the staging directory, `s.<16 hex digits>` (0700), for
 * files that nobody takes up again. It is locked while its owner lives; whoever makes the next one
 * removes what killed owners have left.
 */
#ifndef ZH_STORE_SCRATCH_H
#define ZH_STORE_SCRATCH_H

#include "store/staging.h"

#define SCRATCH_NAME_CAP 20

struct scratch {
	int dir; /* owned and locked; -1: none */
	char name[SCRATCH_NAME_CAP];
};

/* Enters staging and makes it. On failure dir is -1. Fills err as staging_enter does, and BUSY. */
int scratch_open(
	struct staging *staging, struct scratch *ret_scratch, struct zh_error *err) must_check;
/* Removes it with all that is in it, and closes. Safe on dir -1. */
void scratch_close(struct staging *staging, struct scratch *scratch);

/* Removes what killed owners have left, if there is a staging directory; bounded work. */
void scratch_sweep(struct staging *staging);

#endif
