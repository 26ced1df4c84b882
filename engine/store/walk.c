/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.c - see walk.h. On the way from the start to where the walk is, each directory has a frame:
 * the names of it that have been read and not yet been given. A directory too large for one batch
 * keeps the descriptor that it is read by, since a position in a directory means something to the
 * descriptor it was got from; any other is closed once it has been read.
 */
#include "store/walk.h"

#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdalign.h>

#define STAGE "walk"
/* A batch: some thousand names. */
#define BATCH_BYTES (128 * KIB)
/* Room that the longest entry of any file system fits in. */
#define ENTRY_ROOM 4096
#define PATH_CAP   ((DIRS_DEPTH_MOST + 1) * (ROOT_NAME_MAX + 1))

struct batch_name {
	uint64_t inode;
	const char *name; /* behind the array */
};

struct frame {
	uint64_t id;
	uint64_t parent;
	uint64_t inode;
	struct batch_name *batch; /* NULL: no names are left, or they are listed */
	size_t count;             /* names up to this one have yet to be given, */
	size_t next;              /* from this one on */
	size_t path_length;       /* of walk.path */
	int fd;                   /* -1: not read yet, or read to the end */
	int error;                /* why the rest is missing; to be given after the names */
	bool ended;               /* nothing is to be read any more */
	bool listed;              /* next and count are of walk.list */
	bool whole;               /* it was read to its end */
	bool cut;                 /* a name of it is longer than any that can be given */
};

struct walk {
	struct dirs *dirs;
	const struct walk_rules *rules;
	const struct walk_list *list; /* NULL: everything is to be found */
	uint64_t *next_id;
	uint64_t device;
	bool read_links;
	bool tells_left_out;
	int dir; /* the deepest frame's directory, held; -1: not */
	size_t depth;
	struct frame frame[DIRS_DEPTH_MOST + 1];
	char path[PATH_CAP]; /* of what was looked at last */
	char target[PATH_MAX];
	alignas(struct dirent64) char entries[BATCH_BYTES];
};

/* ------------------------------------------------------------------ frames ---------------------
 */

static struct frame *walk_top(struct walk *walk)
{
	return &walk->frame[walk->depth];
}

static void frame_drop_batch(struct frame *frame)
{
	free(frame->batch);
	frame->batch = NULL;
	frame->count = frame->next = 0;
}

/* Nothing more is read; error, if it is one, is given before the directory is left. */
static void frame_end(struct frame *frame, int error)
{
	sys_close(frame->fd);
	frame->fd = -1;
	frame->error = error;
	frame->ended = true;
	frame->whole = false;
}

/* Of the directory only these names are looked for, and it is not read. */
static void frame_list(struct frame *frame, size_t first, size_t end)
{
	frame->listed = frame->ended = true;
	frame->next = first;
	frame->count = end;
}

static void walk_let_go(struct walk *walk)
{
	if (walk->dir >= 0)
		dirs_put(walk->dirs, walk_top(walk)->id);
	walk->dir = -1;
}

/* Has the deepest frame's directory open, which is the one that its parent's entry told of. */
static int walk_hold(struct walk *walk)
{
	struct frame *frame = walk_top(walk);
	uint64_t device, inode;
	int r;

	if (walk->dir >= 0)
		return 0;
	r = dirs_get(walk->dirs, frame->id, &walk->dir);
	if (r < 0)
		return r;
	r = dirs_identity(walk->dirs, frame->id, &device, &inode);
	if (r == 0 && (device != walk->device || inode != frame->inode)) {
		walk_let_go(walk);
		r = -ESTALE;
	}
	return r;
}

static void walk_push(struct walk *walk, uint64_t id, uint64_t inode)
{
	uint64_t parent = walk_top(walk)->id;

	walk_let_go(walk);
	walk->depth++;
	*walk_top(walk) = (struct frame){ .id = id,
		.parent = parent,
		.inode = inode,
		.fd = -1,
		.path_length = strlen(walk->path) };
}

static void walk_pop(struct walk *walk)
{
	walk_let_go(walk);
	frame_end(walk_top(walk), 0);
	frame_drop_batch(walk_top(walk));
	walk->depth--;
}

/* ------------------------------------------------------------------ reading a directory --------
 */

static bool entry_wanted(const struct dirent64 *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
	       strcmp(entry->d_name, ROOT_RESERVED) != 0;
}

static int compare_inodes(const void *a, const void *b)
{
	uint64_t x = ((const struct batch_name *)a)->inode;
	uint64_t y = ((const struct batch_name *)b)->inode;

	return x < y ? -1 : x > y;
}

