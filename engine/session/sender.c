/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender.c - see sender.h.
 *
 * The announcing thread (announce.c) tells what there is. The control thread takes NEED, NAK, ACK
 * and ERR. Stream threads (send_stream.c) take work from the schedule, one DATA frame at a time.
 * Whichever thread settles the last byte that was asked for sends END. A source stays open until
 * its acknowledgement.
 */
#include "session/sender.h"

#include "session/departure.h"

#include <errno.h>

/* A file of more leaves is sent again rather than compared: 16 bytes are kept for each. */
#define PROOF_LEAVES_MOST ((uint64_t)1 << 20)

static const struct session_role_ops sender_ops;

int sender_new(struct session *session, struct sender **ret_sender)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	pthread_condattr_t monotonic;

	if (!sender)
		return -ENOMEM;
	sender->session = session;
	sender->next_id = sender->next_folder = 1;
	sender->credit = LIMIT_OPEN_IDS; /* what every receiver gives to begin with */
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&sender->work, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	(void)pthread_cond_init(&sender->room, NULL);
	session->role = ROLE_SENDER;
	session->ops = &sender_ops;
	session->role_state = sender;
	*ret_sender = sender;
	return 0;
}

static void join_announcer(struct sender *sender)
{
	if (sender->announcing)
		(void)pthread_join(sender->announcer, NULL);
	sender->announcing = false;
}

void sender_free(struct sender *sender)
{
	if (!sender)
		return;
	join_announcer(sender);
	for (size_t i = 0; i < DEPARTURES; i++)
		departure_free(sender->window[i]);
	folders_free(sender);
	announce_free(sender);
	walk_rules_free(sender->rules);
	schedule_fini(&sender->schedule);
	for (size_t i = 0; i < LIMIT_STREAMS; i++)
		lane_fini(&sender->lane[i]);
	(void)pthread_cond_destroy(&sender->work);
	(void)pthread_cond_destroy(&sender->room);
	free(sender);
}

int sender_rule(struct sender *sender, const char *pattern, bool exclude)
{
	int r = sender->rules ? 0 : walk_rules_new(&sender->rules);

	return r < 0 ? r : walk_rules_add(sender->rules, pattern, exclude);
}

void sender_list(struct sender *sender, const struct walk_list *list)
{
	sender->list = list;
}

static int sender_pump(struct session *session)
{
	struct sender *sender = session->role_state;
	bool done;

	if (session->state != SESSION_OPEN)
		return 0;
	if (!sender->begun) {
		sender->begun = true;
		int r = announce_start(sender);
		if (r < 0)
			return session_failf(session, ZH_INTERNAL, r, "announce", "no thread");
	}
	(void)pthread_mutex_lock(&session->lock);
	done = sender_is_done(sender);
	(void)pthread_mutex_unlock(&session->lock);
	return done;
}

/* ------------------------------ frames ------------------------------------------------- */

static int proto(struct session *session, const char *what)
{
	return session_failf(session, ZH_PROTO, 0, "control connection", "%s", what);
}

/* Units of what NEED and LEAF count: bytes of a file, members of a pack. */
static uint64_t units_of(const struct departure *departure)
{
	return departure->pack ? departure->pack->count : departure->source.size;
}

static bool range_is_right(const struct departure *departure, const struct zh_extent *range)
{
	uint64_t end = range->offset + range->length; /* the parser has seen to overflow */

	if (end > units_of(departure))
		return false;
	return departure->pack ||
	       (holes_spare(&departure->holes, range) && range->offset % LEAF_BYTES == 0 &&
		       (end % LEAF_BYTES == 0 || end == departure->source.size));
}

/* The members in these ranges are wanted, which are sorted. Returns their bytes. Locked. */
static uint64_t want_members(struct pack *pack, const struct zh_extent *range, size_t count)
{
	struct wire_member member;
	uint64_t bytes = 0;
	size_t at = 0, next = 0;

	for (uint64_t i = 0; wire_pack_next(pack->table, pack->table_length, &at, &member); i++) {
		while (next < count && i >= range[next].offset + range[next].length)
			next++;
		if (next == count || i < range[next].offset)
			continue;
		pack->state[i] |= MEMBER_WANTED;
		bytes += member.size;
	}
	return bytes;
}

/* Leaves that are sent after all no longer count by their proof. Locked. */
static void forget_proof(struct departure *departure, const struct zh_extent *range)
{
	uint64_t first = range->offset / LEAF_BYTES;

	for (uint64_t i = 0; departure->proved && i < leaf_count(range->length); i++) {
		uint8_t bit = (uint8_t)(1u << (first + i) % 8);
		if (!(departure->proved[(first + i) / 8] & bit))
			continue;
		departure->proved[(first + i) / 8] &= (uint8_t)~bit;
		leaf_sum_remove(&departure->sum, first + i, &departure->proof[first + i]);
	}
}

