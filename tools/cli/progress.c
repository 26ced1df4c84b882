/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - shows how far it is. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "size.h"

enum {
	TERMINAL_MS = 100,
	PLAIN_MS = 1000,
	LINE_CAP = 256,
};

static void put(const char *text)
{
	/* A lost progress line is no reason to stop. */
	ssize_t written = write(STDERR_FILENO, text, strlen(text));
	(void)written;
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 2)
		return 80;
	return size.ws_col;
}

/* Bytes per second over the samples kept, 0 when there is nothing to tell from. */
static double recent_rate(const struct progress *progress)
{
	const uint64_t count = progress->sample_count;
	const uint64_t kept = count < PROGRESS_SAMPLES ? count : PROGRESS_SAMPLES;

	if (kept < 2)
		return 0;
	const struct zh_progress *last = &progress->sample[(count - 1) % PROGRESS_SAMPLES];
	const struct zh_progress *first = &progress->sample[(count - kept) % PROGRESS_SAMPLES];
	if (last->elapsed_ns <= first->elapsed_ns || last->bytes_moved < first->bytes_moved)
		return 0;
	return (double)(last->bytes_moved - first->bytes_moved) /
	       ((double)(last->elapsed_ns - first->elapsed_ns) / 1e9);
}

static void compose(const struct progress *progress, const struct zh_progress *now, char *line)
{
	const double rate = recent_rate(progress);
	/* Re-sends count as moved, so moved may pass known. */
	const uint64_t moved =
		now->bytes_moved < now->bytes_known ? now->bytes_moved : now->bytes_known;
	const uint64_t left = now->bytes_known - moved;
	const double percent =
		now->bytes_known ? 100.0 * (double)moved / (double)now->bytes_known : 0.0;
	char eta[48] = "";
	char files[64] = "";

	if (rate > 0 && left > 0)
		snprintf(eta, sizeof(eta), "  ETA %s",
			clock_text((uint64_t)((double)left / rate + 0.5)).text);
	if (now->files_known > 1)
		snprintf(files, sizeof(files), "  %u/%u files", now->files_done, now->files_known);
	snprintf(line, LINE_CAP, "%s / %s  %3.0f%%  %s/s%s%s  %s", size_text(moved).text,
		size_text(now->bytes_known).text, percent, size_text((uint64_t)rate).text, eta,
		files, now->phase);
}

static void show(struct progress *progress)
{
	struct zh_progress *now = &progress->sample[progress->sample_count % PROGRESS_SAMPLES];
	char line[LINE_CAP];
	char out[LINE_CAP + 8];

	memset(now, 0, sizeof(*now));
	now->size = sizeof(*now);
	progress->snapshot(progress->subject, now);
	progress->sample_count++;
	compose(progress, now, line);
	if (progress->terminal) {
		const size_t width = terminal_width() - 1;
		if (width < sizeof(line))
			line[width] = '\0';
		snprintf(out, sizeof(out), "\r%s\x1b[K", line);
	} else {
		snprintf(out, sizeof(out), "%s\n", line);
	}
	put(out);
}

static void *run(void *argument)
{
	struct progress *progress = argument;
	struct timespec next;
	const long step_ms = progress->terminal ? TERMINAL_MS : PLAIN_MS;

	clock_gettime(CLOCK_MONOTONIC, &next);
	pthread_mutex_lock(&progress->mutex);
	while (!progress->stopping) {
		next.tv_nsec += step_ms % 1000 * 1000000;
		next.tv_sec += step_ms / 1000 + next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		int r = 0;
		while (!progress->stopping && r == 0)
			r = pthread_cond_timedwait(&progress->wake, &progress->mutex, &next);
		if (!progress->stopping)
			show(progress);
	}
	pthread_mutex_unlock(&progress->mutex);
	if (progress->terminal)
		put("\r\x1b[K");
	return NULL;
}

static bool wanted(enum progress_mode mode, bool terminal)
{
	return mode == PROGRESS_ALWAYS || (mode == PROGRESS_AUTO && terminal);
}

void progress_start(struct progress *progress,
	void (*snapshot)(const void *subject, struct zh_progress *ret_progress),
	const void *subject, enum progress_mode mode)
{
	const char *term = getenv("TERM");
	const bool terminal = isatty(STDERR_FILENO) && (!term || strcmp(term, "dumb") != 0);
	pthread_condattr_t steady;
	sigset_t all;
	sigset_t before;

	*progress =
		(struct progress){ .snapshot = snapshot, .subject = subject, .terminal = terminal };
	if (!wanted(mode, terminal))
		return;
	pthread_mutex_init(&progress->mutex, NULL);
	pthread_condattr_init(&steady);
	pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
	pthread_cond_init(&progress->wake, &steady);
	pthread_condattr_destroy(&steady);
	/* Signals belong to the thread that works: its calls are to be interrupted. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	progress->running = pthread_create(&progress->thread, NULL, run, progress) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void progress_stop(struct progress *progress)
{
	if (!progress->running)
		return;
	pthread_mutex_lock(&progress->mutex);
	progress->stopping = true;
	pthread_cond_signal(&progress->wake);
	pthread_mutex_unlock(&progress->mutex);
	pthread_join(progress->thread, NULL);
	pthread_cond_destroy(&progress->wake);
	pthread_mutex_destroy(&progress->mutex);
	progress->running = false;
}
