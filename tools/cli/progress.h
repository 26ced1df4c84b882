/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - a line on stderr while something runs. A thread of its own polls the library's
 * snapshot; it never touches the subject otherwise.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <zerohaul.h>

/* The order is that of --progress=auto|always|never. */
enum progress_mode { PROGRESS_AUTO = 0, PROGRESS_ALWAYS = 1, PROGRESS_NEVER = 2 };

#define PROGRESS_SAMPLES 16

struct progress {
	void (*snapshot)(const void *subject, struct zh_progress *ret_progress);
	const void *subject;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	bool running;  /* the thread exists */
	bool stopping; /* under mutex */
	bool terminal; /* one line, rewritten */
	/* The last samples, for the rate; a ring. */
	struct zh_progress sample[PROGRESS_SAMPLES];
	uint64_t sample_count;
};

/*
 * Start to show what snapshot tells of subject; shows nothing where the mode or the terminal say
 * so. Cannot fail.
 */
void progress_start(struct progress *progress,
	void (*snapshot)(const void *subject, struct zh_progress *ret_progress),
	const void *subject, enum progress_mode mode);
/* Stop, and clear the line. */
void progress_stop(struct progress *progress);

#endif