/* The receiver wants digests of what it may have. Locked. */
static int begin_proof(struct sender *sender, struct departure *departure,
	const struct zh_extent *range, size_t count)
{
	uint64_t leaves =
		departure->pack ? departure->pack->count : leaf_count(departure->source.size);
	int r = 0;

	if (departure->state != DEPARTURE_ANNOUNCED || count == 0 || leaves > PROOF_LEAVES_MOST)
		return -EPROTO;
	departure->proof = calloc(leaves, sizeof(*departure->proof));
	departure->proved = calloc(1, leaves / 8 + 1);
	if (!departure->proof || !departure->proved)
		return -ENOMEM;
	departure_advance(departure, DEPARTURE_PROVING);
	for (size_t i = 0; i < count && r == 0; i++)
		r = range_is_right(departure, &range[i])
			    ? schedule_add(&sender->schedule, departure->id, range[i], false)
			    : -EPROTO;
	return r;
}

/* What is lacking is known. Locked. */
static int take_need(struct departure *departure, const struct zh_extent *range, size_t count)
{
	if (departure->state != DEPARTURE_ANNOUNCED && departure->state != DEPARTURE_PROVING)
		return -EPROTO;
	for (size_t i = 0; i < count; i++)
		if (!range_is_right(departure, &range[i]))
			return -EPROTO;
	departure->in_place =
		departure->state == DEPARTURE_PROVING && !departure->pack && count == 0;
	if (departure->pack)
		departure->size = want_members(departure->pack, range, count);
	return 0;
}

/* It is to be sent. *ret_due: nothing is lacking, so END is due. Locked. */
static int begin_sending(struct sender *sender, struct departure *departure,
	const struct zh_extent *range, size_t count, bool *ret_due)
{
	int r = take_need(departure, range, count);

	if (r < 0)
		return r;
	schedule_drop(&sender->schedule, departure->id); /* proofs that nobody waits for */
	departure_advance(departure, DEPARTURE_SENDING);
	for (size_t i = 0; i < count && r == 0 && !departure->pack; i++) {
		forget_proof(departure, &range[i]);
		r = schedule_add(&sender->schedule, departure->id, range[i], false);
		departure->unsent += range[i].length;
	}
	if (departure->pack) {
		departure->unsent = departure->size;
		if (departure->size > 0)
			r = schedule_add(&sender->schedule, departure->id,
				(struct zh_extent){ 0, departure->size }, false);
	}
	*ret_due = r == 0 && departure_end_is_due(departure);
	return r;
}

/* What its end stands for: files that came, and files that were there. Locked. */
static struct session_tally tally_of(const struct departure *departure)
{
	const struct pack *pack = departure->pack;
	struct session_tally tally = { .files = 1, .bytes = departure->size };
	struct wire_member member;
	size_t at = 0;

	if (departure->in_place)
		return (struct session_tally){ .there = 1, .there_bytes = departure->size };
	if (pack)
		tally.files = 0;
	for (size_t i = 0; pack && wire_pack_next(pack->table, pack->table_length, &at, &member);
		i++) {
		tally.files += pack->state[i] == MEMBER_WANTED; /* and not failed */
		tally.there += pack->state[i] == 0;
		tally.there_bytes += pack->state[i] == 0 ? member.size : 0;
	}
	return tally;
}

/* Equal size and time were enough, and all of it is there: that was that. Locked. */
static bool is_skipped(const struct departure *departure, const struct frame *frame, size_t count)
{
	return frame->flags & NEED_TRUSTED && count == 0 && departure->state == DEPARTURE_ANNOUNCED;
}

/*
 * It is over without being sent: a dry run goes no further, or all of it is trusted to be there.
 * Locked.
 */
static struct session_tally settle_unsent(struct sender *sender, struct departure *departure)
{
	struct session_tally tally = tally_of(departure);

	departure->frames++; /* what is listed is needed until then */
	departure_settle(sender, departure, DEPARTURE_SKIPPED);
	return tally;
}

static int leave_unsent(
	struct sender *sender, struct departure *departure, const struct session_tally *tally)
{
	struct session *session = sender->session;

	session_count(session, tally);
	departure_list_lacking(session, departure);
	return departure_put(sender, departure);
}

