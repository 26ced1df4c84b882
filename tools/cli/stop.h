/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stop.h - SIGINT, SIGTERM and SIGHUP: the first one asks politely through a function of the
 * library, the second one ends the process.
 */
#ifndef CLI_STOP_H
#define CLI_STOP_H

/* act is called from a signal handler with subject. */
void stop_arm(void (*act)(void *subject), void *subject);
/* Signals act as the system has it from here on: call before subject is freed. */
void stop_disarm(void);
/* The exit status of an outcome: 128 + N where signal N has cancelled it. */
int stop_status(int outcome);

#endif
