/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settle.c - the thread of a receiver that waits for disks on behalf of the others: it compares
 * what was there before with the sender's digests, makes complete files visible and durable, and
 * acknowledges them. So syncing one overlaps with receiving the next, and nobody who must answer a
 * PING waits for a disk. What has come together while it was busy is settled together.
 */
#include "session/told.h"

#include "base/clock.h"
#include "kernel/file.h"
#include "store/commit.h"
#include "store/digest.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define PROOF_LEAVES ((size_t)8) /* digested by one call */

/*
 * Directories that were left and wait for their turn keep their numbers, their names and what is to
 * be set of them. Beyond that no more is taken: as many again may be open at a sender.
 */
#define LEAVES_MOST      (LIMIT_OPEN_DIRS / 4)
#define PRUNE_BYTES_MOST (LIMIT_TOLD_BYTES / 4)
#define HELD_BYTES_MOST  (LIMIT_HELD_XATTRS / 2)

struct settler {
	struct receiver *receiver;
	struct digester digester;
	struct arrival **pack; /* complete ones of this round */
	size_t packs;
	size_t cap;
};

/* ------------------------------ acknowledging ------------------------------------------ */

/* Target of a link that has a member's name. Returns its length. */
static ssize_t read_member_link(
	struct receiver *receiver, const struct wire_member *member, char ret_target[PATH_MAX])
{
	int dir;
	ssize_t r = dirs_get(receiver->dirs, member->parent, &dir);

	if (r < 0)
		return r;
	r = sys_readlinkat(dir, member->name, ret_target, PATH_MAX);
	dirs_put(receiver->dirs, member->parent);
	return r;
}

static void list_pack(struct receiver *receiver, const struct arrival *arrival)
{
	const struct arriving_pack *pack = arrival->pack;
	char path[MANIFEST_PATH_MAX + 1];

	for (size_t i = 0; i < pack->count; i++) {
		struct wire_member got;
		const struct wire_member *member = &got;
		uint8_t state = pack->state[i];
		arriving_member(receiver, pack, i, &got);
		bool came = state & MEMBER_WANTED, proved = state & MEMBER_ASKED && !came;
		if (state & MEMBER_FAILED || (!came && !proved))
			continue;
		receiver_path(receiver, member->parent, member->name, path, sizeof(path));
		if (member->kind == MEMBER_LINK && proved) {
			char target[PATH_MAX];
			ssize_t length = read_member_link(receiver, member, target);
			if (length > 0)
				session_list_link(receiver->session, path, target, (size_t)length);
		}
		if (member->kind == MEMBER_LINK)
			continue; /* one that came was listed as it came */
		session_list_member(receiver->session, path, member,
			came ? &pack->digest[i] : &arrival->proof->claimed[i]);
	}
}

static void list_arrival(struct receiver *receiver, const struct arrival *arrival)
{
	char path[MANIFEST_PATH_MAX + 1];

	if (!receiver->session->manifest)
		return;
	if (arrival->pack) {
		list_pack(receiver, arrival);
		return;
	}
	receiver_path(receiver, arrival->parent, arrival->name, path, sizeof(path));
	session_list_file(receiver->session, path, arrival->size, arrival->mode, arrival->mtime_s,
		arrival->mtime_ns, &arrival->end.root);
}

static int acknowledge(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	uint8_t bytes[DIGEST_BYTES];
	int length = wire_build_digests(&arrival->end.root, 1, bytes, sizeof(bytes));
	struct session_tally tally;
	struct frame ack = {
		.type = FRAME_ACK,
		.id = arrival->id,
		.flags = session->setup.durability == ZH_DURABLE_FULL ? ACK_DURABLE : 0,
	};

	CHECK(length == DIGEST_BYTES);
	ack.length = DIGEST_BYTES;
	(void)pthread_mutex_lock(&session->lock);
	bool failed = arrival->state == ARRIVAL_FAILED; /* the sender gave it up meanwhile */
	if (!failed) {
		arrival_advance(arrival, ARRIVAL_SYNCED);
		arrival_advance(arrival, ARRIVAL_LINKED);
		arrival_advance(arrival, ARRIVAL_DURABLE);
	}
	tally = arrival_tally(receiver, arrival);
	(void)pthread_mutex_unlock(&session->lock);
	if (failed)
		return 0;
	list_arrival(receiver, arrival);
	session_count(session, &tally);
	return session_send(session, &ack, bytes);
}

