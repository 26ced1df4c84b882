/* SPDX-License-Identifier: Apache-2.0 */
/* regular.c - opens regular files, and nothing that would make an opener wait. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zerohaul.h>

#include "regular.h"
#include "say.h"

static int refuse(const char *path, int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ENOTDIR:
		return say_file(ZH_SRC_GONE, path, strerror(errnum));
	case ELOOP:
		return say_file(ZH_USAGE, path, "is a symbolic link");
	case EISDIR:
		return say_file(ZH_USAGE, path, "is a directory");
	case ENXIO:
		return say_file(ZH_USAGE, path, "is not a regular file");
	default:
		return say_file(ZH_SRC_IO, path, strerror(errnum));
	}
}

int regular_open(const char *path, int access, int *ret_fd, uint64_t *ret_bytes)
{
	struct stat stat;
	int fd = open(path, access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return refuse(path, errno);
	const char *wrong = fstat(fd, &stat) < 0     ? strerror(errno)
			    : S_ISDIR(stat.st_mode)  ? "is a directory"
			    : !S_ISREG(stat.st_mode) ? "is not a regular file"
						     : NULL;
	if (wrong) {
		close(fd);
		return say_file(ZH_USAGE, path, wrong);
	}
	*ret_fd = fd;
	*ret_bytes = (uint64_t)stat.st_size;
	return ZH_OK;
}
