/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - see listing.h. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "listing.h"

#define FIRST_BYTES 4096

static void *run(void *argument)
{
	struct listing *listing = argument;

	pthread_mutex_lock(&listing->mutex);
	while (listing->used > 0 || !listing->ending) {
		if (listing->used == 0) {
			pthread_cond_wait(&listing->wake, &listing->mutex);
			continue;
		}
		char *text = listing->text;
		size_t used = listing->used;
		listing->text = NULL;
		listing->used = listing->cap = 0;
		pthread_mutex_unlock(&listing->mutex);
		(void)fwrite(text, 1, used, stdout);
		(void)fflush(stdout); /* what is found is to be seen */
		free(text);
		pthread_mutex_lock(&listing->mutex);
	}
	pthread_mutex_unlock(&listing->mutex);
	return NULL;
}

bool listing_start(struct listing *listing)
{
	sigset_t all, before;

	*listing = (struct listing){ .text = NULL };
	pthread_mutex_init(&listing->mutex, NULL);
	pthread_cond_init(&listing->wake, NULL);
	/* Signals belong to the thread that works: its calls are to be interrupted. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	listing->running = pthread_create(&listing->thread, NULL, run, listing) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return listing->running;
}

bool listing_add(struct listing *listing, const char *line, size_t length)
{
	bool fits = true;

	pthread_mutex_lock(&listing->mutex);
	if (listing->cap - listing->used < length) {
		size_t cap = 2 * listing->cap + length + FIRST_BYTES;
		char *grown = realloc(listing->text, cap);
		fits = grown != NULL;
		if (fits) {
			listing->text = grown;
			listing->cap = cap;
		}
	}
	if (fits) {
		memcpy(listing->text + listing->used, line, length);
		listing->used += length;
		pthread_cond_signal(&listing->wake);
	}
	pthread_mutex_unlock(&listing->mutex);
	return fits;
}

void listing_stop(struct listing *listing)
{
	if (!listing->running)
		return;
	pthread_mutex_lock(&listing->mutex);
	listing->ending = true;
	pthread_cond_signal(&listing->wake);
	pthread_mutex_unlock(&listing->mutex);
	pthread_join(listing->thread, NULL);
	pthread_cond_destroy(&listing->wake);
	pthread_mutex_destroy(&listing->mutex);
	listing->running = false;
}
