/* SPDX-License-Identifier: Apache-2.0 */
/* arrival.c - see arrival.h. */
#include "session/arrival.h"

#include "base/clock.h"

#include <errno.h>

#define CREDIT_STEP (WINDOW / 4)

#define PATH_SHOWN  1024 /* of a path in a message */

bool arrival_is_finished(const struct arrival *arrival)
{
	return arrival->state == ARRIVAL_DURABLE || arrival->state == ARRIVAL_FAILED ||
	       arrival->state == ARRIVAL_SKIPPED;
}

bool arrival_is_over(const struct arrival *arrival)
{
	return arrival_is_finished(arrival) && arrival->users == 0;
}

void arrival_advance(struct arrival *arrival, enum arrival_state to)
{
	CHECK(arrival_may_follow(arrival->state, to));
	arrival->state = to;
}

struct arrival *arrival_find(const struct receiver *receiver, uint64_t id)
{
	struct arrival *arrival = receiver->window[id % WINDOW];

	return arrival && arrival->id == id ? arrival : NULL;
}

void arriving_member(const struct receiver *receiver, const struct arriving_pack *pack,
	size_t index, struct wire_member *ret_member)
{
	size_t at = pack->at[index];

	(void)wire_pack_next(pack->table, pack->table_length, &at, ret_member);
	if (ret_member->parent == 0 && receiver->only_name[0])
		TEXT_SET(ret_member->name, receiver->only_name);
}

void arriving_pack_free(struct arriving_pack *pack)
{
	if (!pack)
		return;
	for (size_t i = 0; i < pack->count; i++)
		free(pack->file[i].error);
	free(pack->table);
	free(pack->at);
	free(pack->file);
	free(pack->state);
	free(pack->digest);
	free(pack);
}

/* What is staged and not committed goes. */
static void pack_drop(struct receiver *receiver, struct arriving_pack *pack)
{
	for (size_t i = 0; pack && i < pack->count; i++)
		if (receiver->batch)
			batch_drop(receiver->batch, &pack->file[i]);
	if (pack)
		atomic_fetch_sub(&receiver->members, (uint32_t)pack->count);
	arriving_pack_free(pack);
}

void proof_free(struct proof *proof)
{
	if (!proof)
		return;
	sys_close(proof->fd);
	free(proof->claimed);
	free(proof->asked);
	free(proof);
}

int receiver_hold(struct receiver *receiver, size_t bytes)
{
	if (atomic_fetch_add(&receiver->held_bytes, bytes) + bytes <= LIMIT_HELD_XATTRS)
		return 0;
	receiver_unhold(receiver, bytes);
	return -ENOBUFS;
}

void receiver_unhold(struct receiver *receiver, size_t bytes)
{
	atomic_fetch_sub(&receiver->held_bytes, bytes);
}

struct leftovers arrival_take_unused(struct arrival *arrival)
{
	struct leftovers leftovers = { .partial = { .fd = -1 }, .parent_fd = -1 };

	if (!arrival_is_over(arrival))
		return leftovers;
	free(arrival->plan);
	holes_free(&arrival->holes);
	free(arrival->have);
	free(arrival->resends);
	arrival->plan = NULL;
	arrival->have = arrival->resends = NULL;
	leftovers = (struct leftovers){
		.partial = arrival->partial,
		.pack = arrival->pack,
		.proof = arrival->proof,
		.xattrs = arrival->xattrs,
		.parent = arrival->parent,
		.parent_fd = arrival->parent_fd,
	};
	arrival->partial.fd = arrival->parent_fd = -1;
	arrival->pack = NULL;
	arrival->proof = NULL;
	arrival->xattrs = NULL;
	return leftovers;
}

void leftovers_discard(struct receiver *receiver, struct leftovers *leftovers)
{
	partial_discard(&receiver->staging, &leftovers->partial);
	pack_drop(receiver, leftovers->pack);
	proof_free(leftovers->proof);
	if (leftovers->xattrs)
		receiver_unhold(receiver, leftovers->xattrs->bytes);
	free(leftovers->xattrs);
	if (leftovers->parent_fd >= 0)
		dirs_put(receiver->dirs, leftovers->parent);
}

void receiver_path(
	struct receiver *receiver, uint64_t parent, const char *name, char *ret_path, size_t cap)
{
	size_t length = receiver->dirs ? dirs_path(receiver->dirs, parent, ret_path, cap) : 0;
	size_t name_length = strlen(name);

	if (length > 0 && length + 1 < cap)
		ret_path[length++] = '/';
	name_length = min_size(name_length, cap - 1 - length);
	memcpy(ret_path + length, name, name_length);
	ret_path[length + name_length] = '\0';
}