static const struct dirent64 *entry_at(const char *entries, size_t *offset)
{
	const struct dirent64 *entry = (const void *)(entries + *offset);

	*offset += entry->d_reclen;
	return entry;
}

/* Takes the names out of `bytes` of entries into memory of just their size. */
static int frame_take(struct frame *frame, const char *entries, size_t bytes)
{
	size_t count = 0, text_bytes = 0;
	char *text;

	for (size_t offset = 0; offset < bytes;) {
		const struct dirent64 *entry = entry_at(entries, &offset);
		if (entry_wanted(entry)) {
			count++;
			text_bytes += strlen(entry->d_name) + 1;
		}
	}
	if (count == 0)
		return 0;
	frame->batch = malloc(count * sizeof(*frame->batch) + text_bytes);
	if (!frame->batch)
		return -ENOMEM;
	text = (char *)(frame->batch + count);
	for (size_t offset = 0; offset < bytes;) {
		const struct dirent64 *entry = entry_at(entries, &offset);
		size_t length = strlen(entry->d_name) + 1;
		if (!entry_wanted(entry))
			continue;
		memcpy(text, entry->d_name, length);
		frame->batch[frame->count++] = (struct batch_name){ entry->d_ino, text };
		text += length;
	}
	qsort(frame->batch, count, sizeof(*frame->batch), compare_inodes);
	return 0;
}

/* The next batch of the deepest frame. -ENOMEM; a failing directory is noted in its frame. */
static int walk_read(struct walk *walk)
{
	struct frame *frame = walk_top(walk);
	size_t used = 0;
	ssize_t got = walk_hold(walk);

	if (got == 0 && frame->fd < 0) {
		/* a descriptor of our own: that of dirs has one position for all its users */
		frame->fd = sys_openat(walk->dir, ".", O_RDONLY | O_DIRECTORY, 0);
		got = frame->fd < 0 ? frame->fd : 0;
	}
	while (got >= 0 && sizeof(walk->entries) - used >= ENTRY_ROOM) {
		got = sys_getdents(frame->fd, walk->entries + used, sizeof(walk->entries) - used);
		if (got == 0)
			break;
		if (got > 0)
			used += (size_t)got;
	}
	if (got <= 0) {
		frame_end(frame, (int)got);
		frame->whole = got == 0;
	}
	return frame_take(frame, walk->entries, used);
}

/* ------------------------------------------------------------------ entries --------------------
 */

static void entry_init(
	struct walk_entry *entry, enum walk_kind kind, uint64_t parent, const char *name)
{
	memset(entry, 0, sizeof(*entry));
	err_init(&entry->error);
	entry->kind = kind;
	entry->parent = parent;
	TEXT_SET(entry->name, name);
}

/* Says what r means of the thing at walk->path. Returns 1: an entry is ready. */
static int walk_fail(struct walk *walk, struct walk_entry *entry, int r, const char *what)
{
	enum zh_outcome outcome = err_of_source(r);

	switch (-r) {
	case EXDEV:
		outcome = ZH_USAGE;
		what = "on another file system than the source";
		break;
	case EISDIR: /* it was listed, and not to be taken whole */
		outcome = ZH_USAGE;
		break;
	case ENAMETOOLONG:
	case ELOOP: /* links are not followed: what was a directory is one by now */
	case ENOTDIR:
		outcome = -r == ENAMETOOLONG ? ZH_LIMIT : ZH_SRC_CHANGED;
		break;
	default:
		break;
	}
	entry->kind = WALK_FAILED;
	entry->id = 0;
	(void)err_set(&entry->error, outcome, r, STAGE, "%s", what);
	err_file(&entry->error, walk->path, strlen(walk->path), 0);
	return 1;
}

static int walk_enter(struct walk *walk, struct walk_entry *entry)
{
	int r;

	if (entry->device != walk->device)
		return walk_fail(walk, entry, -EXDEV, "");
	r = dirs_add(walk->dirs, *walk->next_id, entry->parent, entry->name);
	if (r == -ENOMEM)
		return r;
	if (r == -EMFILE)
		(void)err_set(
			&entry->error, ZH_LIMIT, r, STAGE, "more than %u directories", DIRS_MOST);
	if (r < 0)
		return walk_fail(walk, entry, r, "the directory cannot be entered");
	entry->kind = WALK_DIRECTORY;
	entry->id = (*walk->next_id)++;
	walk_push(walk, entry->id, entry->inode);
	return 1;
}

