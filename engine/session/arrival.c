/* SPDX-License-Identifier: Apache-2.0 */
/* arrival.c - see arrival.h. */
#include "session/arrival.h"

#define CREDIT_STEP (WINDOW / 4)

bool arrival_is_finished(const struct arrival *arrival)
{
	return arrival->state == ARRIVAL_DURABLE || arrival->state == ARRIVAL_FAILED;
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

struct partial arrival_take_unused(struct arrival *arrival)
{
	struct partial partial = { .fd = -1 };

	if (arrival_is_over(arrival)) {
		free(arrival->plan);
		free(arrival->have);
		free(arrival->resends);
		arrival->plan = NULL;
		arrival->have = arrival->resends = NULL;
	}
	if (arrival->state == ARRIVAL_FAILED && arrival->users == 0) {
		partial = arrival->partial;
		arrival->partial.fd = -1;
	}
	return partial;
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

int arrival_fail(
	struct receiver *receiver, struct arrival *arrival, const struct zh_error *error, bool tell)
{
	struct session *session = receiver->session;
	bool mine;

	(void)pthread_mutex_lock(&session->lock);
	mine = !arrival_is_finished(arrival);
	if (mine)
		arrival_advance(arrival, ARRIVAL_FAILED);
	struct partial unused = arrival_take_unused(arrival);
	(void)pthread_mutex_unlock(&session->lock);
	partial_discard(&receiver->staging, &unused);
	if (!mine)
		return 0;
	session_file_failed(session, arrival->name, strlen(arrival->name), error);
	return tell ? session_send_err(session, arrival->id, error) : 0;
}

void arrival_queue_if_complete(struct receiver *receiver, struct arrival *arrival)
{
	if (arrival->state != ARRIVAL_RECEIVING || !arrival->end_seen || arrival->leaves_left > 0 ||
		arrival->users > 0)
		return;
	arrival_advance(arrival, ARRIVAL_VERIFIED);
	arrival->users++;
	arrival->next = NULL;
	if (receiver->queue_tail)
		receiver->queue_tail->next = arrival;
	else
		receiver->queue_head = arrival;
	receiver->queue_tail = arrival;
	(void)pthread_cond_signal(&receiver->commit);
}

static bool leaf_is_had(const struct arrival *arrival, uint64_t leaf)
{
	return arrival->have[leaf / 8] & 1u << leaf % 8;
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
		if (leaf_is_had(arrival, first + i))
			fits = *ret_store = false; /* twice */
	for (uint64_t i = 0; *ret_store && i < count; i++)
		arrival_set_had(arrival, first + i, true);
	if (fits)
		arrival->users++;
	(void)pthread_mutex_unlock(&session->lock);
	return fits ? arrival : NULL;
}

void arrival_release(
	struct receiver *receiver, struct arrival *arrival, uint32_t frames, uint64_t leaves)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	arrival->leaves_left -= leaves;
	arrival->users -= frames;
	struct partial unused = arrival_take_unused(arrival);
	arrival_queue_if_complete(receiver, arrival);
	(void)pthread_mutex_unlock(&session->lock);
	partial_discard(&receiver->staging, &unused);
}