int arrival_open_partial(
	struct receiver *receiver, struct arrival *arrival, bool keep, struct zh_error *err)
{
	struct staging_key key = {
		.name = arrival->name,
		.name_length = strlen(arrival->name),
		.size = arrival->size,
		.mtime_s = arrival->mtime_s,
		.mtime_ns = arrival->mtime_ns,
		.keep = keep,
		.sparse = arrival->holes.sparse,
		.data_bytes = holes_data_bytes(&arrival->holes, arrival->size),
	};
	uint64_t start = clock_now_ns();
	int r = dirs_identity(
		receiver->dirs, arrival->parent, &key.parent_device, &key.parent_inode);

	CHECK(r == 0); /* its directory is held */
	r = partial_open(&receiver->staging, &key, &arrival->partial, err);
	if (r == 0 && arrival->holes.sparse) {
		r = partial_reserve(&arrival->partial, arrival->holes.extent, arrival->holes.count);
		if (r < 0)
			(void)err_set(err, err_of_destination(r), r, "allocate",
				"no room can be made for its data");
	}
	atomic_fetch_add(&receiver->session->disk_ns, clock_now_ns() - start);
	return r;
}

void arrival_skip_holes(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	uint64_t leaves = leaf_count(arrival->size);

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t leaf = 0; arrival->holes.sparse && leaf < leaves; leaf++)
		if (holes_has_leaf(&arrival->holes, leaf))
			arrival_set_had(arrival, leaf, true);
	if (session->setup.verify == ZH_VERIFY_FULL)
		holes_add(&arrival->holes, arrival->size, &arrival->sum);
	arrival->leaves_left = leaf_count(holes_data_bytes(&arrival->holes, arrival->size));
	(void)pthread_mutex_unlock(&session->lock);
}

int arrival_plan(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	int r;

	arrival->plan = calloc(1, sizeof(*arrival->plan));
	if (!arrival->plan)
		return err_set(err, ZH_INTERNAL, ENOMEM, "plan", "no memory");
	r = session_plan(receiver->session, arrival->partial.fd, arrival->size, arrival->plan);
	if (r < 0)
		return err_set(err, r == -EINVAL ? ZH_CONFIG : ZH_DST_IO, r, "plan",
			"the receive strategy cannot be used: %s", arrival->plan->reason);
	return 0;
}

int receiver_extend_credit(struct receiver *receiver)
{
	struct session *session = receiver->session;
	struct frame frame = { .type = FRAME_CREDIT };

	(void)pthread_mutex_lock(&session->lock);
	while (receiver->low_id < receiver->next_id) {
		const struct arrival *arrival = arrival_find(receiver, receiver->low_id);
		if (arrival && !arrival_is_over(arrival))
			break;
		receiver->low_id++;
	}
	if (receiver->low_id + WINDOW >= receiver->credit + CREDIT_STEP)
		frame.id = receiver->credit = receiver->low_id + WINDOW;
	(void)pthread_mutex_unlock(&session->lock);
	return frame.id ? session_send(session, &frame, NULL) : 0;
}

static void record_failure(
	struct receiver *receiver, uint64_t parent, const char *name, const struct zh_error *error)
{
	struct zh_error shown = *error;
	char path[PATH_SHOWN];

	receiver_path(receiver, parent, name, path, sizeof(path));
	if (path[0])
		shown.file[0] = '\0'; /* who set it knows less of where that is */
	session_file_failed(receiver->session, path, strlen(path), &shown);
}

int arrival_fail(
	struct receiver *receiver, struct arrival *arrival, const struct zh_error *error, bool tell)
{
	struct session *session = receiver->session;
	struct arriving_pack *pack = arrival->pack;
	struct wire_member member;
	bool mine;

