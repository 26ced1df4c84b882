/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receiver.c - see receiver.h.
 *
 * The control thread makes directories (DIR), places files (FILE, PACK) and learns their roots
 * (END). Stream threads move DATA into the partial, or into memory for a pack, and compare digests
 * (SUM); a leaf counts once it is right and nothing of it is in flight to the disk any more. The
 * settling thread (settle.c) proves what was there before and makes complete files visible and
 * durable.
 */
#include "session/receiver.h"

#include "base/clock.h"
#include "session/told.h"
#include "store/root.h"
#include "store/scratch.h"

#include <errno.h>

#define DIRECTORIES_OPEN  4u                  /* that are kept open, for each file that may be */
#define KEPT_LEAST        (8 * MIB)           /* smaller partials are not worth taking up again */
#define PROOF_LEAVES_MOST ((uint64_t)1 << 20) /* 16 bytes are kept for each */

static const struct session_role_ops receiver_ops;

int receiver_new(struct session *session, int root, struct receiver **ret_receiver)
{
	struct receiver *receiver = calloc(1, sizeof(*receiver));

	if (!receiver)
		return -ENOMEM;
	receiver->session = session;
	receiver->place = root;
	receiver->next_id = receiver->low_id = 1;
	receiver->credit = WINDOW;
	staging_init(&receiver->staging, root);
	(void)pthread_cond_init(&receiver->jobs, NULL);
	(void)pthread_cond_init(&receiver->pruned, NULL);
	session->role = ROLE_RECEIVER;
	session->ops = &receiver_ops;
	session->role_state = receiver;
	int r = settler_start(receiver);
	if (r < 0) {
		staging_fini(&receiver->staging);
		free(receiver);
		return r;
	}
	*ret_receiver = receiver;
	return 0;
}

int receiver_place(struct receiver *receiver, int directory, const char *only_name)
{
	int r = dirs_new(directory, DIRECTORIES_OPEN * session_open_most(receiver->session),
		&receiver->dirs);

	if (r == 0)
		r = batch_new(&receiver->staging, receiver->dirs, &receiver->batch);
	receiver->place = directory;
	TEXT_SET(receiver->only_name, only_name ? only_name : "");
	return r;
}

int receiver_ask(struct receiver *receiver, const char *name, size_t length)
{
	struct asked *grown;

	receiver->asks = true;
	if (!name)
		return 0;
	grown = reallocarray(receiver->asked, receiver->asked_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	receiver->asked = grown;
	grown[receiver->asked_count] = (struct asked){ .name = strndup(name, length) };
	if (!grown[receiver->asked_count].name)
		return -ENOMEM;
	receiver->asked_count++;
	return 0;
}

int receiver_rule(struct receiver *receiver, const char *pattern, bool exclude)
{
	int r = receiver->rules ? 0 : walk_rules_new(&receiver->rules);

	return r < 0 ? r : walk_rules_add(receiver->rules, pattern, exclude);
}

int receiver_mirror_place(struct receiver *receiver)
{
	/* what is to have a name of its own is beside others in the place */
	receiver->mirrors_place = receiver->only_name[0] == '\0';
	return receiver->mirrors_place ? told_directory(receiver, 0, false) : 0;
}

bool receiver_has_all(const struct receiver *receiver)
{
	for (uint64_t i = 0; i < receiver->asked_count; i++)
		if (!receiver->asked[i].came && receiver->asked[i].name[0] != '\0')
			return false;
	return true;
}

/* What is worth taking up by a later transfer of the same file is left in staging. */
static void keep_partial(const struct session *session, struct arrival *arrival)
{
	bool broken = session->aborted && !arrival_is_finished(arrival);

	if (broken && arrival->partial.fd >= 0 && arrival->size >= KEPT_LEAST)
		partial_keep(&arrival->partial);
}

static void arrival_free(struct receiver *receiver, struct arrival *arrival)
{
	if (!arrival)
		return;
	keep_partial(receiver->session, arrival);
	arrival->state = ARRIVAL_FAILED; /* no thread is left that could mind */
	arrival->users = 0;
	struct leftovers leftovers = arrival_take_unused(arrival);
	leftovers_discard(receiver, &leftovers);
	free(arrival);
}

/* Ends the settling thread; what is unfinished is discarded. */
static void receiver_clear(struct receiver *receiver)
{
	if (receiver->cleared)
		return;
	receiver->cleared = true;
	settler_stop(receiver);
	for (size_t i = 0; i < WINDOW; i++) {
		arrival_free(receiver, receiver->window[i]);
		receiver->window[i] = NULL;
	}
	told_free_all(receiver);
	batch_free(receiver->batch);
	if (!receiver_is_dry(receiver))
		scratch_sweep(&receiver->staging);
	receiver->batch = NULL;
	dirs_free(receiver->dirs);
	receiver->dirs = NULL;
	staging_fini(&receiver->staging);
}

static void receiver_finish(struct session *session)
{
	receiver_clear(session->role_state);
}

void receiver_free(struct receiver *receiver)
{
	if (!receiver)
		return;
	receiver_clear(receiver);
	for (uint64_t i = 0; i < receiver->asked_count; i++)
		free(receiver->asked[i].name);
	free(receiver->asked);
	walk_rules_free(receiver->rules);
	(void)pthread_cond_destroy(&receiver->jobs);
	(void)pthread_cond_destroy(&receiver->pruned);
	free(receiver);
}

/* ------------------------------ placing ------------------------------------------------ */

static int proto(struct session *session, const char *what)
{
	return session_failf(session, ZH_PROTO, 0, "control connection", "%s", what);
}

/* Whoever said LEAVE can have nothing more in it: what is not told yet may be gone. */
static bool is_left(const struct receiver *receiver, uint64_t dir)
{
	return receiver->dirs && dirs_is_left(receiver->dirs, dir);
}

static int proto_left(struct session *session)
{
	return proto(session, "a frame for a directory that was left");
}

/* What this side has asked for comes once, and nothing else does. */
static bool may_be_here(struct receiver *receiver, const char *name)
{
	bool whole_place = false;

	for (uint64_t i = 0; i < receiver->asked_count; i++) {
		struct asked *asked = &receiver->asked[i];
		if (!asked->came && strcmp(asked->name, name) == 0) {
			asked->came = true;
			return true;
		}
		whole_place |= asked->name[0] == '\0';
	}
	return whole_place || !receiver->asks;
}

/* Checks a name that a peer has chosen, and puts the one in its place that a user has. */
static int check_name(
	struct receiver *receiver, uint64_t parent, char *name, size_t cap, struct zh_error *err)
{
	if (parent == 0 && !may_be_here(receiver, name))
		return err_set(err, ZH_UNSAFE_NAME, 0, "announce",
			"the server sends another name than was asked for");
	if (parent == 0 && receiver->only_name[0])
		text_set(name, cap, receiver->only_name);
	if (wire_name_strict(name, strlen(name)) < 0 || strcmp(name, STAGING_DIRECTORY) == 0)
		return err_set(err, ZH_UNSAFE_NAME, 0, "check name",
			"the name has control characters, is not UTF-8, or is reserved");
	return 0;
}

/* What bears a name in dir, which may be none: *ret_stat, st_mode 0 when nothing does. */
static int look(int dir, const char *name, struct stat *ret_stat)
{
	int r = dir < 0 ? -ENOENT : sys_fstatat(dir, name, ret_stat, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT)
		ret_stat->st_mode = 0;
	return r == -ENOENT ? 0 : r;
}

/* What is there now may forbid a file before a byte is moved. */
static int check_target(const struct stat *st, bool no_clobber, struct zh_error *err)
{
	if (st->st_mode != 0 && !S_ISREG(st->st_mode))
		return err_set(err, ZH_EXISTS, 0, "look at destination",
			"the destination is a %s and will not be replaced",
			S_ISDIR(st->st_mode) ? "directory" : "link or special file");
	if (st->st_mode != 0 && no_clobber)
		return err_set(err, ZH_EXISTS, 0, "look at destination",
			"the destination exists and is not to be replaced");
	return 0;
}

/* Whether what is there may be what is coming, by what the session goes by. */
static bool may_be_same(const struct session *session, const struct stat *st, uint64_t size,
	int64_t mtime_s, uint32_t mtime_ns)
{
	if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size != size)
		return false;
	return session->setup.existing == WIRE_EXISTING_DIGEST ||
	       (st->st_mtim.tv_sec == mtime_s && (uint32_t)st->st_mtim.tv_nsec == mtime_ns);
}