static int frame_need(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	struct zh_extent *range = calloc(WIRE_RANGES_MAX, sizeof(*range));
	bool due = false, unsent = false;
	struct session_tally tally = { 0 };
	size_t count = 0;
	int r = range ? 0 : -ENOMEM;

	if (r == 0)
		r = wire_parse_ranges(
			session->control.payload, frame->length, range, WIRE_RANGES_MAX, &count);
	if (r == 0 && frame->flags & NEED_TRUSTED && session->setup.existing != WIRE_EXISTING_TRUST)
		r = -EPROTO;
	(void)pthread_mutex_lock(&session->lock);
	if (departure->state != DEPARTURE_FAILED && r == 0) {
		unsent = is_skipped(departure, frame, count);
		if (unsent) {
			departure->in_place = !departure->pack;
		} else if (frame->flags & NEED_PROVE) {
			r = begin_proof(sender, departure, range, count);
		} else if (session->setup.dry_run) {
			r = take_need(departure, range, count);
			unsent = r == 0;
		} else {
			r = begin_sending(sender, departure, range, count, &due);
		}
		if (unsent)
			tally = settle_unsent(sender, departure);
		(void)pthread_cond_broadcast(&sender->work);
	}
	(void)pthread_mutex_unlock(&session->lock);
	free(range);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "NEED", "no memory");
	if (r < 0)
		return proto(session, "NEED asks for what is not there");
	if (unsent)
		return leave_unsent(sender, departure, &tally);
	return due ? departure_send_end(sender, departure) : 0;
}

/* Counts a NAK of one leaf. -EPROTO: it has been re-sent often enough. */
static int count_nak(struct departure *departure, uint64_t leaf)
{
	if (!departure->resends)
		departure->resends = calloc(1, leaf_count(departure->size));
	if (!departure->resends)
		return -ENOMEM;
	return departure->resends[leaf]++ < LIMIT_RESENDS ? 0 : -EPROTO;
}

static int frame_nak(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	struct wire_nak nak;
	bool right = wire_parse_nak(session->control.payload, frame->length, &nak) == 0 &&
		     frame->offset % LEAF_BYTES == 0;
	int r = 0;

	(void)pthread_mutex_lock(&session->lock);
	right = right && frame->offset < departure->size;
	struct zh_extent leaf = { frame->offset,
		right ? min_u64(LEAF_BYTES, departure->size - frame->offset) : 0 };
	if (!right && departure->state != DEPARTURE_FAILED) {
		r = -ERANGE;
	} else if (departure->state == DEPARTURE_SENDING || departure->state == DEPARTURE_ENDED) {
		r = count_nak(departure, frame->offset / LEAF_BYTES);
		if (r == 0)
			r = schedule_add(&sender->schedule, departure->id, leaf, true);
		departure->unsent += leaf.length;
		leaf_sum_remove(&departure->sum, frame->offset / LEAF_BYTES, &nak.claimed);
		(void)pthread_cond_broadcast(&sender->work);
	} else if (departure->state != DEPARTURE_FAILED) {
		r = -EPROTO;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "NAK", "no memory");
	if (r == -ERANGE)
		return proto(session, "NAK for what was not sent");
	if (r < 0)
		return proto(session, "a leaf is refused too often");
	atomic_fetch_add(&session->resent_leaves, 1);
	return 0;
}

static int frame_ack(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	bool durable = session->setup.durability == ZH_DURABLE_FULL;
	struct digest root;
	struct session_tally tally = { 0 };
	size_t count = 0;
	bool right, ended;

	if (wire_parse_digests(session->control.payload, frame->length, &root, 1, &count) < 0 ||
		count != 1)
		return proto(session, "malformed ACK");
	(void)pthread_mutex_lock(&session->lock);
	ended = departure->state == DEPARTURE_ENDED;
	right = ended && digest_equal(&root, &departure->root) &&
		(!durable || frame->flags & ACK_DURABLE);
	if (right) {
		tally = tally_of(departure);
		departure->frames++; /* what is listed is needed until then */
		departure_settle(sender, departure, DEPARTURE_DONE);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!right)
		return proto(session,
			ended ? "ACK with another root or less than asked for" : "ACK before END");
	session_count(session, &tally);
	departure_list(sender, departure);
	return departure_put(sender, departure);
}

/* A directory could not be made at the receiver, or something in one was not removed. */
static int frame_dir_err(struct sender *sender, uint64_t id, const struct zh_error *error)
{
	struct session *session = sender->session;
	struct folder *folder;
	char path[1024] = "";

	(void)pthread_mutex_lock(&session->lock);
	for (folder = sender->folder; folder && folder->id != id; folder = folder->next)
		;
	if (folder && !folder->failed) {
		folder->failed = true;
		folder_path(folder->parent, folder->name, path, sizeof(path));
	}
	(void)pthread_mutex_unlock(&session->lock);
	/* one that was left: only its mode and times, or that it is not stored safely */
	session_file_failed(session, path, strlen(path), error);
	return 0;
}

