/* SPDX-License-Identifier: Apache-2.0 */
/* told.c - see told.h. Numbers of directories come from a peer, so the tree is a balanced one. */
#include "session/told.h"

#include "base/clock.h"
#include "store/prune.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>

#define STAGE "delete"

/* Beside its bytes, a name has an offset while it is looked for, and a share of what sorts them. */
#define NAME_BYTES 8u

#define SET_FIRST  ((size_t)1024)
#define SET_MIX    0x9e3779b97f4a7c15u

struct told {
	struct job job; /* first */
	uint64_t id;
	struct prune_names names;
	uint64_t bytes;  /* of receiver.told_bytes */
	const char *why; /* it is not pruned; NULL: it is */
	enum zh_outcome outcome;
};

/* A directory that is being pruned. */
struct pruned {
	struct receiver *receiver;
	uint64_t id;
};

static int no_memory(struct receiver *receiver)
{
	return session_failf(receiver->session, ZH_INTERNAL, ENOMEM, STAGE, "no memory");
}

static bool there_is_room(const struct receiver *receiver, uint64_t bytes)
{
	return atomic_load(&receiver->told_bytes) + bytes <= LIMIT_TOLD_BYTES;
}

/* ------------------------------ directories -------------------------------------------- */

/* Where key is, or would be. */
static size_t set_find(const struct inode_set *set, uint64_t key)
{
	size_t at = (size_t)(key * SET_MIX >> 32) & (set->cap - 1);

	while (set->slot[at] != 0 && set->slot[at] != key)
		at = (at + 1) & (set->cap - 1);
	return at;
}

static int set_grow(struct receiver *receiver)
{
	struct inode_set *set = &receiver->directories;
	struct inode_set grown = { .cap = set->cap ? 2 * set->cap : SET_FIRST,
		.count = set->count };
	uint64_t more = (grown.cap - set->cap) * sizeof(*grown.slot);

	if (!there_is_room(receiver, more))
		return -ENOBUFS;
	grown.slot = calloc(grown.cap, sizeof(*grown.slot));
	if (!grown.slot)
		return -ENOMEM;
	for (size_t i = 0; i < set->cap; i++)
		if (set->slot[i] != 0)
			grown.slot[set_find(&grown, set->slot[i])] = set->slot[i];
	free(set->slot);
	*set = grown;
	atomic_fetch_add(&receiver->told_bytes, more);
	return 0;
}

/* -EEXIST: another number has led there. Others: there is no room to remember it. */
static int note_directory(struct receiver *receiver, uint64_t dir)
{
	struct inode_set *set = &receiver->directories;
	uint64_t device, inode, key;
	size_t at;
	int r = dirs_identity(receiver->dirs, dir, &device, &inode);

	if (r == 0 && 2 * set->count >= set->cap)
		r = set_grow(receiver);
	if (r < 0)
		return r;
	key = inode + device * SET_MIX; /* a file system may have several devices */
	at = set_find(set, key);
	if (set->slot[at] == key)
		return -EEXIST;
	set->slot[at] = key;
	set->count++;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = ((const struct told *)a)->id, y = ((const struct told *)b)->id;

	return x < y ? -1 : x > y;
}

static struct told *find(struct receiver *receiver, uint64_t dir)
{
	const struct told key = { .id = dir };
	struct told **found = receiver->told ? tfind(&key, &receiver->told, compare) : NULL;

	return found ? *found : NULL;
}

int told_directory(struct receiver *receiver, uint64_t dir, bool made)
{
	struct told *told, **placed;
	int r;

	if (!(receiver->session->setup.tree & TREE_DELETE) || receiver->untold)
		return 0;
	if (made && receiver_is_dry(receiver)) /* there is none yet */
		return 0;
	r = note_directory(receiver, dir);
	if (r == 0 && made)
		return 0;
	told = calloc(1, sizeof(*told));
	if (!told)
		return no_memory(receiver);
	told->id = dir;
	if (r < 0) {
		told_stop(receiver);
		told->outcome = r == -EEXIST ? ZH_EXISTS : ZH_LIMIT;
		told->why = r == -EEXIST
				    ? "another name leads there, too: nothing more is removed"
				    : "too many directories to remember: nothing more is removed";
	}
	placed = tsearch(told, &receiver->told, compare);
	if (placed && *placed == told)
		return 0;
	free(told);
	return placed ? 0 : no_memory(receiver);
}

/* ------------------------------ names -------------------------------------------------- */

static void drop_names(struct receiver *receiver, struct told *told)
{
	prune_names_free(&told->names);
	atomic_fetch_sub(&receiver->told_bytes, told->bytes);
	told->bytes = 0;
}

void told_name(struct receiver *receiver, uint64_t dir, const char *name, size_t length)
{
	struct told *told = find(receiver, dir);
	uint64_t bytes = length + 1 + NAME_BYTES;

	if (!told || told->why)
		return;
	if (!there_is_room(receiver, bytes) || prune_names_add(&told->names, name, length) < 0) {
		told->outcome = ZH_LIMIT;
		told->why = "too many names to remember: nothing in it is removed";
		drop_names(receiver, told);
		return;
	}
	told->bytes += bytes;
	atomic_fetch_add(&receiver->told_bytes, bytes);
}

void told_stop(struct receiver *receiver)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	receiver->untold = true;
	while (receiver->pruning) /* until its next entry */
		(void)pthread_cond_wait(&receiver->pruned, &session->lock);
	(void)pthread_mutex_unlock(&session->lock);
}

void told_names(struct receiver *receiver, uint64_t dir, const struct wire_path *names)
{
	const char *name;
	uint8_t length;
	size_t at = 0;

	while (wire_path_next(names, &at, &name, &length))
		told_name(receiver, dir, name, length);
}