static bool name_is_open(const struct receiver *receiver, const struct arrival *arrival)
{
	struct session *session = receiver->session;
	bool open = false;

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t id = receiver->low_id; id < arrival->id && !open; id++) {
		const struct arrival *other = arrival_find(receiver, id);
		open = other && !arrival_is_finished(other) && other->parent == arrival->parent &&
		       strcmp(other->name, arrival->name) == 0;
	}
	(void)pthread_mutex_unlock(&session->lock);
	return open;
}

static bool is_made(struct receiver *receiver, uint64_t dir)
{
	uint64_t device, inode;

	return dirs_identity(receiver->dirs, dir, &device, &inode) == 0;
}

/*
 * Holds the directory of what is coming; in a dry run it may only be about to be made: *ret_fd is
 * -1 then, and there is nothing to be put. 1: it was announced, but is not there.
 */
static int hold_parent(
	struct receiver *receiver, uint64_t parent, int *ret_fd, struct zh_error *err)
{
	int r = dirs_get(receiver->dirs, parent, ret_fd);

	if (r == -ENOENT && parent > receiver->last_dir)
		return proto(receiver->session, "a directory that was not announced");
	if (r == -ENOENT && receiver_is_dry(receiver) && dirs_knows(receiver->dirs, parent)) {
		*ret_fd = -1;
		return 0;
	}
	if (r < 0 && !is_made(receiver, parent)) {
		(void)err_set(err, ZH_DST_IO, 0, "open directory",
			"the directory that it is in could not be made");
		return 1;
	}
	if (r < 0)
		(void)err_set(err, err_of_destination(r), r, "open directory",
			"the directory that it is in could not be made or opened");
	return r < 0;
}

/* ------------------------------ what is there already ---------------------------------- */

static struct proof *proof_new(uint64_t units)
{
	struct proof *proof = calloc(1, sizeof(*proof));

	if (!proof)
		return NULL;
	proof->fd = -1;
	proof->claimed = calloc(units, sizeof(*proof->claimed));
	proof->asked = calloc(1, units / 8 + 1);
	if (proof->claimed && proof->asked)
		return proof;
	free(proof->claimed);
	free(proof->asked);
	free(proof);
	return NULL;
}

static void ask_proof(struct proof *proof, uint64_t unit)
{
	proof->asked[unit / 8] |= (uint8_t)(1u << unit % 8);
	proof->awaited++;
}

/* A leaf that may be there. What a hole holds is known without asking. */
static void ask_leaf(struct arrival *arrival, uint64_t leaf)
{
	struct proof *proof = arrival->proof;

	if (!holes_has_leaf(&arrival->holes, leaf)) {
		ask_proof(proof, leaf);
	} else if (proof->fd >= 0) { /* in a partial holes are made at the end */
		ask_proof(proof, leaf);
		proof->awaited--;
		proof->claimed[leaf] = digest_of_zeros(
			(size_t)min_u64(LEAF_BYTES, arrival->size - leaf * LEAF_BYTES));
	}
}