	(void)pthread_mutex_lock(&session->lock);
	mine = !arrival_is_finished(arrival);
	if (mine) {
		arrival_advance(arrival, ARRIVAL_FAILED);
		arrival->users++; /* what is recorded is needed until then */
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return 0;
	for (size_t i = 0; pack && i < pack->count; i++) {
		arriving_member(receiver, pack, i, &member);
		if (!(pack->state[i] & MEMBER_FAILED))
			record_failure(receiver, member.parent, member.name, error);
	}
	if (!pack)
		record_failure(receiver, arrival->parent, arrival->name, error);
	int r = tell ? session_send_err(session, arrival->id, 0, error) : 0;
	arrival_release(receiver, arrival, 1, 0);
	return r;
}

int arrival_fail_member(struct receiver *receiver, struct arrival *arrival, size_t index,
	const struct zh_error *error, bool tell)
{
	struct session *session = receiver->session;
	struct arriving_pack *pack;
	struct wire_member member;
	bool mine;
	int r;

	(void)pthread_mutex_lock(&session->lock);
	pack = arrival->pack;
	mine = pack && !arrival_is_finished(arrival) && !(pack->state[index] & MEMBER_FAILED);
	if (mine) {
		pack->state[index] |= MEMBER_FAILED;
		arrival->users++;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return 0;
	arriving_member(receiver, pack, index, &member);
	record_failure(receiver, member.parent, member.name, error);
	r = tell ? session_send_err(session, arrival->id, index + 1, error) : 0;
	arrival_release(receiver, arrival, 1, 0);
	return r;
}

void receiver_queue(struct receiver *receiver, struct job *job, enum job_kind kind)
{
	CHECK(job->kind == JOB_NONE);
	job->kind = kind;
	job->next = NULL;
	receiver->leaves += kind == JOB_LEAVE;
	*(receiver->queue_tail ? &receiver->queue_tail->next : &receiver->queue_head) = job;
	receiver->queue_tail = job;
	(void)pthread_cond_signal(&receiver->jobs);
}

void arrival_queue_if_complete(struct receiver *receiver, struct arrival *arrival)
{
	if (arrival->state != ARRIVAL_RECEIVING || !arrival->end_seen || arrival->leaves_left > 0 ||
		arrival->users > 0)
		return;
	arrival_advance(arrival, ARRIVAL_VERIFIED);
	arrival->users++;
	receiver_queue(receiver, &arrival->job, JOB_COMMIT);
}

bool arrival_has(const struct arrival *arrival, uint64_t leaf)
{
	return arrival->have[leaf / 8] & 1u << leaf % 8;
}

/* Leaves or members that are lacking, as ranges; sorted. Returns how many. */
static size_t lacking(const struct arrival *arrival, struct zh_extent *ret_range)
{
	const struct arriving_pack *pack = arrival->pack;
	uint64_t units = pack ? pack->count : leaf_count(arrival->size);
	uint64_t unit = pack ? 1 : LEAF_BYTES;
	size_t count = 0;
	bool open = false;

	for (uint64_t i = 0; i < units; i++) {
		bool lacks = pack ? pack->state[i] & MEMBER_WANTED : !arrival_has(arrival, i);
		if (lacks && !open)
			ret_range[count++] = (struct zh_extent){ i * unit, 0 };
		if (lacks)
			ret_range[count - 1].length += unit;
		open = lacks;
	}
	if (!pack && open)
		ret_range[count - 1].length = arrival->size - ret_range[count - 1].offset;
	return count;
}

struct session_tally arrival_tally(const struct receiver *receiver, const struct arrival *arrival)
{
	const struct arriving_pack *pack = arrival->pack;
	struct session_tally tally = { .files = pack ? 0 : 1, .bytes = arrival->size };
	struct wire_member member;

	if (arrival->in_place)
		return (struct session_tally){ .there = 1, .there_bytes = arrival->size };
	for (size_t i = 0; pack && i < pack->count; i++) {
		uint8_t state = pack->state[i] & (MEMBER_WANTED | MEMBER_FAILED);
		tally.files += state == MEMBER_WANTED;
		if (state != 0)
			continue;
		arriving_member(receiver, pack, i, &member);
		tally.there++;
		tally.there_bytes += member.size;
	}
	return tally;
}

static void list_lacking(struct receiver *receiver, const struct arrival *arrival)
{
	struct session *session = receiver->session;
	const struct arriving_pack *pack = arrival->pack;
	char path[MANIFEST_PATH_MAX + 1];
	struct wire_member member;

	if (!session->list)
		return;
	if (!pack && !arrival->in_place) {
		receiver_path(receiver, arrival->parent, arrival->name, path, sizeof(path));
		session_list_lacking(session, path, arrival->size, false);
	}
	for (size_t i = 0; pack && i < pack->count; i++) {
		if ((pack->state[i] & (MEMBER_WANTED | MEMBER_FAILED)) != MEMBER_WANTED)
			continue;
		arriving_member(receiver, pack, i, &member);
		receiver_path(receiver, member.parent, member.name, path, sizeof(path));
		session_list_lacking(session, path, member.size, member.kind == MEMBER_LINK);
	}
}

bool arrival_skip(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	struct session_tally tally = { 0 };

	(void)pthread_mutex_lock(&session->lock);
	bool mine = !arrival_is_finished(arrival); /* the sender may have given it up */
	if (mine) {
		arrival_advance(arrival, ARRIVAL_SKIPPED);
		arrival->users++;
		tally = arrival_tally(receiver, arrival);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return false;
	session_count(session, &tally);
	list_lacking(receiver, arrival);
	arrival_release(receiver, arrival, 1, 0);
	return true;
}

/* All of it is there by size and time, or has failed: the sender asks no more of it. */
static int skip_pack(struct receiver *receiver, struct arrival *arrival)
{
	struct frame need = { .type = FRAME_NEED, .flags = NEED_TRUSTED, .id = arrival->id };

	return arrival_skip(receiver, arrival) ? session_send(receiver->session, &need, NULL) : 0;
}

int arrival_need_pack(struct receiver *receiver, struct arrival *arrival, uint8_t flags)
{
	struct session *session = receiver->session;
	const struct arriving_pack *pack = arrival->pack;
	struct wire_member member;
	size_t wanted = 0;

	(void)pthread_mutex_lock(&session->lock);
	arrival->size = 0;
	for (size_t i = 0; i < pack->count; i++) {
		if (!(pack->state[i] & MEMBER_WANTED))
			continue;
		arriving_member(receiver, pack, i, &member);
		arrival->size += member.size;
		wanted++;
	}
	arrival->leaves_left = leaf_count(arrival->size);
	(void)pthread_mutex_unlock(&session->lock);
	return flags & NEED_TRUSTED && wanted == 0 ? skip_pack(receiver, arrival)
						   : arrival_send_need(receiver, arrival, flags);
}

int arrival_send_need(struct receiver *receiver, struct arrival *arrival, uint8_t flags)
{
	struct session *session = receiver->session;
	struct zh_extent *range = calloc(WIRE_RANGES_MAX, sizeof(*range));
	uint8_t *bytes = malloc(FRAME_PAYLOAD_CAP);
	struct frame need = { .type = FRAME_NEED, .flags = flags, .id = arrival->id };
	int length, r;

	if (!range || !bytes) {
		free(range);
		free(bytes);
		return session_failf(session, ZH_INTERNAL, ENOMEM, "NEED", "no memory");
	}
	(void)pthread_mutex_lock(&session->lock);
	bool open = !arrival_is_finished(arrival);
	if (open) {
		if (!receiver_is_dry(receiver))
			arrival_advance(arrival, ARRIVAL_RECEIVING);
		length =
			wire_build_ranges(range, lacking(arrival, range), bytes, FRAME_PAYLOAD_CAP);
		CHECK(length >= 0);
		need.length = (uint32_t)length;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (open && receiver_is_dry(receiver))
		open = arrival_skip(receiver, arrival);
	r = open ? session_send(session, &need, bytes) : 0;
	free(range);
	free(bytes);
	return r;
}

void arrival_set_had(struct arrival *arrival, uint64_t leaf, bool had)
{
	if (had)
		arrival->have[leaf / 8] |= (uint8_t)(1u << leaf % 8);
	else
		arrival->have[leaf / 8] &= (uint8_t) ~(1u << leaf % 8);
}

struct arrival *arrival_claim(struct receiver *receiver, const struct frame *data, bool *ret_store)
{
	struct session *session = receiver->session;
	uint64_t first = data->offset / LEAF_BYTES;
	uint64_t count = leaf_count(data->length);
	struct arrival *arrival;
	bool fits;

	(void)pthread_mutex_lock(&session->lock);
	arrival = arrival_find(receiver, data->id);
	fits = arrival &&
	       (arrival->state == ARRIVAL_RECEIVING || arrival->state == ARRIVAL_FAILED) &&
	       range_fits(data->offset, data->length, arrival->size) &&
	       ((data->offset + data->length) % LEAF_BYTES == 0 ||
		       data->offset + data->length == arrival->size);
	*ret_store = fits && arrival->state == ARRIVAL_RECEIVING;
	for (uint64_t i = 0; *ret_store && i < count; i++)
		if (arrival_has(arrival, first + i))
			fits = *ret_store = false; /* twice */
	for (uint64_t i = 0; *ret_store && i < count; i++)
		arrival_set_had(arrival, first + i, true);
	if (fits)
		arrival->users++;
	(void)pthread_mutex_unlock(&session->lock);
	return fits ? arrival : NULL;
}

void arrival_unclaim(struct receiver *receiver, struct arrival *arrival, const struct frame *data)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t i = 0; i < leaf_count(data->length); i++)
		arrival_set_had(arrival, data->offset / LEAF_BYTES + i, false);
	(void)pthread_mutex_unlock(&session->lock);
}

void arrival_release(
	struct receiver *receiver, struct arrival *arrival, uint32_t frames, uint64_t leaves)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	arrival->leaves_left -= leaves;
	arrival->users -= frames;
	struct leftovers unused = arrival_take_unused(arrival);
	arrival_queue_if_complete(receiver, arrival);
	(void)pthread_mutex_unlock(&session->lock);
	leftovers_discard(receiver, &unused);
}