/*
 * A name is durable when the directories above it are. Those made in this session, and files that
 * were found and not written, are synced by this before anything in them is acknowledged. When that
 * fails nothing can be said of any of them, and asking again would be answered with a lie: the
 * session fails.
 */
int receiver_sync_names(struct receiver *receiver)
{
	struct session *session = receiver->session;
	int r = 0;

	if (session->setup.durability == ZH_DURABLE_FULL &&
		atomic_exchange(&receiver->names_unsynced, false))
		r = sys_syncfs(receiver->place);
	return r < 0 ? session_failf(session, err_of_destination(r), r, "syncfs",
			       "the directories are not safely stored")
		     : 0;
}

/* ------------------------------ one file ----------------------------------------------- */

static int commit_one(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	struct session *session = receiver->session;
	struct commit commit = {
		.parent = arrival->parent_fd,
		.name = arrival->name,
		.name_length = strlen(arrival->name),
		.mode = arrival->mode,
		.mtime_s = arrival->mtime_s,
		.mtime_ns = arrival->mtime_ns,
		.no_clobber = arrival->no_clobber,
		.set_owner = arrival->set_owner,
		.uid = arrival->uid,
		.gid = arrival->gid,
		.xattrs = arrival->xattrs,
		.durability = (enum zh_durability)session->setup.durability,
		.drop_cache = session->setup.cache == ZH_CACHE_DROP,
	};
	int r = 0;

	if (arrival->holes.sparse)
		r = partial_punch(&arrival->partial, arrival->holes.extent, arrival->holes.count);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, "make holes",
			"the holes of the file cannot be made");
	r = commit_file(&receiver->staging, &arrival->partial, &commit, err);
	if (r == 0)
		session_note_cache(session, 0, arrival->partial.cached_bytes);
	return r;
}

/* What was there all along may have had another mode and another time. */
static int keep_attributes(struct receiver *receiver, int fd, uint32_t wanted, int64_t mtime_s,
	uint32_t mtime_ns, struct zh_error *err)
{
	mode_t mode = wanted & 0777 & ~(mode_t)receiver->staging.umask;
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = mtime_s, .tv_nsec = mtime_ns },
	};
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r == 0 && (st.st_mode & 07777) != mode)
		r = sys_fchmod(fd, mode);
	if (r == 0 && (st.st_mtim.tv_sec != mtime_s || (uint32_t)st.st_mtim.tv_nsec != mtime_ns))
		r = sys_futimens(fd, times);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, "set attributes",
			"mode and times cannot be set");
	atomic_store(&receiver->names_unsynced, true);
	return 0;
}

static int keep_owner(int fd, uint32_t uid, uint32_t gid, struct zh_error *err)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r == 0 && (st.st_uid != uid || st.st_gid != gid))
		r = sys_fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	return r < 0 ? err_set(err, err_of_destination(r), r, "set attributes",
			       "the owner cannot be set")
		     : 0;
}

static int keep_in_place(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	int fd = arrival->proof->fd;

	if (arrival->set_owner && keep_owner(fd, arrival->uid, arrival->gid, err) < 0)
		return -EPERM;
	if (arrival->xattrs && xattrs_apply(fd, arrival->xattrs, err) < 0)
		return -EPERM;
	return keep_attributes(
		receiver, fd, arrival->mode, arrival->mtime_s, arrival->mtime_ns, err);
}