static int frame_err(struct sender *sender, const struct frame *frame)
{
	struct session *session = sender->session;
	struct departure *departure;
	struct wire_err wire;
	struct zh_error error;
	size_t members = 0;

	if (wire_parse_err(session->control.payload, frame->length, &wire) < 0)
		return proto(session, "malformed ERR");
	session_error_from_wire(&wire, &error);
	if (frame->flags & ERR_DIRECTORY && frame->id == 0 && !(session->setup.tree & TREE_DELETE))
		return proto(session, "ERR for the place, where nothing is to be removed");
	if (frame->flags & ERR_DIRECTORY)
		return frame_dir_err(sender, frame->id, &error);
	(void)pthread_mutex_lock(&session->lock);
	departure = departure_find(sender, frame->id);
	if (departure && departure->pack)
		members = departure->pack->count;
	(void)pthread_mutex_unlock(&session->lock);
	if (!departure)
		return proto(session, "a frame for a file that was not announced");
	if (frame->offset > 0 && members > 0)
		return frame->offset > members
			       ? proto(session, "ERR for a file that was not announced")
			       : member_fail(sender, departure, frame->offset - 1, &error, false);
	return departure_fail(sender, departure, &error, false);
}

/* A data connection: how many of its DATA are complete, or that it is over. */
static int frame_got(struct sender *sender, const struct frame *frame)
{
	struct session *session = sender->session;
	struct lane *lane;
	int r;

	if (frame->id >= session->setup.streams)
		return proto(session, "GOT for a data connection that cannot be");
	if (session->state != SESSION_OPEN) /* nothing is lacking any more */
		return 0;
	lane = &sender->lane[frame->id];
	/* first, since the thread of a connection that ends early may not have begun with its lane
	 */
	r = frame->flags & GOT_LAST ? session_heard_end(session, frame->id) : 0;
	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&session->lock);
	r = lane_confirm(lane, frame->offset);
	if (r == 0 && frame->offset > 0)
		session->stream[frame->id].progressed = true;
	if (r == 0 && frame->flags & GOT_LAST) {
		lane->ended = true;
		r = lane->busy ? 0 : sender_repeat(sender, lane);
		(void)pthread_cond_broadcast(&sender->work);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "GOT", "no memory");
	return r < 0 ? proto(session, "GOT of what was not sent") : 0;
}

static int frame_credit(struct sender *sender, const struct frame *frame)
{
	(void)pthread_mutex_lock(&sender->session->lock);
	sender->credit = max_u64(sender->credit, frame->id); /* two threads may give in turn */
	(void)pthread_cond_signal(&sender->room);
	(void)pthread_mutex_unlock(&sender->session->lock);
	return 0;
}

static int sender_frame(struct session *session, const struct frame *frame)
{
	struct sender *sender = session->role_state;
	struct departure *departure;

	if (frame->type == FRAME_CREDIT)
		return frame_credit(sender, frame);
	if (frame->type == FRAME_GOT)
		return frame_got(sender, frame);
	if (frame->type == FRAME_ERR)
		return frame_err(sender, frame);
	(void)pthread_mutex_lock(&session->lock);
	departure = departure_find(sender, frame->id);
	(void)pthread_mutex_unlock(&session->lock);
	if (!departure)
		return proto(session, "a frame for a file that was not announced");
	switch (frame->type) {
	case FRAME_NEED:
		return frame_need(sender, departure, frame);
	case FRAME_NAK:
		return frame_nak(sender, departure, frame);
	case FRAME_ACK:
		return frame_ack(sender, departure, frame);
	default:
		return proto(session, "unexpected frame");
	}
}

static void sender_wake(struct session *session)
{
	struct sender *sender = session->role_state;

	(void)pthread_mutex_lock(&session->lock);
	(void)pthread_cond_broadcast(&sender->work);
	(void)pthread_cond_broadcast(&sender->room);
	(void)pthread_mutex_unlock(&session->lock);
}

/* A receiver that ends before the sender does gives up what has not been acknowledged. */
static bool sender_settled(struct session *session)
{
	const struct sender *sender = session->role_state;
	bool settled;

	(void)pthread_mutex_lock(&session->lock);
	settled = session->state < SESSION_OPEN ||
		  (sender->announced && sender->open_files == 0 && sender->open_packs == 0);
	(void)pthread_mutex_unlock(&session->lock);
	return settled;
}

/* Who ends it has nothing to wait for. */
static enum session_backlog sender_backlog(struct session *session)
{
	(void)session;
	return BACKLOG_NONE;
}

static void sender_finish(struct session *session)
{
	join_announcer(session->role_state); /* it has ended, or it ends with the session */
}

static int sender_tell_end(struct session *session, uint32_t index, uint64_t frames)
{
	struct frame lost = { .type = FRAME_LOST, .id = index };

	(void)frames; /* the receiver knows */
	return session_send(session, &lost, NULL);
}

static const struct session_role_ops sender_ops = {
	.frame = sender_frame,
	.pump = sender_pump,
	.stream = send_stream,
	.tell_end = sender_tell_end,
	.wake = sender_wake,
	.settled = sender_settled,
	.backlog = sender_backlog,
	.finish = sender_finish,
};