static int walk_read_link(struct walk *walk, struct walk_entry *entry)
{
	ssize_t length;

	entry->kind = WALK_LINK;
	if (!walk->read_links)
		return 1;
	length = sys_readlinkat(walk->dir, entry->name, walk->target, sizeof(walk->target));
	if (length == (ssize_t)sizeof(walk->target))
		length = -ENAMETOOLONG;
	if (length < 0)
		return walk_fail(walk, entry, (int)length, "the link cannot be read");
	walk->target[length] = '\0';
	entry->target = walk->target;
	return 1;
}

static void entry_take(struct walk_entry *entry, const struct stat *st)
{
	entry->size = (uint64_t)st->st_size;
	entry->mtime_s = st->st_mtim.tv_sec;
	entry->mtime_ns = (uint32_t)st->st_mtim.tv_nsec;
	entry->mode = st->st_mode & 07777;
	entry->uid = st->st_uid;
	entry->gid = st->st_gid;
	entry->device = st->st_dev;
	entry->inode = st->st_ino;
	entry->links = st->st_nlink;
	entry->blocks = (uint64_t)st->st_blocks;
}

static void walk_set_path(struct walk *walk, const char *name)
{
	size_t used = walk_top(walk)->path_length;

	if (used > 0)
		walk->path[used++] = '/';
	text_set(walk->path + used, ROOT_NAME_MAX + 1, name);
}

/*
 * What bears the name in the deepest frame's directory. 1: *entry is set; of a WALK_DIRECTORY that
 * has yet to be entered. 0: it is left out.
 */
static int walk_look(struct walk *walk, const char *name, struct walk_entry *entry)
{
	struct stat st;
	bool directory;
	int r;

	entry_init(entry, WALK_FAILED, walk_top(walk)->id, name);
	walk_set_path(walk, name);
	if (strlen(name) > ROOT_NAME_MAX) {
		walk_top(walk)->cut = true;
		return walk_fail(walk, entry, -ENAMETOOLONG, "the name is too long");
	}
	r = sys_fstatat(walk->dir, name, &st, AT_SYMLINK_NOFOLLOW);
	directory = r < 0 || S_ISDIR(st.st_mode);
	if (!walk_rules_take(walk->rules, walk->path, directory) &&
		(r == 0 || !walk_rules_take(walk->rules, walk->path, false))) {
		entry->kind = WALK_LEFT_OUT;
		return walk->tells_left_out; /* even if it cannot be looked at */
	}
	if (r < 0)
		return walk_fail(walk, entry, r, "cannot be looked at");
	entry_take(entry, &st);
	if (S_ISLNK(st.st_mode))
		return walk_read_link(walk, entry);
	entry->kind = directory ? WALK_DIRECTORY : S_ISREG(st.st_mode) ? WALK_FILE : WALK_SPECIAL;
	return 1;
}

/* The next name of the deepest frame, which was read. 1: *entry is set. 0: it is left out. */
static int walk_take(struct walk *walk, struct walk_entry *entry)
{
	struct frame *frame = walk_top(walk);
	int r = walk_look(walk, frame->batch[frame->next++].name, entry);

	return r == 1 && entry->kind == WALK_DIRECTORY ? walk_enter(walk, entry) : r;
}

/* ------------------------------------------------------------------ listed names ---------------
 */

/* Enters the directory that names from first on have in common; `whole` if it is listed itself. */
static int walk_enter_listed(struct walk *walk, size_t first, bool whole, struct walk_entry *entry)
{
	struct frame *frame = walk_top(walk);
	size_t end = walk_list_end(walk->list, first, frame->count, walk->depth);
	int r = walk_enter(walk, entry);

	if (r != 1 || entry->kind != WALK_DIRECTORY)
		return r; /* each of the names fails by itself */
	frame->next = end;
	if (!whole)
		frame_list(walk_top(walk), first, end);
	return 1;
}

/* The same for the next component of a listed name; last: it ends there. */
static int walk_find_listed(
	struct walk *walk, const char *name, bool last, struct walk_entry *entry)
{
	size_t first = walk_top(walk)->next++;
	int r = walk_look(walk, name, entry);

	if (r != 1 || entry->kind == WALK_FAILED)
		return r;
	if (strcmp(name, ROOT_RESERVED) == 0)
		return walk_fail(walk, entry, -ENOENT, "a name that is not sent");
	if (entry->kind != WALK_DIRECTORY)
		return last ? 1 : walk_fail(walk, entry, -ENOENT, "it would be in no directory");
	if (last && !walk_list_takes_whole(walk->list))
		return walk_fail(walk, entry, -EISDIR, "only files are to be sent");
	return walk_enter_listed(walk, first, last, entry);
}