/* Roots compared, committed, acknowledged. Errors of the connection only. */
static int finish_file(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	struct digest mine = leaf_root(&arrival->sum, arrival->size);
	uint64_t start = clock_now_ns();
	struct zh_error error;
	int r = 0;

	err_init(&error);
	if (!digest_equal(&mine, &arrival->end.root))
		r = err_set(
			&error, ZH_VERIFY, 0, "verify", "what arrived is not what the sender read");
	else if (!arrival->discard)
		r = arrival->in_place ? keep_in_place(receiver, arrival, &error)
				      : commit_one(receiver, arrival, &error);
	int synced = r == 0 ? receiver_sync_names(receiver) : 0;
	atomic_fetch_add(&session->disk_ns, clock_now_ns() - start);
	if (r < 0)
		return arrival_fail(receiver, arrival, &error, true);
	return synced < 0 ? synced : acknowledge(receiver, arrival);
}

/* ------------------------------ packs -------------------------------------------------- */

static int gather_pack(struct settler *settler, struct arrival *arrival)
{
	struct receiver *receiver = settler->receiver;
	struct digest mine = leaf_root(&arrival->sum, arrival->size);
	struct zh_error error;
	int r;

	if (!digest_equal(&mine, &arrival->end.root)) {
		err_init(&error);
		(void)err_set(
			&error, ZH_VERIFY, 0, "verify", "what arrived is not what the sender read");
		return arrival_fail(receiver, arrival, &error, true);
	}
	r = arrival->pack->written ? 0 : receive_members(receiver, arrival, NULL);
	if (r == 0 && settler->packs == settler->cap) {
		size_t cap = settler->cap + 64;
		struct arrival **grown = reallocarray(settler->pack, cap, sizeof(*grown));
		if (!grown)
			return session_failf(
				receiver->session, ZH_INTERNAL, ENOMEM, "commit", "no memory");
		settler->pack = grown;
		settler->cap = cap;
	}
	if (r == 0) {
		(void)pthread_mutex_lock(&receiver->session->lock);
		arrival->users++;
		(void)pthread_mutex_unlock(&receiver->session->lock);
		settler->pack[settler->packs++] = arrival;
	}
	return r;
}

/* Commits the staged members of all packs in one go. */
static int commit_members(struct settler *settler)
{
	struct receiver *receiver = settler->receiver;
	struct batch_file **file;
	size_t count = 0;

	for (size_t i = 0; i < settler->packs; i++)
		count += settler->pack[i]->pack->count;
	file = calloc(count + 1, sizeof(*file));
	if (!file)
		return session_failf(receiver->session, ZH_INTERNAL, ENOMEM, "commit", "no memory");
	count = 0;
	(void)pthread_mutex_lock(&receiver->session->lock); /* a member may be given up meanwhile */
	for (size_t i = 0; i < settler->packs; i++) {
		struct arriving_pack *pack = settler->pack[i]->pack;
		bool given_up = settler->pack[i]->state == ARRIVAL_FAILED;
		for (size_t k = 0; k < pack->count && !given_up; k++)
			if (pack->file[k].staged && !(pack->state[k] & MEMBER_FAILED))
				file[count++] = &pack->file[k];
	}
	(void)pthread_mutex_unlock(&receiver->session->lock);
	if (count > 0)
		batch_commit(receiver->batch, file, count,
			(enum zh_durability)receiver->session->setup.durability);
	free(file);
	return 0;
}

static int finish_pack(struct receiver *receiver, struct arrival *arrival)
{
	struct arriving_pack *pack = arrival->pack;
	int r = 0;

	for (size_t i = 0; i < pack->count && r == 0; i++)
		if (pack->file[i].error)
			r = arrival_fail_member(receiver, arrival, i, pack->file[i].error, true);
	return r < 0 ? r : acknowledge(receiver, arrival);
}

static void release_arrival(struct receiver *receiver, struct arrival *arrival)
{
	arrival_release(receiver, arrival, 1, 0);
	IGNORE(receiver_extend_credit(receiver)); /* it has failed the session */
}

static void commit_packs(struct settler *settler)
{
	struct receiver *receiver = settler->receiver;
	uint64_t start = clock_now_ns();
	int r;

	if (settler->packs == 0)
		return;
	r = commit_members(settler);
	if (r == 0)
		r = receiver_sync_names(receiver);
	atomic_fetch_add(&receiver->session->disk_ns, clock_now_ns() - start);
	for (size_t i = 0; i < settler->packs; i++) {
		if (r == 0)
			r = finish_pack(receiver, settler->pack[i]);
		release_arrival(receiver, settler->pack[i]);
	}
	settler->packs = 0;
}

