/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unnamed.h - files that have no name until they are complete (O_TMPFILE and linkat). Each is a
 * descriptor; when that is closed before it has a name, also by being killed, nothing is left of
 * it. Whether a file system and this process can do that is found out by trying it once.
 *
 * Thread: unnamed_init first, by one; the rest by any.
 */
#ifndef ZH_STORE_UNNAMED_H
#define ZH_STORE_UNNAMED_H

#include "base/util.h"

#include <stdatomic.h>
#include <sys/types.h>

struct unnamed {
	unsigned most; /* open at once; 0: there is no way */
	bool by_proc;  /* named by way of /proc/self/fd */
	_Atomic unsigned count;
};

/* Tries it in dir, where the name probe is free. Takes at most a quarter of RLIMIT_NOFILE. */
void unnamed_init(struct unnamed *unnamed, int dir, const char *probe);
/* A file for dir, which is where its group, ACL and place on the disk come from. Write only; to be
 * closed by unnamed_close. -EMFILE: as many as may be are open; -EOPNOTSUPP: there is no way. */
int unnamed_open(struct unnamed *unnamed, int dir, mode_t mode) must_check;
/* Gives it a name, which must be free (-EEXIST). It stays open. */
int unnamed_link(const struct unnamed *unnamed, int fd, int dir, const char *name) must_check;
void unnamed_close(struct unnamed *unnamed, int fd);

#endif
