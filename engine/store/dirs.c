/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirs.c - see dirs.h. Numbers come from a peer, so they are kept in a tree that stays balanced
 * whatever they are. A directory that has a descriptor and no user is in a list, and closed when
 * that becomes too long. The lock is let go of while the system is asked; the directory in hand and
 * its parent have a user meanwhile, and so stay.
 */
#include "store/dirs.h"

#include "base/sys.h"

#include <errno.h>
#include <pthread.h>
#include <search.h>

struct dir {
	uint64_t id; /* first: keys of the tree are compared by it */
	struct dir *parent;
	struct dir *older, *newer; /* among the idle ones */
	const char *name;
	uint64_t device, inode; /* of the first opening, when seen */
	int fd;                 /* -1: closed */
	unsigned users;
	unsigned children;
	unsigned depth;
	bool seen;
	bool made;
	bool left;
	bool forgotten;
};

struct dirs {
	pthread_mutex_t lock;
	struct dir top;
	void *tree;      /* of tsearch(3): all but the top */
	struct dir idle; /* the end of both ways through the list: newer is the oldest */
	unsigned count;
	unsigned idle_count;
	unsigned open_most;
};

/* What dirs_make wants of an opening; nobody else has one. */
struct making {
	mode_t mode;
	bool made;
};

static int compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int dirs_new(int top, unsigned open_most, struct dirs **ret_dirs)
{
	struct dirs *dirs = calloc(1, sizeof(*dirs));
	struct stat st = { 0 };
	int r;

	if (!dirs)
		return -ENOMEM;
	r = top < 0 ? 0 : sys_fstat(top, &st);
	if (r < 0) {
		free(dirs);
		return r;
	}
	(void)pthread_mutex_init(&dirs->lock, NULL);
	dirs->top = (struct dir){ .name = "",
		.fd = top,
		.users = 1, /* the caller's: never idle */
		.device = st.st_dev,
		.inode = st.st_ino,
		.seen = top >= 0 };
	dirs->idle.older = dirs->idle.newer = &dirs->idle;
	dirs->open_most = open_most;
	*ret_dirs = dirs;
	return 0;
}

static void dir_free(void *dir)
{
	sys_close(((struct dir *)dir)->fd);
	free(dir);
}

void dirs_free(struct dirs *dirs)
{
	if (!dirs)
		return;
	tdestroy(dirs->tree, dir_free);
	(void)pthread_mutex_destroy(&dirs->lock);
	free(dirs);
}

/* Also one that is forgotten and kept. */
static struct dir *dirs_find(struct dirs *dirs, uint64_t id)
{
	struct dir **found;

	if (id == 0)
		return &dirs->top;
	found = tfind(&id, &dirs->tree, compare_ids);
	return found ? *found : NULL;
}

static struct dir *dirs_find_known(struct dirs *dirs, uint64_t id)
{
	struct dir *dir = dirs_find(dirs, id);

	return dir && !dir->forgotten ? dir : NULL;
}

/* ------------------------------------------------------------------ the idle ones --------------
 */

static void idle_remove(struct dirs *dirs, struct dir *dir)
{
	dir->older->newer = dir->newer;
	dir->newer->older = dir->older;
	dirs->idle_count--;
}

static void idle_add(struct dirs *dirs, struct dir *dir)
{
	dir->older = dirs->idle.older;
	dir->newer = &dirs->idle;
	dir->older->newer = dir->newer->older = dir;
	dirs->idle_count++;
	while (dirs->idle_count > dirs->open_most) {
		struct dir *oldest = dirs->idle.newer;
		idle_remove(dirs, oldest);
		sys_close(oldest->fd);
		oldest->fd = -1;
	}
}

/* ------------------------------------------------------------------ users ----------------------
 */

/* Frees what is forgotten and has neither users nor children, and what it alone has kept. */
static void dir_drop(struct dirs *dirs, struct dir *dir)
{
	while (dir->forgotten && dir->users == 0 && dir->children == 0) {
		struct dir *parent = dir->parent;
		if (dir->fd >= 0)
			idle_remove(dirs, dir);
		(void)tdelete(dir, &dirs->tree, compare_ids);
		dir_free(dir);
		dirs->count--;
		parent->children--;
		dir = parent;
	}
}