/* ------------------------------ proofs ------------------------------------------------- */

static bool is_asked(const struct proof *proof, uint64_t index)
{
	return proof->asked[index / 8] & 1u << index % 8;
}

/* Compares up to PROOF_LEAVES leaves from first on. Returns how many were looked at. */
static size_t compare_leaves(struct settler *settler, struct arrival *arrival, uint64_t first)
{
	const struct proof *proof = arrival->proof;
	struct digest mine[PROOF_LEAVES];
	uint64_t leaves = leaf_count(arrival->size);
	int fd = proof->fd >= 0 ? proof->fd : arrival->partial.fd;
	size_t count = 1;
	int r;

	if (!is_asked(proof, first))
		return 1;
	while (count < PROOF_LEAVES && first + count < leaves && is_asked(proof, first + count))
		count++;
	struct zh_extent extent = { first * LEAF_BYTES, count * LEAF_BYTES };
	extent.length = min_u64(extent.length, arrival->size - extent.offset);
	r = digester_read(&settler->digester, fd, extent, mine);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (digest_equal(&mine[i], &proof->claimed[first + i]))
			arrival_set_had(arrival, first + i, true);
	return count; /* what cannot be read is sent again */
}

/* NEED holds so many ranges: the last one goes to the end. */
static void bound_ranges(struct arrival *arrival)
{
	uint64_t leaves = leaf_count(arrival->size);
	size_t ranges = 0;
	bool open = false;

	for (uint64_t i = 0; i < leaves; i++) {
		bool lacks = !arrival_has(arrival, i) ||
			     (ranges == WIRE_RANGES_MAX && is_asked(arrival->proof, i));
		if (lacks)
			arrival_set_had(arrival, i, false);
		ranges += lacks && !open;
		open = lacks;
	}
}

/* What the sum and the count are after a proof. */
static uint64_t count_proved(struct receiver *receiver, struct arrival *arrival)
{
	bool full = receiver->session->setup.verify == ZH_VERIFY_FULL;
	uint64_t leaves = leaf_count(arrival->size), lacking = 0;

	for (uint64_t i = 0; i < leaves; i++) {
		if (!arrival_has(arrival, i))
			lacking++;
		else if (full && is_asked(arrival->proof, i))
			leaf_sum_add(&arrival->sum, i, &arrival->proof->claimed[i]);
	}
	return lacking;
}

/* What has the name is another file: all of it is sent, into a partial. */
static int begin_anew(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	int r;

	memset(arrival->have, 0, leaf_count(arrival->size) / 8 + 1);
	arrival->sum = (struct leaf_sum){ 0 };
	arrival_skip_holes(receiver, arrival);
	if (receiver_is_dry(receiver))
		return 0;
	r = arrival_open_partial(receiver, arrival, false, err);
	return r < 0 ? r : arrival_plan(receiver, arrival, err);
}

static int prove_file(struct settler *settler, struct arrival *arrival)
{
	struct receiver *receiver = settler->receiver;
	struct session *session = receiver->session;
	uint64_t leaves = leaf_count(arrival->size), lacking;
	struct zh_error error;
	int r = 0;

	for (uint64_t i = 0; i < leaves;)
		i += compare_leaves(settler, arrival, i);
	err_init(&error);
	bound_ranges(arrival);
	(void)pthread_mutex_lock(&session->lock);
	lacking = count_proved(receiver, arrival);
	arrival->in_place = arrival->proof->fd >= 0 && lacking == 0;
	(void)pthread_mutex_unlock(&session->lock);
	if (arrival->proof->fd >= 0 && lacking > 0) {
		r = begin_anew(receiver, arrival, &error);
		lacking = arrival->leaves_left;
	}
	if (r < 0)
		return arrival_fail(receiver, arrival, &error, true);
	arrival->leaves_left = lacking;
	return arrival_send_need(receiver, arrival, 0);
}

