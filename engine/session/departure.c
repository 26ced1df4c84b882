/* SPDX-License-Identifier: Apache-2.0 */
/* departure.c - see departure.h. */
#include "session/departure.h"

#include "kernel/file.h"
#include "move/plan.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

/* Of a path in a message; longer ones lose their beginning. */
#define PATH_SHOWN  1024
#define PATH_LISTED (MANIFEST_PATH_MAX + 1)

struct departure *departure_find(const struct sender *sender, uint64_t id)
{
	struct departure *departure = sender->window[id % DEPARTURES];

	return departure && departure->id == id && departure->announced ? departure : NULL;
}

void departure_advance(struct departure *departure, enum departure_state to)
{
	CHECK(departure_may_follow(departure->state, to));
	departure->state = to;
}

bool departure_is_settled(const struct departure *departure)
{
	return departure->state == DEPARTURE_DONE || departure->state == DEPARTURE_FAILED ||
	       departure->state == DEPARTURE_SKIPPED;
}

static void pack_free(struct pack *pack)
{
	if (!pack)
		return;
	free(pack->table);
	free(pack->folder);
	free(pack->state);
	free(pack->digest);
	free(pack);
}

/* Lets go of everything but the number and how it ended. */
static void departure_empty(struct departure *departure)
{
	source_close(&departure->source);
	free(departure->plan);
	holes_free(&departure->holes);
	free(departure->resends);
	free(departure->proof);
	free(departure->proved);
	departure->plan = NULL;
	departure->resends = departure->proved = NULL;
	departure->proof = NULL;
}

void departure_free(struct departure *departure)
{
	if (!departure)
		return;
	departure_empty(departure);
	pack_free(departure->pack);
	free(departure->name);
	free(departure);
}

struct held departure_shed(struct departure *departure)
{
	struct held held = { NULL, NULL };

	if (!departure_is_settled(departure) || departure->frames > 0 || departure->ending)
		return held;
	departure_empty(departure);
	held = (struct held){ departure->folder, departure->pack };
	departure->folder = NULL;
	departure->pack = NULL;
	return held;
}

bool sender_is_done(const struct sender *sender)
{
	return sender->announced && sender->open_files == 0 && sender->open_packs == 0 &&
	       !sender->folder;
}

/* The control thread says BYE, and may be asleep. Locked. */
static void sender_look(struct sender *sender)
{
	if (sender_is_done(sender))
		session_nudge(sender->session);
}

void departure_settle(struct sender *sender, struct departure *departure, enum departure_state to)
{
	departure_advance(departure, to);
	schedule_drop(&sender->schedule, departure->id);
	(*(departure->pack ? &sender->open_packs : &sender->open_files))--;
	sender->open_members -= departure->pack ? (uint32_t)departure->pack->count : 0;
	(void)pthread_cond_signal(&sender->room);
	sender_look(sender);
}

/* ------------------------------ folders ------------------------------------------------ */

static void tree_free(struct tree *tree)
{
	dirs_free(tree->dirs);
	sys_close(tree->fd);
	free(tree);
}

void folders_free(struct sender *sender)
{
	while (sender->folder) {
		struct folder *folder = sender->folder;
		sender->folder = folder->next;
		if (--folder->tree->folders == 0)
			tree_free(folder->tree);
		free(folder->attributes.bytes);
		free(folder->name);
		free(folder);
	}
}

int send_attributes(
	struct sender *sender, uint64_t id, uint8_t flags, const struct attributes *attributes)
{
	struct frame frame = {
		.type = FRAME_ATTR, .flags = flags, .length = attributes->length, .id = id
	};

	return attributes->bytes ? session_send(sender->session, &frame, attributes->bytes) : 0;
}

static int send_leave(struct sender *sender, const struct folder *folder)
{
	uint8_t bytes[WIRE_LEAVE_BYTES];
	struct wire_leave leave = {
		.mtime_s = folder->mtime_s,
		.mtime_ns = folder->mtime_ns,
		.mode = folder->mode,
	};
	struct frame frame = {
		.type = FRAME_LEAVE, .flags = folder->whole ? LEAVE_COMPLETE : 0, .id = folder->id
	};
	int length = wire_build_leave(&leave, bytes, sizeof(bytes));
	int r = 0;

	if (folder->id != 0) /* the place keeps its own */
		r = send_attributes(sender, folder->id, ATTR_DIRECTORY, &folder->attributes);
	CHECK(length > 0);
	frame.length = (uint32_t)length;
	return r < 0 ? r : session_send(sender->session, &frame, bytes);
}