void told_pack(struct receiver *receiver, const uint8_t *table, size_t length)
{
	struct wire_member member;
	size_t at = 0;

	while (receiver->told && wire_pack_next(table, length, &at, &member))
		told_name(receiver, member.parent, member.name, member.name_length);
}

void told_end(struct receiver *receiver, uint64_t dir, bool complete)
{
	struct session *session = receiver->session;
	struct told *told = find(receiver, dir);

	if (!told)
		return;
	(void)tdelete(told, &receiver->told, compare);
	if (!complete || (receiver->untold && !told->why)) {
		told_free(receiver, told);
		return;
	}
	(void)pthread_mutex_lock(&session->lock);
	receiver->prune_bytes += told->bytes;
	receiver_queue(receiver, &told->job, JOB_PRUNE);
	(void)pthread_mutex_unlock(&session->lock);
}

void told_free(struct receiver *receiver, struct told *told)
{
	drop_names(receiver, told);
	free(told);
}

static void free_one(void *told)
{
	prune_names_free(&((struct told *)told)->names);
	free(told);
}

void told_free_all(struct receiver *receiver)
{
	tdestroy(receiver->told, free_one);
	receiver->told = NULL;
	free(receiver->directories.slot);
	receiver->directories = (struct inode_set){ 0 };
}

/* ------------------------------ pruning ------------------------------------------------ */

/* Both sides record it; the sender knows nothing of what only the receiver has. */
static void tell(struct pruned *pruned, const char *path, const struct zh_error *error)
{
	struct session *session = pruned->receiver->session;
	struct zh_error told = *error;
	char name[128];

	if (path[0] == '\0')
		path = ".";
	session_file_failed(session, path, strlen(path), error);
	zh_escape(path, strlen(path), name, sizeof(name));
	(void)snprintf(told.text, sizeof(told.text), "%.120s: %.120s", name, error->text);
	IGNORE(session_send_dir_err(session, pruned->id, &told)); /* it has failed the session */
}

/* prune.stays */
static void tell_what_stays(void *context, const char *path, int r, const char *what)
{
	struct zh_error error;

	err_init(&error);
	(void)err_set(&error, err_of_destination(r), r, STAGE, "%s", what);
	tell(context, path, &error);
}

/* prune.goes_on */
static bool goes_on(void *context)
{
	const struct pruned *pruned = context;
	struct session *session = pruned->receiver->session;
	bool ends;

	(void)pthread_mutex_lock(&session->lock);
	ends = session->aborted || pruned->receiver->untold;
	(void)pthread_mutex_unlock(&session->lock);
	return !ends && !atomic_load(&session->cancelled);
}

/* prune.spares: the manifest that is being written, or that it is to replace */
static bool is_manifest(void *context, const struct stat *st)
{
	const struct pruned *pruned = context;

	return manifest_is(pruned->receiver->session->manifest, st);
}

/* Rules know paths below the source, which the place may have under a name. */
static size_t rules_from(const struct receiver *receiver, const char *path)
{
	return receiver->mirrors_place ? 0 : strcspn(path, "/") + 1;
}

static int prune_told(struct pruned *pruned, struct told *told, struct prune *prune)
{
	struct receiver *receiver = pruned->receiver;
	struct zh_error error;
	int dir, r;

	prune->rules = receiver->rules;
	prune->goes_on = goes_on;
	prune->stays = tell_what_stays;
	prune->spares = receiver->session->manifest ? is_manifest : NULL;
	prune->context = pruned;
	prune->dry = receiver_is_dry(receiver);
	prune->removed = 0;
	(void)dirs_path(receiver->dirs, told->id, prune->path, sizeof(prune->path));
	prune->rules_from = rules_from(receiver, prune->path);
	if (told->why) {
		err_init(&error);
		(void)err_set(&error, told->outcome, 0, STAGE, "%s", told->why);
		tell(pruned, prune->path, &error);
		return 0;
	}
	r = dirs_get(receiver->dirs, told->id, &dir);
	if (r < 0) {
		tell_what_stays(pruned, prune->path, r,
			"the directory cannot be opened: nothing in it is removed");
		return 0;
	}
	r = prune_directory(prune, dir, &told->names);
	dirs_put(receiver->dirs, told->id);
	return r;
}

/* Nobody knows of the last entry before it has gone: see told_stop. */
static void set_pruning(struct receiver *receiver, bool pruning)
{
	(void)pthread_mutex_lock(&receiver->session->lock);
	receiver->pruning = pruning;
	(void)pthread_cond_broadcast(&receiver->pruned);
	(void)pthread_mutex_unlock(&receiver->session->lock);
}

int told_prune(struct receiver *receiver, struct told *told)
{
	struct session *session = receiver->session;
	uint64_t start_ns = clock_now_ns();
	struct pruned pruned = { .receiver = receiver, .id = told->id };
	struct prune *work = malloc(sizeof(*work));
	int r;

	set_pruning(receiver, true);
	r = work ? prune_told(&pruned, told, work) : -ENOMEM;
	set_pruning(receiver, false);
	if (work && work->removed > 0) {
		atomic_fetch_add(&session->deleted, work->removed);
		if (!work->dry)
			atomic_store(&receiver->names_unsynced, true);
	}
	free(work);
	(void)pthread_mutex_lock(&session->lock);
	receiver->prune_bytes -= told->bytes;
	(void)pthread_mutex_unlock(&session->lock);
	told_free(receiver, told);
	atomic_fetch_add(&session->disk_ns, clock_now_ns() - start_ns);
	return r == -ENOMEM ? no_memory(receiver) : 0;
}