/* What is asked for and not known, as ranges of bytes or members. Returns how many. */
static size_t asked_ranges(const struct arrival *arrival, struct zh_extent *ret_range)
{
	const struct proof *proof = arrival->proof;
	uint64_t units = arrival->pack ? arrival->pack->count : leaf_count(arrival->size);
	uint64_t unit = arrival->pack ? 1 : LEAF_BYTES;
	size_t count = 0;
	bool open = false;

	for (uint64_t i = 0; i < units; i++) {
		bool asks =
			proof->asked[i / 8] & 1u << i % 8 && !holes_has_leaf(&arrival->holes, i);
		if (asks && !open)
			ret_range[count++] = (struct zh_extent){ i * unit, 0 };
		if (asks)
			ret_range[count - 1].length += unit;
		open = asks;
	}
	if (!arrival->pack && open)
		ret_range[count - 1].length = arrival->size - ret_range[count - 1].offset;
	return count;
}

/* Asks for the digests of what may be there. */
static int send_prove(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	struct zh_extent *range = calloc(WIRE_RANGES_MAX, sizeof(*range));
	uint8_t *bytes = malloc(FRAME_PAYLOAD_CAP);
	struct frame need = { .type = FRAME_NEED, .flags = NEED_PROVE, .id = arrival->id };
	int length, r;

	if (!bytes || !range) {
		free(bytes);
		free(range);
		return session_failf(session, ZH_INTERNAL, ENOMEM, "NEED", "no memory");
	}
	length = wire_build_ranges(range, asked_ranges(arrival, range), bytes, FRAME_PAYLOAD_CAP);
	CHECK(length > 0);
	need.length = (uint32_t)length;
	(void)pthread_mutex_lock(&session->lock);
	bool open = !arrival_is_finished(arrival);
	if (open)
		arrival_advance(arrival, ARRIVAL_PROVING);
	(void)pthread_mutex_unlock(&session->lock);
	r = open ? session_send(session, &need, bytes) : 0;
	free(bytes);
	free(range);
	return r;
}

/*
 * The leaves of these ranges, which are sorted, may be there: in fd, which becomes the proof's, or
 * with -1 in the partial. 1: none is worth a question.
 */
static int prove_ranges(struct receiver *receiver, struct arrival *arrival,
	const struct zh_extent *range, size_t count, int fd)
{
	uint64_t leaves = leaf_count(arrival->size);

	if (count == 0 || leaves > PROOF_LEAVES_MOST) {
		sys_close(fd);
		return 1;
	}
	arrival->proof = proof_new(leaves);
	if (!arrival->proof) {
		sys_close(fd);
		return session_failf(receiver->session, ZH_INTERNAL, ENOMEM, "NEED", "no memory");
	}
	arrival->proof->fd = fd;
	for (size_t i = 0; i < count; i++)
		for (uint64_t at = 0; at < range[i].length; at += LEAF_BYTES)
			ask_leaf(arrival, (range[i].offset + at) / LEAF_BYTES);
	if (arrival->proof->awaited > 0)
		return send_prove(receiver, arrival);
	proof_free(arrival->proof); /* it is a hole from end to end */
	arrival->proof = NULL;
	return 1;
}

/* What an earlier transfer has left in the partial. 1: nothing. */
static int prove_partial(struct receiver *receiver, struct arrival *arrival)
{
	struct zh_extent *range;
	size_t count = 0;
	int r = 1;

	if (!arrival->partial.kept)
		return 1;
	range = calloc(WIRE_RANGES_MAX, sizeof(*range));
	if (range && partial_written(&arrival->partial, range, WIRE_RANGES_MAX, &count) == 0)
		r = prove_ranges(receiver, arrival, range, count, -1);
	free(range);
	return r;
}

