/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.h - the directory that everything of a receiver (or a serving sender) happens under. Opened
 * once; from then on only single components are resolved, relative to held descriptors, never
 * through a link and never onto another file system.
 */
#ifndef ZH_STORE_ROOT_H
#define ZH_STORE_ROOT_H

#include "base/err.h"
#include "base/util.h"

#define ROOT_NAME_MAX 255
/* A name that is ours at every depth: no peer may enter, write or fetch what bears it. */
#define ROOT_RESERVED ".zerohaul-staging"

/* True for one component: no "/", no NUL, not "", "." or "..", not ROOT_RESERVED. */
bool root_name_ok(const char *name, size_t length);

/*
 * Opens a directory by a path that this host's user gave; links in it are followed, as the user
 * chose them. Fills err with CONFIG and the reason.
 */
int root_open(const char *path, struct zh_error *err) must_check;

enum root_kind { ROOT_ABSENT, ROOT_DIRECTORY, ROOT_FILE, ROOT_OTHER };

/*
 * What name is in dir, links not followed: a link is ROOT_OTHER.
 * Errors: -EINVAL not root_name_ok; what fstatat reports.
 */
int root_look(int dir, const char *name, enum root_kind *ret_kind, uint64_t *ret_size) must_check;

/*
 * Opens the directory name in dir: openat2 with RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS |
 * NO_XDEV; where the kernel lacks it (ENOSYS, EPERM) openat with O_NOFOLLOW and a check of the
 * device. Errors: -EINVAL not root_name_ok, -ELOOP or -ENOTDIR a link, -EXDEV another file system.
 */
int root_enter(int dir, const char *name) must_check;

/* The same for any kind of file and flags; the caller answers for name being one component. */
int root_open_inside(int dir, const char *name, int flags) must_check;

#endif