static bool link_is_same(
	struct receiver *receiver, const struct wire_member *member, const struct digest *claimed)
{
	char target[PATH_MAX];
	ssize_t length = read_member_link(receiver, member, target);
	struct digest mine = digest_of(target, length > 0 ? (size_t)length : 0);

	return length == (ssize_t)member->size && digest_equal(&mine, claimed);
}

static int open_member(struct receiver *receiver, const struct wire_member *member)
{
	int dir, fd;
	int r = dirs_get(receiver->dirs, member->parent, &dir);

	if (r < 0)
		return r;
	fd = root_open_inside(dir, member->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	dirs_put(receiver->dirs, member->parent);
	return fd;
}

/* Whether the file that has a member's name is what the sender has. */
static bool member_is_same(
	struct settler *settler, int fd, uint64_t size, const struct digest *claimed)
{
	struct digest mine = digest_of("", 0);
	int r = 0;

	if (size > 0)
		r = digester_read(&settler->digester, fd, (struct zh_extent){ 0, size }, &mine);
	return r == 0 && digest_equal(&mine, claimed);
}

/* A member that was asked for: it is kept, or has to be sent, or fails. */
static int prove_member(struct settler *settler, struct arrival *arrival, size_t index)
{
	struct receiver *receiver = settler->receiver;
	struct session *session = receiver->session;
	struct arriving_pack *pack = arrival->pack;
	struct wire_member got;
	const struct wire_member *member = &got;
	const struct xattrs none = { .kinds = attributes_kinds(&session->setup) };
	struct zh_error error;
	int fd, r = 0;

	arriving_member(receiver, pack, index, &got);
	fd = member->kind == MEMBER_LINK ? -1 : open_member(receiver, member);
	(void)pthread_mutex_lock(&session->lock);
	bool failed = pack->state[index] & MEMBER_FAILED;
	(void)pthread_mutex_unlock(&session->lock);
	err_init(&error);
	bool same = !failed && fd >= 0 &&
		    member_is_same(settler, fd, member->size, &arrival->proof->claimed[index]);
	bool keep = same && !receiver_is_dry(receiver);
	if (member->kind == MEMBER_LINK)
		same = !failed && link_is_same(receiver, member, &arrival->proof->claimed[index]);
	else if (keep && pack->file[index].set_owner)
		r = keep_owner(fd, member->uid, member->gid, &error);
	if (keep && r == 0)
		r = xattrs_apply(fd, &none, &error); /* a file that has some is in no pack */
	if (keep && r == 0)
		r = keep_attributes(
			receiver, fd, member->mode, member->mtime_s, member->mtime_ns, &error);
	sys_close(fd);
	if (r < 0)
		return arrival_fail_member(receiver, arrival, index, &error, true);
	(void)pthread_mutex_lock(&session->lock);
	if (!same && !(pack->state[index] & MEMBER_FAILED))
		pack->state[index] |= MEMBER_WANTED;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

static int prove_pack(struct settler *settler, struct arrival *arrival)
{
	int r = 0;

	for (size_t i = 0; i < arrival->pack->count && r == 0; i++)
		if (is_asked(arrival->proof, i))
			r = prove_member(settler, arrival, i);
	return r < 0 ? r : arrival_need_pack(settler->receiver, arrival, 0);
}

/* ------------------------------ directories -------------------------------------------- */

/* The sender may know its number no more: the text begins with its path. */
static int tell_directory(struct receiver *receiver, uint64_t id, const struct zh_error *error)
{
	struct zh_error told = *error;
	char path[1024], name[128];

	(void)dirs_path(receiver->dirs, id, path, sizeof(path));
	session_file_failed(receiver->session, path, strlen(path), error);
	zh_escape(path, strlen(path), name, sizeof(name));
	(void)snprintf(told.text, sizeof(told.text), "%.120s: %.120s", name, error->text);
	return session_send_dir_err(receiver->session, id, &told);
}

/* Owner and attributes of a directory, before its mode, which the owner changes. */
static int apply_attr(struct receiver *receiver, const struct leave *leave)
{
	const struct wire_attr *attr = &leave->attr;
	uint64_t device, inode;
	struct zh_error error;
	int fd, r;

	if (dirs_identity(receiver->dirs, leave->id, &device, &inode) < 0)
		return 0; /* it could not be made, which has been told */
	err_init(&error);
	r = dirs_get(receiver->dirs, leave->id, &fd);
	if (r == 0) {
		if (receiver->session->setup.tree & TREE_OWNER)
			r = sys_fchownat(fd, "", attr->uid, attr->gid, AT_EMPTY_PATH);
		if (r == 0 && leave->xattrs)
			r = xattrs_apply(fd, leave->xattrs, &error);
		dirs_put(receiver->dirs, leave->id);
	}
	if (r == 0)
		return 0;
	(void)err_set(&error, err_of_destination(r), r, "set attributes",
		"owner and attributes of the directory cannot be set");
	return tell_directory(receiver, leave->id, &error);
}

static int leave_directory(struct receiver *receiver, const struct leave *leave)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = leave->attributes.mtime_s, .tv_nsec = leave->attributes.mtime_ns },
	};
	uint64_t device, inode;
	struct zh_error error;
	int fd, r, told = 0;

	if (receiver_is_dry(receiver)) {
		dirs_forget(receiver->dirs, leave->id);
		return 0;
	}
	if (dirs_identity(receiver->dirs, leave->id, &device, &inode) < 0)
		return 0; /* it could not be made, which has been told */
	r = dirs_get(receiver->dirs, leave->id, &fd);
	if (r == 0) {
		r = sys_fchmod(
			fd, leave->attributes.mode & 0777 & ~(mode_t)receiver->staging.umask);
		if (r == 0)
			r = sys_futimens(fd, times);
		dirs_put(receiver->dirs, leave->id);
	}
	atomic_store(&receiver->names_unsynced, true);
	if (r < 0) {
		err_init(&error);
		(void)err_set(&error, err_of_destination(r), r, "set attributes",
			"mode and times of the directory cannot be set");
		told = tell_directory(receiver, leave->id, &error);
	}
	dirs_forget(receiver->dirs, leave->id);
	return told;
}

