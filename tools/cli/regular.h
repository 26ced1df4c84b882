/* SPDX-License-Identifier: Apache-2.0 */
/* regular.h - a regular file that a user has named. */
#ifndef CLI_REGULAR_H
#define CLI_REGULAR_H

#include <stdint.h>

/*
 * Open path, which is no link, for O_RDONLY or O_RDWR. The caller closes *ret_fd. Returns ZH_OK, or
 * the outcome that one line on stderr has said.
 */
int regular_open(const char *path, int access, int *ret_fd, uint64_t *ret_bytes);

#endif