/* The file that has the name now. 1: it cannot be read, so the new one is sent. */
static int prove_target(struct receiver *receiver, struct arrival *arrival)
{
	struct zh_extent all = { 0, arrival->size };
	int fd = root_open_inside(
		arrival->parent_fd, arrival->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? 1 : prove_ranges(receiver, arrival, &all, 1, fd);
}

/* ------------------------------ one file ----------------------------------------------- */

/* Takes the next id, which has to be this one, and puts a new arrival there. */
static struct arrival *take_id(struct receiver *receiver, uint64_t id)
{
	struct session *session = receiver->session;
	struct arrival *arrival = calloc(1, sizeof(*arrival)), *old = NULL;
	bool allowed;

	if (!arrival)
		return NULL;
	arrival->id = id;
	arrival->partial.fd = arrival->parent_fd = -1;
	(void)pthread_mutex_lock(&session->lock);
	old = receiver->window[id % WINDOW];
	/* Credit ends before an open file is reached, but DATA may still come for a failed one. */
	allowed = id == receiver->next_id && id < receiver->credit &&
		  (!old || arrival_is_over(old)) &&
		  (!receiver->asks || session->setup.tree & TREE_RECURSIVE ||
			  id <= receiver->asked_count);
	if (allowed) {
		receiver->window[id % WINDOW] = arrival;
		receiver->next_id++;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!allowed) {
		free(arrival);
		return NULL;
	}
	arrival_free(receiver, old);
	return arrival;
}

static int skip_file(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	struct frame need = { .type = FRAME_NEED, .flags = NEED_TRUSTED, .id = arrival->id };

	arrival->in_place = true;
	if (!arrival_skip(receiver, arrival))
		return 0;
	return session_send(session, &need, NULL);
}

/* Memory, the way in, and what has to be there before the first byte. */
static int prepare(
	struct receiver *receiver, struct arrival *arrival, bool keep, struct zh_error *err)
{
	uint64_t leaves = leaf_count(arrival->size);
	int r = 0;

	arrival->have = calloc(1, leaves / 8 + 1);
	if (!arrival->have)
		return err_set(err, ZH_INTERNAL, ENOMEM, "open partial", "no memory");
	if (!arrival->discard && !receiver_is_dry(receiver))
		r = arrival_open_partial(receiver, arrival, keep, err);
	if (r == 0)
		arrival_skip_holes(receiver, arrival);
	return r < 0 || receiver_is_dry(receiver) ? r : arrival_plan(receiver, arrival, err);
}

/* Looks at what is there, and asks for what is lacking or for proof. */
static int place_file(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	struct session *session = receiver->session;
	struct stat st = { .st_mode = 0 };
	bool same = false;
	int r = 0;

	if (!arrival->discard) {
		r = look(arrival->parent_fd, arrival->name, &st);
		if (r < 0)
			return err_set(err, err_of_destination(r), r, "look at destination",
				"cannot look");
		same = arrival->size > 0 && may_be_same(session, &st, arrival->size,
						    arrival->mtime_s, arrival->mtime_ns);
		if (!same || arrival->no_clobber)
			r = check_target(&st, arrival->no_clobber, err);
		if (r == 0 && name_is_open(receiver, arrival))
			r = err_set(err, ZH_EXISTS, 0, "check name",
				"another file of this session has the same name");
		if (r < 0)
			return r;
	}
	(void)pthread_mutex_lock(&session->lock);
	arrival_advance(arrival, ARRIVAL_ALLOCATED);
	(void)pthread_mutex_unlock(&session->lock);
	if (same && session->setup.existing == WIRE_EXISTING_TRUST)
		return skip_file(receiver, arrival);
	if (same) {
		arrival->have = calloc(1, leaf_count(arrival->size) / 8 + 1);
		r = arrival->have ? prove_target(receiver, arrival) : 1;
		if (r <= 0)
			return r;
		free(arrival->have);
	}
	r = prepare(receiver, arrival, true, err);
	if (r < 0)
		return r;
	r = arrival->discard ? 1 : prove_partial(receiver, arrival);
	return r == 1 ? arrival_send_need(receiver, arrival, 0) : r;
}

static int frame_file(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_file file;
	struct zh_error error;
	int parsed = wire_parse_file(session->control.payload, frame->length, &file);
	struct arrival *arrival;
	int r;

	if (parsed == -EPROTO)
		return proto(session, "malformed FILE");
	if (!receiver->dirs)
		return proto(session, "FILE without a place");
	arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "FILE with an id out of order or beyond the credit");
	atomic_fetch_add(&session->files_known, 1);
	if (parsed == 0 && is_left(receiver, file.parent))
		return proto_left(session);
	if (parsed == 0)
		told_name(receiver, file.parent, file.name, file.name_length);
	else
		told_stop(receiver);
	err_init(&error);
	if (parsed == -ERANGE)
		(void)err_set(&error, ZH_LIMIT, EFBIG, "announce", "the file is too large");
	else if (parsed < 0)
		(void)err_set(&error, ZH_UNSAFE_NAME, 0, "announce", "a name that cannot be");
	else
		(void)check_name(receiver, file.parent, file.name, sizeof(file.name), &error);
	if (parsed == 0) {
		TEXT_SET(arrival->name, file.name);
		arrival->parent = file.parent;
	}
	if (err_is_set(&error))
		return arrival_fail(receiver, arrival, &error, true);
	arrival->size = file.size;
	arrival->mode = file.mode;
	arrival->mtime_s = file.mtime_s;
	arrival->mtime_ns = file.mtime_ns;
	arrival->no_clobber = session->no_clobber || frame->flags & FILE_NO_CLOBBER;
	arrival->discard = session_discards(session);
	atomic_fetch_add(&session->bytes_known, file.size);
	r = arrival->discard ? 0 : hold_parent(receiver, file.parent, &arrival->parent_fd, &error);
	arrival->holes.sparse = frame->flags & FILE_SPARSE;
	if (r == 0 && !arrival->holes.sparse)
		r = place_file(receiver, arrival, &error);
	if (r < 0 && !err_is_set(&error))
		return r;
	return err_is_set(&error) ? arrival_fail(receiver, arrival, &error, true) : 0;
}

/* The extents of a sparse file, which can be placed now. */
static int frame_map(struct receiver *receiver, struct arrival *arrival, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct holes *holes = &arrival->holes;
	struct zh_extent *extent = calloc(WIRE_RANGES_MAX, sizeof(*extent));
	struct zh_error error;
	size_t count = 0;
	bool expected;
	int r;

	if (!extent)
		return session_failf(session, ZH_INTERNAL, ENOMEM, "MAP", "no memory");
	r = wire_parse_ranges(
		session->control.payload, frame->length, extent, WIRE_RANGES_MAX, &count);
	if (r == 0 && count > 0 &&
		extent[count - 1].offset + extent[count - 1].length > arrival->size)
		r = -EPROTO;
	(void)pthread_mutex_lock(&session->lock);
	bool failed = arrival->state == ARRIVAL_FAILED;
	expected = arrival->state == ARRIVAL_ANNOUNCED && holes->sparse && !holes->extent;
	if (r == 0 && expected)
		*holes = (struct holes){ .extent = extent, .count = count, .sparse = true };
	(void)pthread_mutex_unlock(&session->lock);
	if (r < 0 || !expected) {
		free(extent);
		return r == 0 && failed ? 0
					: proto(session, "MAP that does not belong to its FILE");
	}
	err_init(&error);
	r = place_file(receiver, arrival, &error);
	if (r < 0 && !err_is_set(&error))
		return r;
	return err_is_set(&error) ? arrival_fail(receiver, arrival, &error, true) : 0;
}

/* ------------------------------ packs -------------------------------------------------- */