/* The next listed name. 1: *entry is set. 0: it is left out, or comes again. */
static int walk_take_listed(struct walk *walk, struct walk_entry *entry)
{
	size_t first = walk_top(walk)->next;
	const char *rest = walk_list_rest(walk->list, first, walk->depth);
	const char *more = walk_list_rest(walk->list, first, walk->depth + 1);
	size_t length = strcspn(rest, "/");
	char name[ROOT_NAME_MAX + 2]; /* one that is too long stays it */
	int r;

	if (walk_list_is_repeated(walk->list, first)) {
		walk_top(walk)->next++;
		return 0;
	}
	text_set(name, min_size(length + 1, sizeof(name)), rest);
	if (length == 0) { /* the start itself, which is not to be taken whole */
		walk_top(walk)->next++;
		entry_init(entry, WALK_FAILED, walk_top(walk)->id, "");
		return walk_fail(walk, entry, -EISDIR, "only files are to be sent");
	}
	r = walk_find_listed(walk, name, *more == '\0', entry);
	if (r == 1 && entry->kind == WALK_FAILED)
		TEXT_SET(entry->name, rest);
	return r;
}

/* ------------------------------------------------------------------ the walk -------------------
 */

/* The start is listed itself, with everything in it. */
static bool is_everything(const struct walk_list *list)
{
	return walk_list_takes_whole(list) && walk_list_count(list) > 0 &&
	       *walk_list_rest(list, 0, 0) == '\0';
}

int walk_new(struct dirs *dirs, uint64_t start, const struct walk_rules *rules,
	const struct walk_list *list, bool read_links, uint64_t *next_id, struct walk **ret_walk)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	struct frame *frame;
	int r;

	if (!walk)
		return -ENOMEM;
	walk->dirs = dirs;
	walk->rules = rules;
	walk->list = list;
	walk->read_links = read_links;
	walk->next_id = next_id;
	frame = walk_top(walk);
	*frame = (struct frame){ .id = start, .parent = start, .fd = -1 };
	if (list && !is_everything(list))
		frame_list(frame, 0, walk_list_count(list));
	r = dirs_get(dirs, start, &walk->dir);
	if (r == 0)
		r = dirs_identity(dirs, start, &walk->device, &frame->inode);
	if (r < 0) {
		free(walk);
		return r;
	}
	*ret_walk = walk;
	return 0;
}

/* A directory without names in hand and without more to read is left. 0: that was the start. */
static int walk_leave(struct walk *walk, struct walk_entry *entry)
{
	struct frame *frame = walk_top(walk);
	const char *name;

	walk->path[frame->path_length] = '\0';
	name = strrchr(walk->path, '/');
	entry_init(entry, WALK_LEAVE, frame->parent, name ? name + 1 : walk->path);
	entry->whole = frame->whole && !frame->cut;
	if (frame->error < 0) {
		int error = frame->error;
		frame->error = 0;
		return walk_fail(walk, entry, error, "the directory cannot be read");
	}
	if (walk->depth == 0)
		return 0;
	entry->id = frame->id;
	walk_pop(walk);
	return 1;
}

int walk_next(struct walk *walk, struct walk_entry *ret_entry)
{
	for (;;) {
		struct frame *frame = walk_top(walk);
		int r = 0;

		if (frame->next < frame->count) {
			r = walk_hold(walk);
			if (r == 0) {
				r = frame->listed ? walk_take_listed(walk, ret_entry)
						  : walk_take(walk, ret_entry);
			} else {
				frame_drop_batch(frame);
				frame_end(frame, r);
				r = 0;
			}
		} else if (!frame->ended) {
			frame_drop_batch(frame);
			r = walk_read(walk);
		} else {
			return walk_leave(walk, ret_entry);
		}
		if (r != 0)
			return r;
	}
}

void walk_tell_left_out(struct walk *walk)
{
	walk->tells_left_out = true;
}

void walk_skip(struct walk *walk)
{
	frame_drop_batch(walk_top(walk));
	frame_end(walk_top(walk), 0);
}

void walk_free(struct walk *walk)
{
	if (!walk)
		return;
	while (walk->depth > 0)
		walk_pop(walk);
	walk_let_go(walk);
	frame_end(walk_top(walk), 0);
	frame_drop_batch(walk_top(walk));
	free(walk);
}
