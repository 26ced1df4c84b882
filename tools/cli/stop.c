/* SPDX-License-Identifier: Apache-2.0 */
/* stop.c - signal handling of the commands that run for long. */
#include <signal.h>
#include <stddef.h>

#include <zerohaul.h>

#include "stop.h"

static const int asking[] = { SIGINT, SIGTERM, SIGHUP };

static void (*polite)(void *subject);
static void *polite_subject;
static volatile sig_atomic_t received;

static void set_all(void (*handler)(int))
{
	/* Without SA_RESTART: a call that sleeps has to come back to see that it was cancelled. */
	struct sigaction action = { .sa_handler = handler };

	for (size_t i = 0; i < sizeof(asking) / sizeof(asking[0]); i++)
		sigaddset(&action.sa_mask, asking[i]);
	for (size_t i = 0; i < sizeof(asking) / sizeof(asking[0]); i++) {
		struct sigaction old;
		/* What was ignored on start stays so: nohup, jobs of a shell script. */
		if (sigaction(asking[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(asking[i], &action, NULL);
	}
}

static void on_signal(int number)
{
	received = number;
	set_all(SIG_DFL);
	polite(polite_subject);
}

void stop_arm(void (*act)(void *subject), void *subject)
{
	polite = act;
	polite_subject = subject;
	set_all(on_signal);
}

void stop_disarm(void)
{
	set_all(SIG_DFL);
}

int stop_status(int outcome)
{
	return outcome == ZH_CANCELLED && received ? 128 + received : outcome;
}