/* ------------------------------ the thread --------------------------------------------- */

static void leave_free(struct receiver *receiver, struct leave *leave)
{
	receiver_unhold(receiver, leave->held);
	free(leave->xattrs);
	free(leave);
}

static void do_job(struct settler *settler, struct job *job)
{
	struct receiver *receiver = settler->receiver;
	struct arrival *arrival = (struct arrival *)job;
	enum job_kind kind = job->kind;

	job->kind = JOB_NONE;
	if (kind == JOB_PRUNE) {
		IGNORE(told_prune(receiver, (struct told *)job)); /* it has failed the session */
		return;
	}
	if (kind == JOB_SYNC) {
		IGNORE(receiver_sync_names(receiver)); /* likewise */
		return;
	}
	if (kind == JOB_LEAVE || kind == JOB_ATTR) {
		struct leave *leave = (struct leave *)job;
		IGNORE(kind == JOB_LEAVE ? leave_directory(receiver, leave)
					 : apply_attr(receiver, leave));
		leave_free(receiver, leave);
		return;
	}
	if (kind == JOB_PROVE)
		IGNORE(arrival->pack ? prove_pack(settler, arrival)
				     : prove_file(settler, arrival)); /* likewise */
	else if (arrival->pack && !arrival->discard)
		IGNORE(gather_pack(settler, arrival)); /* likewise */
	else
		IGNORE(finish_file(receiver, arrival)); /* likewise */
	release_arrival(receiver, arrival);
}

static void drop_job(struct receiver *receiver, struct job *job)
{
	if (job->kind == JOB_PRUNE)
		told_free(receiver, (struct told *)job);
	else if (job->kind == JOB_LEAVE || job->kind == JOB_ATTR)
		leave_free(receiver, (struct leave *)job);
	else if (job->kind != JOB_SYNC)
		arrival_release(receiver, (struct arrival *)job, 1, 0);
}