static struct arriving_pack *pack_new(
	const uint8_t *table, size_t length, size_t count, bool listed)
{
	struct arriving_pack *pack = calloc(1, sizeof(*pack));

	if (!pack)
		return NULL;
	pack->table = malloc(length);
	pack->at = calloc(count, sizeof(*pack->at));
	pack->file = calloc(count, sizeof(*pack->file));
	pack->state = calloc(count, 1);
	pack->digest = listed ? calloc(count, sizeof(*pack->digest)) : NULL;
	if (!pack->table || !pack->at || !pack->file || !pack->state || (listed && !pack->digest)) {
		arriving_pack_free(pack);
		return NULL;
	}
	memcpy(pack->table, table, length);
	pack->table_length = length;
	pack->count = count;
	return pack;
}

/* Files refer to the names in the table. True when one is a link. */
static bool fill_files(struct receiver *receiver, struct arrival *arrival)
{
	const struct session *session = receiver->session;
	struct arriving_pack *pack = arrival->pack;
	struct wire_member member;
	bool links = false;
	size_t at = 0;

	for (size_t i = 0; i < pack->count; i++) {
		pack->at[i] = (uint32_t)at;
		(void)wire_pack_next(pack->table, pack->table_length, &at, &member);
		bool own = member.parent == 0 && receiver->only_name[0];
		pack->file[i] = (struct batch_file){
			.parent = member.parent,
			.name = own ? receiver->only_name
				    : (const char *)pack->table + at - member.name_length,
			.name_length = own ? strlen(receiver->only_name) : member.name_length,
			.link = member.kind == MEMBER_LINK,
			.no_clobber = arrival->no_clobber,
			.set_owner = session->setup.tree & TREE_OWNER,
			.uid = member.uid,
			.gid = member.gid,
			.no_xattrs = attributes_kinds(&session->setup) & XATTR_ACL,
			.mode = member.mode,
			.mtime_s = member.mtime_s,
			.mtime_ns = member.mtime_ns,
		};
		links |= member.kind == MEMBER_LINK;
	}
	return links;
}

/* A link replaces a link, and a file a file. */
static int check_member(const struct stat *st, const struct wire_member *member, bool no_clobber,
	struct zh_error *err)
{
	if (member->kind == MEMBER_LINK && S_ISREG(st->st_mode))
		return err_set(err, ZH_EXISTS, 0, "look at destination",
			"the destination is a file and will not be replaced by a link");
	return check_target(st, no_clobber, err);
}

/* Whether a member has to come: MEMBER_WANTED, MEMBER_ASKED, or 0: it is there. */
static int place_member(struct receiver *receiver, struct arrival *arrival,
	struct wire_member *member, struct zh_error *err)
{
	struct session *session = receiver->session;
	struct stat st;
	bool same;
	int dir, r;

	if (is_left(receiver, member->parent))
		return proto_left(session);
	if (check_name(receiver, member->parent, member->name, sizeof(member->name), err) < 0)
		return -EINVAL;
	if (dirs_is_new(receiver->dirs, member->parent))
		return MEMBER_WANTED; /* a name that came meanwhile is found by the commit */
	r = hold_parent(receiver, member->parent, &dir, err);
	if (r != 0)
		return r < 0 ? r : -ENOENT;
	r = look(dir, member->name, &st);
	if (dir >= 0)
		dirs_put(receiver->dirs, member->parent);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, "look at destination", "cannot look");
	bool both_links = member->kind == MEMBER_LINK && S_ISLNK(st.st_mode);
	same = member->kind == MEMBER_FILE
		       ? may_be_same(session, &st, member->size, member->mtime_s, member->mtime_ns)
		       : both_links && (uint64_t)st.st_size == member->size;
	if ((!both_links || arrival->no_clobber) &&
		check_member(&st, member, arrival->no_clobber, err) < 0)
		return -EEXIST;
	if (!same)
		return MEMBER_WANTED;
	if (session->setup.existing != WIRE_EXISTING_TRUST)
		return MEMBER_ASKED;
	return both_links ? MEMBER_WANTED : 0; /* the size of a link says too little */
}

/* Members that may be there: asks for their digests. 1: there are none. */
static int prove_members(struct receiver *receiver, struct arrival *arrival)
{
	const struct arriving_pack *pack = arrival->pack;

	arrival->proof = proof_new(pack->count);
	if (!arrival->proof)
		return session_failf(receiver->session, ZH_INTERNAL, ENOMEM, "NEED", "no memory");
	for (size_t i = 0; i < pack->count; i++)
		if (pack->state[i] & MEMBER_ASKED)
			ask_proof(arrival->proof, i);
	return arrival->proof->awaited > 0 ? send_prove(receiver, arrival) : 1;
}

/* Decides about each member, and tells of those that cannot be. */
static int place_pack(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	struct arriving_pack *pack = arrival->pack;
	bool trusted = session->setup.existing == WIRE_EXISTING_TRUST;
	uint64_t bytes = 0;
	int r = 0;

	for (size_t i = 0; i < pack->count && r == 0; i++) {
		struct wire_member member;
		struct zh_error error;
		size_t at = pack->at[i];
		err_init(&error);
		(void)wire_pack_next(pack->table, pack->table_length, &at, &member);
		int state = arrival->discard ? (int)MEMBER_WANTED
					     : place_member(receiver, arrival, &member, &error);
		bytes += member.size;
		if (err_is_set(&error))
			r = arrival_fail_member(receiver, arrival, i, &error, true);
		else if (state < 0)
			return state;
		else
			pack->state[i] = (uint8_t)state;
	}
	atomic_fetch_add(&session->bytes_known, bytes);
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&session->lock);
	arrival_advance(arrival, ARRIVAL_ALLOCATED);
	(void)pthread_mutex_unlock(&session->lock);
	r = trusted || arrival->discard ? 1 : prove_members(receiver, arrival);
	return r == 1 ? arrival_need_pack(receiver, arrival, trusted ? NEED_TRUSTED : 0) : r;
}

