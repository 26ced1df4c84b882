/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unnamed.c - see unnamed.h. There are two ways to name an open file. By its descriptor alone the
 * kernel lets everybody do it who opened it (Linux 6.10), before that only CAP_DAC_READ_SEARCH. By
 * /proc it lets everybody, where /proc is mounted.
 */
#include "store/unnamed.h"

#include "base/sys.h"

#include <errno.h>

/* A process that may open no more than LIMIT_LOW needs them for its connections and trees. */
#define LIMIT_LOW 256
#define SHARE     4     /* of the descriptors of a process one in so many */
#define MOST      16384 /* a round of commits seldom has more */

static unsigned room(void)
{
	uint64_t limit = sys_open_files_limit();

	return limit < LIMIT_LOW ? 0 : (unsigned)min_u64(limit / SHARE, MOST);
}

static int link_by(bool by_proc, int fd, int dir, const char *name)
{
	return by_proc ? sys_link_open_by_proc(fd, dir, name) : sys_link_open(fd, dir, name);
}

static int open_in(int dir, mode_t mode)
{
	return sys_openat(dir, ".", O_TMPFILE | O_WRONLY, mode);
}

void unnamed_init(struct unnamed *unnamed, int dir, const char *probe)
{
	unsigned most = room();
	int fd = most > 0 ? open_in(dir, 0600) : -EMFILE;
	int r;

	unnamed->most = 0;
	unnamed->by_proc = false;
	if (fd < 0)
		return;
	r = link_by(false, fd, dir, probe);
	if (r < 0) {
		unnamed->by_proc = true;
		r = link_by(true, fd, dir, probe);
	}
	if (r == 0) {
		unnamed->most = most;
		sys_unlinkat_quiet(dir, probe, 0);
	}
	sys_close(fd);
}

int unnamed_open(struct unnamed *unnamed, int dir, mode_t mode)
{
	int fd = -EMFILE;

	if (unnamed->most == 0)
		return -EOPNOTSUPP;
	if (atomic_fetch_add(&unnamed->count, 1) < unnamed->most)
		fd = open_in(dir, mode);
	if (fd < 0)
		atomic_fetch_sub(&unnamed->count, 1);
	return fd;
}

int unnamed_link(const struct unnamed *unnamed, int fd, int dir, const char *name)
{
	return link_by(unnamed->by_proc, fd, dir, name);
}

void unnamed_close(struct unnamed *unnamed, int fd)
{
	sys_close(fd);
	atomic_fetch_sub(&unnamed->count, 1);
}
