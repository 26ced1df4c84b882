/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c - see probe.h. Everything tried here is undone here. */
#include "kernel/probe.h"

#include "base/sys.h"
#include "kernel/block.h"
#include "kernel/file.h"
#include "kernel/pipe.h"
#include "kernel/ring.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TRIAL_BLOCKS       2
#define TRIAL_BLOCK_BYTES  (1024 * 1024)
#define TRIAL_RING_ENTRIES 8
#define PIPE_WANTED_BYTES  (1024 * 1024)
#define OPCODE_SEND_ZC     47 /* IORING_OP_SEND_ZC; older headers lack it */

static void try_ring(struct host_facts *facts)
{
	struct iovec buffers[TRIAL_BLOCKS];
	struct block_pool pool;
	struct ring *ring;

	facts->ring_error = ring_open(TRIAL_RING_ENTRIES, &ring);
	if (facts->ring_error < 0)
		return;
	facts->ring = true;
	facts->ring_flags = ring_setup_flags(ring);
	facts->ring_recv = ring_supports(ring, IORING_OP_RECV);
	facts->ring_send_zc = ring_supports(ring, OPCODE_SEND_ZC);
	facts->register_error = block_pool_open(&pool, TRIAL_BLOCKS, TRIAL_BLOCK_BYTES);
	if (facts->register_error == 0) {
		for (unsigned i = 0; i < TRIAL_BLOCKS; i++)
			buffers[i] = (struct iovec){ pool.block[i].memory, TRIAL_BLOCK_BYTES };
		facts->register_error = ring_register(ring, buffers, TRIAL_BLOCKS);
	}
	facts->ring_registers = facts->register_error == 0;
	ring_close(ring);
	block_pool_close(&pool);
}

static uint64_t memory_available(void)
{
	char text[512] = { 0 };
	const char *line;
	int fd = sys_openat(AT_FDCWD, "/proc/meminfo", O_RDONLY, 0);

	if (fd < 0)
		return 0;
	if (sys_read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	sys_close(fd);
	line = strstr(text, "MemAvailable:");
	return line ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * KIB : 0;
}

/* A page from a memory file through a pipe: are sendfile and splice there and allowed? */
static void try_splice(struct host_facts *facts)
{
	uint64_t start = 0;
	struct pipe pipe;
	int fd;

	if (pipe_open(&pipe, PIPE_WANTED_BYTES) < 0)
		return;
	facts->pipe_bytes = pipe.size_bytes;
	fd = memfd_create("zerohaul-probe", MFD_CLOEXEC);
	if (fd >= 0 && sys_ftruncate(fd, 8192) == 0) {
		facts->splice = sys_splice(fd, &start, pipe.in, NULL, 4096, 0) > 0;
		facts->sendfile = sys_sendfile(pipe.in, fd, 4096, 4096) > 0;
	}
	sys_close(fd);
	pipe_close(&pipe);
}

/* CAP_IPC_LOCK: the limit of locked memory is for others. */
static bool may_lock_all(void)
{
	char text[4096] = { 0 };
	const char *line;
	int fd = sys_openat(AT_FDCWD, "/proc/self/status", O_RDONLY, 0);

	if (fd < 0)
		return false;
	if (sys_read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	sys_close(fd);
	line = strstr(text, "\nCapEff:");
	return line && strtoull(line + strlen("\nCapEff:"), NULL, 16) >> CAP_IPC_LOCK & 1;
}

static uint64_t memlock_bytes(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return may_lock_all() ? UINT64_MAX : limit.rlim_cur;
}

static struct host_facts host;

static void probe_once(void)
{
	try_ring(&host);
	try_splice(&host);
	host.memlock_bytes = memlock_bytes();
}

void probe_host(struct host_facts *ret_facts)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, probe_once);
	*ret_facts = host;
	ret_facts->memory_available_bytes = memory_available();
}

static void feature(struct zh_probe *probe, const char *name, bool present, const char *format, ...)
	printf_like(4, 5);
static void feature(struct zh_probe *probe, const char *name, bool present, const char *format, ...)
{
	struct zh_feature *row = &probe->feature[probe->feature_count];
	va_list arguments;

	CHECK(probe->feature_count < ZH_PROBE_FEATURES);
	probe->feature_count++;
	TEXT_SET(row->name, name);
	row->present = present;
	va_start(arguments, format);
	(void)vsnprintf(row->detail, sizeof(row->detail), format, arguments);
	va_end(arguments);
}

static const char *error_text(int error)
{
	return error ? strerrordesc_np(-error) : "works";
}

static const char *open_how_answer(bool *ret_present)
{
	int fd = sys_openat2(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0, 0);

	*ret_present = fd >= 0;
	sys_close(fd);
	return fd < 0 ? error_text(fd) : "works";
}

int probe_report(struct zh_probe *ret_probe)
{
	struct zh_probe probe = { .size = sizeof(probe) };
	struct host_facts facts;
	struct utsname name;
	const char *answer;
	bool present;

	probe_host(&facts);
	(void)uname(&name);
	feature(&probe, "linux", true, "%.40s %.40s", name.release, name.machine);
	feature(&probe, "sendfile", facts.sendfile, "file to pipe: %s",
		facts.sendfile ? "works" : "refused");
	feature(&probe, "splice", facts.splice, "file to pipe: %s",
		facts.splice ? "works" : "refused");
	feature(&probe, "pipe", facts.pipe_bytes > 0, "largest granted: %u KiB",
		facts.pipe_bytes / 1024);
	feature(&probe, "io_uring", facts.ring, "set-up: %s", error_text(facts.ring_error));
	feature(&probe, "io_uring flags", facts.ring_flags != 0, "granted: 0x%x", facts.ring_flags);
	feature(&probe, "registered buffers", facts.ring_registers, "2 MiB: %s",
		facts.ring ? error_text(facts.register_error) : "no ring");
	feature(&probe, "io_uring send_zc", facts.ring_send_zc, "%s",
		facts.ring_send_zc ? "known to the kernel" : "unknown to the kernel");
	feature(&probe, "memlock", true,
		facts.memlock_bytes == UINT64_MAX ? "unlimited" : "%llu KiB",
		(unsigned long long)(facts.memlock_bytes / KIB));
	feature(&probe, "memory", facts.memory_available_bytes > 0, "%llu MiB available",
		(unsigned long long)(facts.memory_available_bytes / MIB));
	answer = open_how_answer(&present);
	feature(&probe, "openat2", present, "%s", answer);
	*ret_probe = probe;
	return 0;
}

ZH_API int zh_probe(struct zh_probe *ret_probe)
{
	return ret_probe ? probe_report(ret_probe) : -EINVAL;
}
