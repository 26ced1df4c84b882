/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing.h - lines for standard output while a transfer runs: a thread of its own writes them, so
 * that a reader that takes its time, as a pager does, does not make the peer wait for an answer.
 */
#ifndef CLI_LISTING_H
#define CLI_LISTING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* What has not been written is kept in memory, however much it is. */
struct listing {
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	pthread_t thread;
	bool running;
	bool ending;
	char *text;
	size_t used;
	size_t cap;
};

/* False: there is no thread, and nothing is to be stopped. */
bool listing_start(struct listing *listing);
/* Adds a line, which has its newline. False: no memory. */
bool listing_add(struct listing *listing, const char *line, size_t length);
/* Waits until all of it has been written. Whether it could be, output_close tells. */
void listing_stop(struct listing *listing);

#endif
