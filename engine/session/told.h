/* SPDX-License-Identifier: Apache-2.0 */
/*
 * told.h - with DELETE: what a receiver has been told to be in the directories that it found, and
 * what becomes of the rest when the sender says that this was all. Of a directory that this
 * session has made, and without DELETE, no names are kept, and so nothing can be removed.
 *
 * Names are kept by the control thread; the settling thread removes. Functions that return an int
 * have failed the session when it is negative.
 */
#ifndef ZH_SESSION_TOLD_H
#define ZH_SESSION_TOLD_H

#include "session/arrival.h"

struct told;

/*
 * A directory was made, or found. From now on names are kept for it if it was found. One that is
 * found to be a directory that another name has led to is never pruned, and nothing is from then
 * on: the file system takes several spellings for a name, and not even what a pruned directory
 * holds is known for sure.
 */
int told_directory(struct receiver *receiver, uint64_t dir, bool made) must_check;
/*
 * A name in a directory is one of the source. Names that are beyond LIMIT_TOLD_BYTES, or that there
 * is no memory for, have their directory not pruned.
 */
void told_name(struct receiver *receiver, uint64_t dir, const char *name, size_t length);
/*
 * Not all can be known of the source any more: nothing more is removed. When it returns, nothing is
 * being removed.
 */
void told_stop(struct receiver *receiver);
/* The names of a KEEP, and those of a PACK's table. */
void told_names(struct receiver *receiver, uint64_t dir, const struct wire_path *names);
void told_pack(struct receiver *receiver, const uint8_t *table, size_t length);
/* Nothing more is told of a directory. complete: everything has been, so it is to be pruned. */
void told_end(struct receiver *receiver, uint64_t dir, bool complete);
/*
 * JOB_PRUNE: removes what has not been told, until the session is over or told_stop. told is gone
 * then.
 */
int told_prune(struct receiver *receiver, struct told *told);
void told_free(struct receiver *receiver, struct told *told);
/* What has not ended, and all that told.c keeps. */
void told_free_all(struct receiver *receiver);

#endif