/* Or one above it. Locked. */
static bool is_failed(const struct folder *folder)
{
	for (; folder; folder = folder->parent)
		if (folder->failed)
			return true;
	return false;
}

bool folder_is_failed(struct sender *sender, const struct folder *folder)
{
	struct session *session = sender->session;

	(void)pthread_mutex_lock(&session->lock);
	bool failed = is_failed(folder);
	(void)pthread_mutex_unlock(&session->lock);
	return failed;
}

/* LEAVE has been sent: only now may the session end, for want of folders. */
static void folder_forget(struct sender *sender, struct folder *folder)
{
	struct session *session = sender->session;
	struct tree *tree = folder->tree;

	if (tree->root != folder)
		dirs_forget(tree->dirs, folder->id);
	(void)pthread_mutex_lock(&session->lock);
	*(folder->prev ? &folder->prev->next : &sender->folder) = folder->next;
	if (folder->next)
		folder->next->prev = folder->prev;
	sender->folders--;
	sender->attribute_bytes -= folder->attributes.length;
	bool last = !sender->folder;
	bool last_of_tree = --tree->folders == 0;
	(void)pthread_cond_signal(&sender->room);
	(void)pthread_mutex_unlock(&session->lock);
	if (last_of_tree)
		tree_free(tree);
	if (last)
		session_nudge(session);
	free(folder->attributes.bytes);
	free(folder->name);
	free(folder);
}

int folder_release(struct sender *sender, struct folder *folder)
{
	struct session *session = sender->session;
	int r = 0;

	while (folder) {
		struct folder *parent = folder->parent;
		(void)pthread_mutex_lock(&session->lock);
		bool last = --folder->users == 0;
		bool leave = (folder->id != 0 || folder->whole) && !is_failed(folder);
		(void)pthread_mutex_unlock(&session->lock);
		if (!last)
			break;
		if (r == 0 && leave)
			r = send_leave(sender, folder);
		folder_forget(sender, folder);
		folder = parent;
	}
	return r;
}

void folder_path(const struct folder *folder, const char *name, char *ret_path, size_t cap)
{
	size_t at = cap - 1;
	const char *part = name;

	ret_path[at] = '\0';
	while (part) {
		size_t length = strlen(part);
		if (length + 1 > at)
			break; /* what fits is enough for a person */
		if (length > 0 && ret_path[at] != '\0')
			ret_path[--at] = '/';
		at -= length;
		memcpy(ret_path + at, part, length);
		part = folder ? folder->name : NULL;
		folder = folder ? folder->parent : NULL;
	}
	memmove(ret_path, ret_path + at, cap - at);
}

int held_release(struct sender *sender, const struct held *held)
{
	struct pack *pack = held->pack;
	int r = 0;

	if (held->folder)
		r = folder_release(sender, held->folder);
	for (size_t i = 0; pack && i < pack->count; i++) {
		int left = folder_release(sender, pack->folder[i]);
		r = r < 0 ? r : left;
	}
	pack_free(pack);
	return r;
}

/* A link that the receiver had. */
static void list_link(struct session *session, const struct folder *folder,
	const struct wire_member *member, const char *path)
{
	struct dirs *dirs = folder->tree->dirs;
	uint64_t id = folder == folder->tree->root ? 0 : folder->id;
	char target[PATH_MAX];
	ssize_t length;
	int dir;

	if (dirs_get(dirs, id, &dir) < 0)
		return;
	length = sys_readlinkat(dir, member->name, target, sizeof(target));
	dirs_put(dirs, id);
	if (length > 0)
		session_list_link(session, path, target, (size_t)length);
}