static int frame_pack(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	const uint8_t *table = session->control.payload;
	struct arrival *arrival;
	uint32_t bytes = 0;
	size_t count = 0;

	if (wire_parse_pack(table, frame->length, &count, &bytes) < 0)
		return proto(session, "malformed PACK");
	if (!receiver->dirs || !(session->setup.tree & TREE_RECURSIVE))
		return proto(session, "PACK without a place, or where no tree was asked for");
	arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "PACK with an id out of order or beyond the credit");
	atomic_fetch_add(&session->files_known, (uint32_t)count);
	told_pack(receiver, table, frame->length);
	arrival->no_clobber = session->no_clobber || frame->flags & PACK_NO_CLOBBER;
	arrival->discard = session_discards(session);
	arrival->have = calloc(1, 1); /* all of it is one leaf */
	arrival->pack = pack_new(table, frame->length, count, session->manifest != NULL);
	if (!arrival->pack || !arrival->have)
		return session_failf(session, ZH_INTERNAL, ENOMEM, "PACK", "no memory");
	if (atomic_fetch_add(&receiver->members, (uint32_t)count) + count > LIMIT_OPEN_MEMBERS)
		return session_failf(
			session, ZH_LIMIT, 0, "PACK", "too many files in packs at once");
	if (fill_files(receiver, arrival) && !(session->setup.tree & TREE_LINKS))
		return proto(session, "a symbolic link though none is to be sent");
	return place_pack(receiver, arrival);
}

/* ------------------------------ directories -------------------------------------------- */

static int fail_directory(struct receiver *receiver, uint64_t id, const struct wire_file *dir,
	const struct zh_error *error)
{
	char path[1024];

	receiver_path(receiver, dir->parent, dir->name, path, sizeof(path));
	session_file_failed(receiver->session, path, strlen(path), error);
	return session_send_dir_err(receiver->session, id, error);
}

static void list_directory(struct receiver *receiver, const struct wire_file *dir)
{
	char path[MANIFEST_PATH_MAX + 1];

	if (!receiver->session->manifest)
		return;
	receiver_path(receiver, dir->parent, dir->name, path, sizeof(path));
	session_list_directory(receiver->session, path, dir->mode);
}

static int describe_dir_error(struct zh_error *error, int r)
{
	static const char stage[] = "make directory";

	switch (r) {
	case -ENOTDIR:
		return err_set(error, ZH_EXISTS, r, stage, "something else has its name");
	case -EMFILE:
		return err_set(error, ZH_LIMIT, r, stage, "more than %u directories", DIRS_MOST);
	case -ENAMETOOLONG:
		return err_set(error, ZH_LIMIT, r, stage, "it is too deep");
	default:
		return err_set(
			error, err_of_destination(r), r, stage, "the directory cannot be made");
	}
}

/* In a dry run: is it there? One that is not would be made, which is no failure. */
static int find_directory(
	struct receiver *receiver, uint64_t id, const struct wire_file *dir, bool *ret_lacks)
{
	int fd;
	int r = dirs_add(receiver->dirs, id, dir->parent, dir->name);

	if (r < 0)
		return r;
	r = dirs_get(receiver->dirs, id, &fd);
	if (r == 0)
		dirs_put(receiver->dirs, id);
	*ret_lacks = r == -ENOENT;
	if (r == 0 || r == -ENOENT)
		return 0;
	dirs_forget(receiver->dirs, id);
	return r == -ELOOP ? -ENOTDIR : r;
}

/* The one that it is in failed, and it with that. */
static bool is_in_failed(struct receiver *receiver, uint64_t parent)
{
	return parent > 0 && (receiver_is_dry(receiver) ? !dirs_knows(receiver->dirs, parent)
							: !is_made(receiver, parent));
}

static int frame_dir(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_file dir = { .name = "" };
	struct zh_error error;
	bool made = false;
	int r = wire_parse_dir(session->control.payload, frame->length, &dir);

	if (r == -EPROTO || r == -ERANGE || frame->id <= receiver->last_dir)
		return proto(session, "malformed DIR, or with a number out of order");
	if (!receiver->dirs)
		return proto(session, "DIR without a place");
	if (!(session->setup.tree & TREE_RECURSIVE))
		return proto(session, "DIR though directories are not to be sent");
	if (dir.parent > receiver->last_dir)
		return proto(session, "a directory that was not announced");
	if (r == 0 && is_left(receiver, dir.parent))
		return proto_left(session);
	receiver->last_dir = frame->id;
	if (r == 0)
		told_name(receiver, dir.parent, dir.name, dir.name_length);
	else
		told_stop(receiver);
	err_init(&error);
	if (r < 0)
		(void)err_set(&error, ZH_UNSAFE_NAME, 0, "announce", "a name that cannot be");
	else
		r = check_name(receiver, dir.parent, dir.name, sizeof(dir.name), &error);
	if (r == 0 && session_discards(session))
		return 0;
	if (r == 0 && is_in_failed(receiver, dir.parent))
		return 0;
	if (r == 0 && receiver_is_dry(receiver))
		r = find_directory(receiver, frame->id, &dir, &made);
	else if (r == 0)
		r = dirs_make(receiver->dirs, frame->id, dir.parent, dir.name,
			(dir.mode & 0777 & ~(mode_t)receiver->staging.umask) | 0700, &made);
	if (made && !receiver_is_dry(receiver))
		atomic_store(&receiver->names_unsynced, true);
	atomic_fetch_add(&session->dirs_made, made);
	atomic_fetch_add(&session->dirs_known, 1);
	if (r == 0) {
		list_directory(receiver, &dir);
		return told_directory(receiver, frame->id, made);
	}
	if (!err_is_set(&error))
		(void)describe_dir_error(&error, r);
	return fail_directory(receiver, frame->id, &dir, &error);
}

