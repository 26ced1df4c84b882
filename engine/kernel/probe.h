/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - what this kernel lets this process do, found by trying. Tried once per process: none of
 * it changes while a process runs. (What depends on a file or a socket is in file.c and sock.c.)
 */
#ifndef ZH_KERNEL_PROBE_H
#define ZH_KERNEL_PROBE_H

#include "kernel/facts.h"

/* Thread: any. The first caller pays for the trials (under a millisecond). */
void probe_host(struct host_facts *ret_facts);
/* The same, with words, for people. */
int probe_report(struct zh_probe *ret_probe) must_check;

#endif