static void list_pack(struct session *session, const struct departure *departure)
{
	const struct pack *pack = departure->pack;
	struct wire_member member;
	char path[PATH_LISTED];
	size_t at = 0;

	for (size_t i = 0; wire_pack_next(pack->table, pack->table_length, &at, &member); i++) {
		bool came = pack->state[i] == MEMBER_WANTED;
		bool there = pack->state[i] == 0 && departure->proof;
		if (!came && !there)
			continue;
		folder_path(pack->folder[i], member.name, path, sizeof(path));
		if (member.kind == MEMBER_LINK && there)
			list_link(session, pack->folder[i], &member, path);
		if (member.kind == MEMBER_LINK)
			continue; /* one that came was listed as it was read */
		session_list_member(
			session, path, &member, came ? &pack->digest[i] : &departure->proof[i]);
	}
}

void departure_list(const struct sender *sender, const struct departure *departure)
{
	const struct source *source = &departure->source;
	char path[PATH_LISTED];

	if (!sender->session->manifest)
		return;
	if (departure->pack) {
		list_pack(sender->session, departure);
		return;
	}
	folder_path(departure->folder, departure->name, path, sizeof(path));
	session_list_file(sender->session, path, source->size, source->mode, source->mtime_s,
		source->mtime_ns, &departure->root);
}

void departure_list_lacking(struct session *session, const struct departure *departure)
{
	const struct pack *pack = departure->pack;
	struct wire_member member;
	char path[PATH_LISTED];
	size_t at = 0;

	if (!session->list)
		return;
	if (!pack && !departure->in_place) {
		folder_path(departure->folder, departure->name, path, sizeof(path));
		session_list_lacking(session, path, departure->size, false);
	}
	for (size_t i = 0; pack && wire_pack_next(pack->table, pack->table_length, &at, &member);
		i++) {
		if (pack->state[i] != MEMBER_WANTED)
			continue;
		folder_path(pack->folder[i], member.name, path, sizeof(path));
		session_list_lacking(session, path, member.size, member.kind == MEMBER_LINK);
	}
}

/* ------------------------------ failing ------------------------------------------------ */

static void record_failure(struct sender *sender, const struct folder *folder, const char *name,
	const struct zh_error *error)
{
	struct zh_error shown = *error;
	char path[PATH_SHOWN];

	if (folder)
		shown.file[0] = '\0'; /* who set it knows less of where that is */
	folder_path(folder, name, path, sizeof(path));
	session_file_failed(sender->session, path, strlen(path), &shown);
}

/* Every member that has not failed by itself. */
static void record_pack_failure(
	struct sender *sender, const struct pack *pack, const struct zh_error *error)
{
	struct wire_member member;
	size_t at = 0;

	for (size_t i = 0; wire_pack_next(pack->table, pack->table_length, &at, &member); i++)
		if (!(pack->state[i] & MEMBER_FAILED))
			record_failure(sender, pack->folder[i], member.name, error);
}

/* The receiver hears of a name that it does not know otherwise. */
static int tell_failure(
	struct sender *sender, const struct departure *departure, const struct zh_error *error)
{
	struct zh_error told = *error;
	char path[PATH_SHOWN];
	char name[128];

	if (departure->unnamed) {
		folder_path(departure->folder, departure->name, path, sizeof(path));
		zh_escape(path, strlen(path), name, sizeof(name));
		(void)snprintf(told.text, sizeof(told.text), "%.120s: %.120s", name, error->text);
	}
	return session_send_err(sender->session, departure->id, 0, &told);
}

int departure_fail(
	struct sender *sender, struct departure *departure, const struct zh_error *error, bool tell)
{
	struct session *session = sender->session;
	bool mine;
	int r = 0;