static int too_many_attributes(struct session *session)
{
	return session_failf(
		session, ZH_LIMIT, 0, "attributes", "more of them at once than are held");
}

/* Of a directory: set when its turn comes. Takes leave, whatever comes of it. */
static int queue_leave(struct receiver *receiver, struct leave *leave, enum job_kind kind)
{
	struct session *session = receiver->session;

	leave->held = sizeof(*leave) + (leave->xattrs ? leave->xattrs->bytes : 0);
	if (receiver_hold(receiver, leave->held) < 0) {
		free(leave->xattrs);
		free(leave);
		return too_many_attributes(session);
	}
	(void)pthread_mutex_lock(&session->lock);
	receiver_queue(receiver, &leave->job, kind);
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

/* What is taken of *xattrs is NULL there then. */
static int queue_attr(struct receiver *receiver, uint64_t id, const struct wire_attr *attr,
	struct xattrs **xattrs)
{
	struct session *session = receiver->session;
	struct leave *leave;

	if (id > receiver->last_dir)
		return proto(session, "ATTR of a directory that was not announced");
	if (is_left(receiver, id))
		return proto_left(session);
	if (session_discards(session) || session->setup.dry_run)
		return 0;
	leave = calloc(1, sizeof(*leave));
	if (!leave)
		return session_failf(session, ZH_INTERNAL, ENOMEM, "ATTR", "no memory");
	leave->id = id;
	leave->attr = *attr;
	leave->xattrs = *xattrs;
	*xattrs = NULL;
	return queue_leave(receiver, leave, JOB_ATTR);
}

/* Of a file: once, and before its END. *xattrs as for a directory. */
static int keep_attr(struct receiver *receiver, uint64_t id, const struct wire_attr *attr,
	struct xattrs **xattrs)
{
	struct session *session = receiver->session;
	size_t bytes = *xattrs ? (*xattrs)->bytes : 0;
	struct arrival *arrival;
	bool right, takes;

	if (receiver_hold(receiver, bytes) < 0)
		return too_many_attributes(session);
	(void)pthread_mutex_lock(&session->lock);
	arrival = arrival_find(receiver, id);
	right = arrival && !arrival->pack && !arrival->attr_seen && !arrival->end_seen;
	takes = right && !arrival->discard && !arrival_is_finished(arrival);
	if (right) {
		arrival->attr_seen = true;
		arrival->set_owner = session->setup.tree & TREE_OWNER;
		arrival->uid = attr->uid;
		arrival->gid = attr->gid;
	}
	if (takes) {
		arrival->xattrs = *xattrs;
		*xattrs = NULL;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!takes)
		receiver_unhold(receiver, bytes);
	return right ? 0 : proto(session, "ATTR that does not belong to a file");
}

static int frame_attr(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_attr attr = { 0 };
	struct xattrs *xattrs = NULL;
	int r = -EPROTO;

	if (session->setup.tree & (TREE_OWNER | TREE_XATTRS))
		r = attributes_take(
			&session->setup, session->control.payload, frame->length, &attr, &xattrs);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "ATTR", "no memory");
	if (r < 0)
		return proto(session, "ATTR that was not agreed on");
	if (xattrs)
		xattrs_narrow(xattrs, (mode_t)receiver->staging.umask);
	r = frame->flags & ATTR_DIRECTORY ? queue_attr(receiver, frame->id, &attr, &xattrs)
					  : keep_attr(receiver, frame->id, &attr, &xattrs);
	free(xattrs); /* what was not taken */
	return r;
}

/* What is in a directory of the source, though nothing comes of it. */
static int frame_keep(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_path names;

	if (!(session->setup.tree & TREE_DELETE))
		return proto(session, "KEEP that was not agreed on");
	if (frame->id > receiver->last_dir ||
		wire_parse_keep(session->control.payload, frame->length, &names) < 0)
		return proto(session, "malformed KEEP, or of a directory that was not announced");
	if (is_left(receiver, frame->id))
		return proto_left(session);
	told_names(receiver, frame->id, &names);
	return 0;
}

/* Whether that may be said: with DELETE, and of the place if it is a directory of the source. */
static bool may_complete(const struct receiver *receiver, const struct frame *frame)
{
	return receiver->session->setup.tree & TREE_DELETE &&
	       (frame->id != 0 || receiver->mirrors_place);
}

static int frame_leave(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	bool complete = frame->flags & LEAVE_COMPLETE;
	struct leave *leave = calloc(1, sizeof(*leave));

	if (!leave)
		return session_failf(session, ZH_INTERNAL, ENOMEM, "LEAVE", "no memory");
	if (frame->id > receiver->last_dir ||
		wire_parse_leave(session->control.payload, frame->length, &leave->attributes) < 0) {
		free(leave);
		return proto(session, "LEAVE of a directory that was not announced");
	}
	if (complete && !may_complete(receiver, frame)) {
		free(leave);
		return proto(session, "LEAVE that was not agreed on");
	}
	if (is_left(receiver, frame->id)) {
		free(leave);
		return proto_left(session);
	}
	told_end(receiver, frame->id, complete);
	if (receiver->dirs)
		dirs_leave(receiver->dirs, frame->id);
	if (session_discards(session) ||
		frame->id == 0) { /* mode and times of the place are its own */
		free(leave);
		return 0;
	}
	leave->id = frame->id;
	return queue_leave(receiver, leave, JOB_LEAVE);
}

/* ------------------------------ frames ------------------------------------------------- */