static void dir_hold(struct dirs *dirs, struct dir *dir)
{
	if (dir->users++ == 0 && dir->fd >= 0)
		idle_remove(dirs, dir);
}

static void dir_release(struct dirs *dirs, struct dir *dir)
{
	CHECK(dir->users > 0);
	if (--dir->users > 0)
		return;
	if (dir->fd >= 0)
		idle_add(dirs, dir);
	dir_drop(dirs, dir);
}

/* ------------------------------------------------------------------ opening --------------------
 */

/* Opens name in the directory parent, after making it if that is wanted. */
static int enter(int parent, const char *name, struct making *making, struct stat *ret_stat)
{
	int fd, r = 0;

	if (making) {
		r = sys_mkdirat(parent, name, making->mode | S_IRWXU);
		making->made = r == 0;
		if (r < 0 && r != -EEXIST)
			return r;
	}
	fd = root_enter(parent, name);
	r = fd < 0 ? fd : sys_fstat(fd, ret_stat);
	if (r >= 0)
		return fd;
	sys_close(fd);
	if (making && making->made) {
		sys_unlinkat_quiet(parent, name, AT_REMOVEDIR);
		making->made = false;
	}
	return making && r == -ELOOP ? -ENOTDIR : r;
}

/* Gives dir, which is held, a descriptor by way of its parent, which is held and open. */
static int dir_open(struct dirs *dirs, struct dir *dir, struct making *making)
{
	int parent = dir->parent->fd;
	struct stat st;
	int fd;

	(void)pthread_mutex_unlock(&dirs->lock);
	fd = enter(parent, dir->name, making, &st);
	(void)pthread_mutex_lock(&dirs->lock);
	if (fd < 0)
		return fd;
	if (!dir->seen) {
		dir->device = st.st_dev;
		dir->inode = st.st_ino;
		dir->seen = true;
	} else if (dir->device != st.st_dev || dir->inode != st.st_ino) {
		sys_close(fd);
		return -ESTALE;
	}
	if (dir->fd >= 0) /* another thread was faster */
		sys_close(fd);
	else
		dir->fd = fd;
	return 0;
}

/*
 * Holds and opens dir. Recursion goes as deep as the tree; on the way back at most two directories
 * are held open.
 */
static int dir_acquire(struct dirs *dirs, struct dir *dir, struct making *making)
{
	int r = 0;

	dir_hold(dirs, dir);
	if (dir->fd < 0) {
		r = dir->parent ? dir_acquire(dirs, dir->parent, NULL) : -EBADF;
		if (r == 0) {
			r = dir_open(dirs, dir, making);
			dir_release(dirs, dir->parent);
		}
	}
	if (r < 0)
		dir_release(dirs, dir);
	return r;
}

/* ------------------------------------------------------------------ numbers --------------------
 */

static int dirs_insert(
	struct dirs *dirs, uint64_t id, uint64_t parent_id, const char *name, struct dir **ret_dir)
{
	struct dir *parent = dirs_find_known(dirs, parent_id);
	size_t length = strlen(name);
	struct dir *dir;

	if (!root_name_ok(name, length))
		return -EINVAL;
	if (dirs_find(dirs, id))
		return -EEXIST;
	if (!parent)
		return -ENOENT;
	if (parent->depth == DIRS_DEPTH_MOST)
		return -ENAMETOOLONG;
	if (dirs->count == DIRS_MOST)
		return -EMFILE;
	dir = malloc(sizeof(*dir) + length + 1);
	if (!dir)
		return -ENOMEM;
	*dir = (struct dir){ .id = id,
		.parent = parent,
		.fd = -1,
		.depth = parent->depth + 1,
		.name = (char *)(dir + 1) };
	memcpy(dir + 1, name, length + 1);
	if (!tsearch(dir, &dirs->tree, compare_ids)) {
		free(dir);
		return -ENOMEM;
	}
	parent->children++;
	dirs->count++;
	*ret_dir = dir;
	return 0;
}