	(void)pthread_mutex_lock(&session->lock);
	mine = !departure_is_settled(departure);
	if (mine) {
		departure->frames++; /* what is recorded is needed until then */
		departure_settle(sender, departure, DEPARTURE_FAILED);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return 0;
	if (departure->pack)
		record_pack_failure(sender, departure->pack, error);
	else
		record_failure(sender, departure->folder, departure->name, error);
	if (tell)
		r = tell_failure(sender, departure, error);
	int left = departure_put(sender, departure);
	return r < 0 ? r : left;
}

int member_fail(struct sender *sender, struct departure *departure, size_t index,
	const struct zh_error *error, bool tell)
{
	struct session *session = sender->session;
	struct pack *pack = departure->pack;
	struct wire_member member = { .name = "" };
	size_t at = 0;
	bool mine;

	(void)pthread_mutex_lock(&session->lock);
	mine = !departure_is_settled(departure) && !(pack->state[index] & MEMBER_FAILED);
	if (mine) {
		pack->state[index] |= MEMBER_FAILED;
		for (size_t i = 0; i <= index; i++)
			(void)wire_pack_next(pack->table, pack->table_length, &at, &member);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return 0;
	record_failure(sender, pack->folder[index], member.name, error);
	return tell ? session_send_err(session, departure->id, index + 1, error) : 0;
}

/* ------------------------------ ending ------------------------------------------------- */

bool departure_leaves_no_cache(const struct session *session, const struct departure *departure)
{
	return session->setup.cache == ZH_CACHE_DROP ||
	       (session->setup.cache == ZH_CACHE_AUTO &&
		       plan_is_large_and_cold(
			       departure->source.size, departure->plan->resident_permille));
}

static void note_cache(struct session *session, const struct departure *departure)
{
	uint64_t size = departure->source.size;

	session_note_cache(session,
		file_bytes_of_permille(size, departure->plan->resident_permille),
		file_leave(
			departure->source.fd, size, departure_leaves_no_cache(session, departure)));
}

int departure_fail_changed(struct sender *sender, struct departure *departure)
{
	struct zh_error error;

	err_init(&error);
	(void)err_set(&error, ZH_SRC_CHANGED, 0, "send", "the source changed while it was sent");
	return departure_fail(sender, departure, &error, true);
}

/* Tells the root, unless the source has changed under us. */
static int tell_end(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	struct wire_end end = { .root = departure->root, .size = departure->size };
	struct zh_error error;
	uint8_t bytes[64];
	int r = departure->pack ? 0 : source_unchanged(&departure->source);

	if (r == -ESTALE)
		return departure_fail_changed(sender, departure);
	if (r < 0) {
		err_init(&error);
		(void)err_set(&error, ZH_SRC_IO, r, "send", "the source cannot be examined");
		return departure_fail(sender, departure, &error, true);
	}
	if (!departure->pack) {
		note_cache(session, departure);
		end.mtime_s = departure->source.mtime_s;
		end.mtime_ns = departure->source.mtime_ns;
	}
	int length = wire_build_end(&end, bytes, sizeof(bytes));
	CHECK(length > 0);
	struct frame frame = { .type = FRAME_END, .length = (uint32_t)length, .id = departure->id };
	return session_send(session, &frame, bytes);
}

/*
 * All that was asked for is on its way: END, once, after departure_end_is_due. What a NAK asks for
 * after that has to lead to the same root.
 */
int departure_send_end(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	int r = tell_end(sender, departure), left;
	struct held held;

	(void)pthread_mutex_lock(&session->lock);
	departure->ending = false;
	held = departure_shed(departure); /* if the answer was quicker */
	(void)pthread_mutex_unlock(&session->lock);
	left = held_release(sender, &held);
	return r < 0 ? r : left;
}

bool departure_end_is_due(struct departure *departure)
{
	if (departure->state != DEPARTURE_SENDING || departure->unsent > 0 || departure->frames > 0)
		return false;
	departure_advance(departure, DEPARTURE_ENDED);
	departure->ending = true;
	departure->root = leaf_root(&departure->sum, departure->size);
	return true;
}

int departure_put(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	struct held held;
	int r;

	(void)pthread_mutex_lock(&session->lock);
	departure->frames--;
	bool due = departure_end_is_due(departure); /* NEED may have come meanwhile */
	held = departure_shed(departure);
	(void)pthread_mutex_unlock(&session->lock);
	r = held_release(sender, &held);
	return due ? departure_send_end(sender, departure) : r;
}

bool departure_end_was_wrong(const struct departure *departure)
{
	struct digest root;

	if (departure->state != DEPARTURE_ENDED || departure->unsent > 0 || departure->frames > 0)
		return false;
	root = leaf_root(&departure->sum, departure->size);
	return !digest_equal(&root, &departure->root);
}