/* Digests for what may be there. The last ones have it compared. */
static int frame_leaf(struct receiver *receiver, struct arrival *arrival, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct digest digest[FRAME_PAYLOAD_CAP / DIGEST_BYTES];
	struct proof *proof;
	size_t count = 0;
	bool right = wire_parse_digests(session->control.payload, frame->length, digest,
			     ARRAY_LEN(digest), &count) == 0;
	uint64_t units;

	(void)pthread_mutex_lock(&session->lock);
	proof = arrival->proof;
	units = arrival->pack ? arrival->pack->count : leaf_count(arrival->size);
	bool open = arrival->state == ARRIVAL_PROVING && proof && proof->awaited > 0;
	right = right && open && range_fits(frame->offset, count, units);
	for (size_t i = 0; right && i < count; i++) {
		uint64_t unit = frame->offset + i;
		right = proof->asked[unit / 8] & 1u << unit % 8 && proof->awaited > 0 &&
			!holes_has_leaf(&arrival->holes, unit);
		proof->claimed[unit] = digest[i];
		proof->awaited -= right;
	}
	if (right && proof->awaited == 0) {
		arrival->users++;
		receiver_queue(receiver, &arrival->job, JOB_PROVE);
	}
	right = right || arrival->state == ARRIVAL_FAILED;
	(void)pthread_mutex_unlock(&session->lock);
	return right ? 0 : proto(session, "LEAF that was not asked for");
}

static int frame_end(struct receiver *receiver, struct arrival *arrival, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_end end;
	bool right = wire_parse_end(session->control.payload, frame->length, &end) == 0;

	(void)pthread_mutex_lock(&session->lock);
	right = right && end.size == arrival->size && end.mtime_s == arrival->mtime_s &&
		end.mtime_ns == arrival->mtime_ns && !arrival->end_seen &&
		(arrival->state == ARRIVAL_RECEIVING || arrival->state == ARRIVAL_FAILED);
	if (right) {
		arrival->end = end;
		arrival->end_seen = true;
		arrival_queue_if_complete(receiver, arrival);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return right ? 0 : proto(session, "END that does not belong to its FILE");
}

static int frame_err(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct arrival *arrival;
	struct wire_err wire;
	struct zh_error error;
	size_t members;

	if (wire_parse_err(session->control.payload, frame->length, &wire) < 0 ||
		frame->flags & ERR_DIRECTORY)
		return proto(session, "malformed ERR");
	session_error_from_wire(&wire, &error);
	(void)pthread_mutex_lock(&session->lock);
	arrival = arrival_find(receiver, frame->id);
	members = arrival && arrival->pack ? arrival->pack->count : 0;
	(void)pthread_mutex_unlock(&session->lock);
	if (!arrival) { /* a file that failed before it could be announced: it uses up its id */
		arrival = take_id(receiver, frame->id);
		atomic_fetch_add(&session->files_known, 1);
	}
	if (!arrival)
		return proto(session, "ERR for a file that was not announced");
	if (members > 0 && frame->offset > members)
		return proto(session, "ERR for a file that was not announced");
	if (frame->offset > 0 && members > 0)
		return arrival_fail_member(receiver, arrival, frame->offset - 1, &error, false);
	return arrival_fail(receiver, arrival, &error, false);
}

static int receiver_frame(struct session *session, const struct frame *frame)
{
	struct receiver *receiver = session->role_state;
	struct arrival *arrival;
	int r;

	switch (frame->type) {
	case FRAME_FILE:
	case FRAME_PACK:
	case FRAME_ERR:
		r = frame->type == FRAME_FILE   ? frame_file(receiver, frame)
		    : frame->type == FRAME_PACK ? frame_pack(receiver, frame)
						: frame_err(receiver, frame);
		return r < 0 ? r : receiver_extend_credit(receiver);
	case FRAME_LOST:
		return session_heard_end(session, frame->id);
	case FRAME_DIR:
		return frame_dir(receiver, frame);
	case FRAME_KEEP:
		return frame_keep(receiver, frame);
	case FRAME_LEAVE:
		return frame_leave(receiver, frame);
	case FRAME_ATTR:
		return frame_attr(receiver, frame);
	case FRAME_MAP:
	case FRAME_LEAF:
	case FRAME_END:
		(void)pthread_mutex_lock(&session->lock);
		arrival = arrival_find(receiver, frame->id);
		(void)pthread_mutex_unlock(&session->lock);
		if (!arrival)
			return proto(session, "a frame for a file that was not announced");
		return frame->type == FRAME_MAP    ? frame_map(receiver, arrival, frame)
		       : frame->type == FRAME_LEAF ? frame_leaf(receiver, arrival, frame)
						   : frame_end(receiver, arrival, frame);
	default:
		return proto(session, "a frame that is not expected");
	}
}

/* Every file that was announced has arrived or failed. */
static bool receiver_settled(struct session *session)
{
	const struct receiver *receiver = session->role_state;
	bool settled = true;

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t id = receiver->low_id; id < receiver->next_id && settled; id++) {
		const struct arrival *arrival = arrival_find(receiver, id);
		settled = !arrival || arrival_is_finished(arrival);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return settled;
}

/* The sender decides when a session is over. */
static int receiver_pump(struct session *session)
{
	(void)session;
	return 0;
}

static int receiver_tell_end(struct session *session, uint32_t index, uint64_t frames)
{
	struct frame got = { .type = FRAME_GOT, .flags = GOT_LAST, .id = index, .offset = frames };

	return session_send(session, &got, NULL);
}

static void receiver_wake(struct session *session)
{
	(void)session; /* streams wait on their sockets, and on abort_fd */
}

static const struct session_role_ops receiver_ops = {
	.frame = receiver_frame,
	.pump = receiver_pump,
	.stream = receive_stream,
	.tell_end = receiver_tell_end,
	.wake = receiver_wake,
	.settled = receiver_settled,
	.backlog = receiver_backlog,
	.finish = receiver_finish,
};
