/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirs.h - the directories of a tree by number, below one held directory, which is number 0. Both
 * sides of a transfer have one: a sender to open what its walk has found, a receiver to make and to
 * fill. A directory is opened when it is needed, one component at a time from its parent, never
 * through a link and never onto another file system, and only so many are open at once. What is
 * opened again later has to be the same inode as before, whatever was done to its name meanwhile.
 *
 * Thread: any; a lock of its own, which is not held while a call waits for a disk.
 */
#ifndef ZH_STORE_DIRS_H
#define ZH_STORE_DIRS_H

#include "base/util.h"
#include "store/root.h"

#include <sys/types.h>

#define DIRS_MOST       65536u /* numbers known at once, as many as ids of a session */
#define DIRS_DEPTH_MOST 256u   /* the top has depth 0 */

struct dirs;

/*
 * top is borrowed, -1: there is none, and whatever is to be opened fails with -EBADF; open_most
 * directories beside it are held open while nobody uses them.
 */
int dirs_new(int top, unsigned open_most, struct dirs **ret_dirs) must_check;
void dirs_free(struct dirs *dirs);

/*
 * Makes a number known: the directory name in parent, which is known. It stays so until
 * dirs_forget. Nothing is opened. Errors: -EEXIST the number is taken, -ENOENT no such parent,
 * -ENAMETOOLONG deeper than DIRS_DEPTH_MOST, -EINVAL not root_name_ok, -ENOMEM, -EMFILE more than
 * DIRS_MOST.
 */
int dirs_add(struct dirs *dirs, uint64_t id, uint64_t parent, const char *name) must_check;
/*
 * The same for a receiver: makes the directory with mode (less the umask of the process; the
 * owner's rwx are added while it is filled) unless a directory has that name, and opens it.
 * *ret_made tells which. Errors: as dirs_add; -ENOTDIR something else has the name, also a link;
 * what opening the parent, mkdirat and opening report. On failure the number is not known, and
 * what was made is removed.
 */
int dirs_make(struct dirs *dirs, uint64_t id, uint64_t parent, const char *name, mode_t mode,
	bool *ret_made) must_check;

/*
 * A descriptor of the directory, good until dirs_put. Calls nest. Errors: -ENOENT no such number;
 * -ESTALE another directory bears the name by now; what opening reports, also of those above it.
 */
int dirs_get(struct dirs *dirs, uint64_t id, int *ret_fd) must_check;
void dirs_put(struct dirs *dirs, uint64_t id);
/* Whether dirs_make has made the directory, so that nothing was in it before. */
bool dirs_is_new(struct dirs *dirs, uint64_t id) must_check;
/*
 * Nothing more comes into the directory, though its number is still needed; dirs_is_left says so
 * until it is forgotten. No such number: nothing happens.
 */
void dirs_leave(struct dirs *dirs, uint64_t id);
bool dirs_is_left(struct dirs *dirs, uint64_t id) must_check;
/* Whether the number may be got; it may name what is not there. */
bool dirs_knows(struct dirs *dirs, uint64_t id);
/* Device and inode; the directory must have been open once. 0 or -ENOENT. */
int dirs_identity(
	struct dirs *dirs, uint64_t id, uint64_t *ret_device, uint64_t *ret_inode) must_check;

/*
 * The path below the top, components joined by "/", for messages; as much as fits, ended by a NUL.
 * "" for the top and for a number that is not known. Returns the length of what was written.
 */
size_t dirs_path(struct dirs *dirs, uint64_t id, char *ret_path, size_t cap);
/*
 * Nobody needs the number any more, and it may not be got again. A directory that has known
 * children or is in use is kept, and its number taken, until they go. No such number: nothing
 * happens.
 */
void dirs_forget(struct dirs *dirs, uint64_t id);

#endif