int dirs_add(struct dirs *dirs, uint64_t id, uint64_t parent, const char *name)
{
	struct dir *dir;
	int r;

	(void)pthread_mutex_lock(&dirs->lock);
	r = dirs_insert(dirs, id, parent, name, &dir);
	(void)pthread_mutex_unlock(&dirs->lock);
	return r;
}

int dirs_make(struct dirs *dirs, uint64_t id, uint64_t parent, const char *name, mode_t mode,
	bool *ret_made)
{
	struct making making = { .mode = mode };
	struct dir *dir;
	int r;

	(void)pthread_mutex_lock(&dirs->lock);
	r = dirs_insert(dirs, id, parent, name, &dir);
	if (r == 0) {
		dir_hold(dirs, dir);
		r = dir_acquire(dirs, dir, &making);
		if (r == 0)
			dir_release(dirs, dir);
		dir->made = making.made;
		dir->forgotten = r < 0;
		dir_release(dirs, dir);
	}
	(void)pthread_mutex_unlock(&dirs->lock);
	*ret_made = making.made;
	return r;
}

int dirs_get(struct dirs *dirs, uint64_t id, int *ret_fd)
{
	struct dir *dir;
	int r = -ENOENT;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	if (dir)
		r = dir_acquire(dirs, dir, NULL);
	if (r == 0)
		*ret_fd = dir->fd;
	(void)pthread_mutex_unlock(&dirs->lock);
	return r;
}

void dirs_put(struct dirs *dirs, uint64_t id)
{
	struct dir *dir;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find(dirs, id);
	CHECK(dir);
	dir_release(dirs, dir);
	(void)pthread_mutex_unlock(&dirs->lock);
}

bool dirs_is_new(struct dirs *dirs, uint64_t id)
{
	const struct dir *dir;
	bool new;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	new = dir && dir->made;
	(void)pthread_mutex_unlock(&dirs->lock);
	return new;
}

void dirs_leave(struct dirs *dirs, uint64_t id)
{
	struct dir *dir;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	if (dir)
		dir->left = true;
	(void)pthread_mutex_unlock(&dirs->lock);
}

bool dirs_is_left(struct dirs *dirs, uint64_t id)
{
	const struct dir *dir;
	bool left;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	left = dir && dir->left;
	(void)pthread_mutex_unlock(&dirs->lock);
	return left;
}

bool dirs_knows(struct dirs *dirs, uint64_t id)
{
	(void)pthread_mutex_lock(&dirs->lock);
	bool known = dirs_find_known(dirs, id);
	(void)pthread_mutex_unlock(&dirs->lock);
	return known;
}

int dirs_identity(struct dirs *dirs, uint64_t id, uint64_t *ret_device, uint64_t *ret_inode)
{
	struct dir *dir;
	int r = -ENOENT;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	if (dir && dir->seen) {
		*ret_device = dir->device;
		*ret_inode = dir->inode;
		r = 0;
	}
	(void)pthread_mutex_unlock(&dirs->lock);
	return r;
}

size_t dirs_path(struct dirs *dirs, uint64_t id, char *ret_path, size_t cap)
{
	const char *name[DIRS_DEPTH_MOST];
	size_t count = 0, used = 0;

	if (cap == 0)
		return 0;
	(void)pthread_mutex_lock(&dirs->lock);
	for (struct dir *dir = dirs_find(dirs, id); dir && dir->parent; dir = dir->parent)
		name[count++] = dir->name;
	while (count > 0 && used < cap - 1) {
		size_t length = min_size(strlen(name[--count]), cap - 1 - used);
		memcpy(ret_path + used, name[count], length);
		used += length;
		if (count > 0 && used < cap - 1)
			ret_path[used++] = '/';
	}
	(void)pthread_mutex_unlock(&dirs->lock);
	ret_path[used] = '\0';
	return used;
}

void dirs_forget(struct dirs *dirs, uint64_t id)
{
	struct dir *dir;

	(void)pthread_mutex_lock(&dirs->lock);
	dir = dirs_find_known(dirs, id);
	if (dir && dir != &dirs->top) {
		dir->forgotten = true;
		dir_drop(dirs, dir);
	}
	(void)pthread_mutex_unlock(&dirs->lock);
}