/* As much is queued as this share of the most. Locked. */
static bool is_queued(const struct receiver *receiver, uint32_t share)
{
	return receiver->leaves >= LEAVES_MOST / share ||
	       receiver->prune_bytes >= PRUNE_BYTES_MOST / share ||
	       atomic_load(&receiver->held_bytes) >= HELD_BYTES_MOST / share;
}

/* Locked. */
static bool is_at_work(const struct receiver *receiver)
{
	return receiver->queue_head || receiver->settles;
}

enum session_backlog receiver_backlog(struct session *session)
{
	struct receiver *receiver = session->role_state;
	bool ends = session->state == SESSION_SETTLING;
	bool syncs = ends && session->setup.durability == ZH_DURABLE_FULL;
	enum session_backlog backlog;

	(void)pthread_mutex_lock(&session->lock);
	syncs = syncs && !session->aborted;
	if (syncs && !is_at_work(receiver) && atomic_load(&receiver->names_unsynced))
		receiver_queue(receiver, &receiver->sync, JOB_SYNC);
	receiver->full =
		!ends && is_at_work(receiver) && is_queued(receiver, receiver->full ? 2 : 1);
	backlog = receiver->full         ? BACKLOG_FULL
		  : is_at_work(receiver) ? BACKLOG_SOME
					 : BACKLOG_NONE;
	receiver->awaited = backlog == BACKLOG_FULL || (ends && backlog == BACKLOG_SOME);
	(void)pthread_mutex_unlock(&session->lock);
	return backlog;
}

/* Locked. True: the control thread waits for what has been done. */
static bool is_enough(struct receiver *receiver)
{
	bool enough = receiver->awaited &&
		      (!is_at_work(receiver) || (receiver->full && !is_queued(receiver, 2)));

	receiver->awaited &= !enough;
	return enough;
}

static void job_done(struct receiver *receiver, enum job_kind kind)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	receiver->leaves -= kind == JOB_LEAVE;
	bool enough = is_enough(receiver);
	(void)pthread_mutex_unlock(&session->lock);
	if (enough)
		session_nudge(session);
}

static void do_jobs(struct settler *settler, struct job *job)
{
	struct receiver *receiver = settler->receiver;
	struct session *session = receiver->session;

	while (job) {
		struct job *next = job->next;
		enum job_kind kind = job->kind;
		(void)pthread_mutex_lock(&session->lock);
		bool aborted = session->aborted;
		(void)pthread_mutex_unlock(&session->lock);
		if (aborted)
			drop_job(receiver, job);
		else
			do_job(settler, job);
		job_done(receiver, kind);
		job = next;
	}
	commit_packs(settler);
}

static void *settler_main(void *argument)
{
	struct settler settler = { .receiver = argument };
	struct receiver *receiver = settler.receiver;
	struct session *session = receiver->session;

	if (digester_init(&settler.digester) < 0)
		(void)session_failf(session, ZH_INTERNAL, ENOMEM, "commit", "no memory");
	(void)pthread_mutex_lock(&session->lock);
	while (receiver->queue_head || !receiver->settler_ends) {
		struct job *jobs = receiver->queue_head;
		if (!jobs) {
			(void)pthread_cond_wait(&receiver->jobs, &session->lock);
			continue;
		}
		receiver->queue_head = receiver->queue_tail = NULL;
		receiver->settles = true;
		(void)pthread_mutex_unlock(&session->lock);
		do_jobs(&settler, jobs);
		(void)pthread_mutex_lock(&session->lock);
		receiver->settles = false;
		if (is_enough(receiver))
			session_nudge(session);
	}
	(void)pthread_mutex_unlock(&session->lock);
	digester_fini(&settler.digester);
	free(settler.pack);
	return NULL;
}

int settler_start(struct receiver *receiver)
{
	return -pthread_create(&receiver->settler, NULL, settler_main, receiver);
}

void settler_stop(struct receiver *receiver)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	receiver->settler_ends = true;
	(void)pthread_cond_broadcast(&receiver->jobs);
	(void)pthread_mutex_unlock(&session->lock);
	(void)pthread_join(receiver->settler, NULL);
}
