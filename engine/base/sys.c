/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.c - the only file of the engine that makes system calls on files and sockets and reads errno.
 * Each wrapper counts, asks the fault seam, calls, and turns errno into a negative result.
 */
#include "base/sys.h"
#include "zerohaul.h"

#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/xattr.h>
#include <unistd.h>

_Thread_local uint64_t sys_calls[SYS_CALL_COUNT];

#define SYS_TEXT(name, text) [SYS_##name] = (text),
static const char *const call_text[SYS_CALL_COUNT] = { SYS_CALLS(SYS_TEXT) };
#undef SYS_TEXT

_Static_assert(SYS_CALL_COUNT <= ZH_CALL_MAX, "zh_stats.calls is too small");

const char *sys_call_text(enum sys_call call)
{
	return call < SYS_CALL_COUNT ? call_text[call] : NULL;
}

#ifdef SYS_FAULTS
#include <pthread.h>

static struct {
	pthread_mutex_t lock;
	struct sys_fault fault;
	uint64_t seen;
	uint64_t struck;
	enum sys_call struck_call;
} seam = { .lock = PTHREAD_MUTEX_INITIALIZER, .struck_call = SYS_CALL_COUNT };

void sys_fault_arm(const struct sys_fault *fault)
{
	(void)pthread_mutex_lock(&seam.lock);
	seam.fault = fault ? *fault : (struct sys_fault){ .kind = SYS_FAULT_NONE };
	seam.seen = seam.struck = 0;
	seam.struck_call = SYS_CALL_COUNT;
	(void)pthread_mutex_unlock(&seam.lock);
}

uint64_t sys_fault_seen(void)
{
	return __atomic_load_n(&seam.seen, __ATOMIC_RELAXED);
}

uint64_t sys_fault_struck(void)
{
	return __atomic_load_n(&seam.struck, __ATOMIC_RELAXED);
}

enum sys_call sys_fault_struck_call(void)
{
	enum sys_call call;

	(void)pthread_mutex_lock(&seam.lock);
	call = seam.struck_call;
	(void)pthread_mutex_unlock(&seam.lock);
	return call;
}

static bool call_moves_bytes(enum sys_call call)
{
	switch (call) {
	case SYS_PREAD:
	case SYS_PWRITE:
	case SYS_READ:
	case SYS_WRITE:
	case SYS_SEND:
	case SYS_RECV:
	case SYS_SENDFILE:
	case SYS_SPLICE:
	case SYS_URING_ENTER:
		return true;
	default:
		return false;
	}
}

int sys_fault_ask(enum sys_call call, size_t *length)
{
	int result = 0, delay_ms = 0;

	(void)pthread_mutex_lock(&seam.lock);
	const struct sys_fault *fault = &seam.fault;
	bool matches = fault->kind != SYS_FAULT_NONE &&
		       (fault->call == SYS_CALL_COUNT || fault->call == call) &&
		       (fault->kind != SYS_FAULT_SHORT ||
			       (call_moves_bytes(call) && length && *length > 1));
	if (matches) {
		seam.seen++;
		if (seam.seen >= fault->nth &&
			(fault->times == 0 || seam.seen < fault->nth + fault->times)) {
			seam.struck++;
			seam.struck_call = call;
			if (fault->kind == SYS_FAULT_SHORT)
				*length = (*length + 1) / 2;
			else if (fault->kind == SYS_FAULT_SLOW)
				delay_ms = fault->error;
			else
				result = fault->kind == SYS_FAULT_EINTR ? -EINTR : -fault->error;
		}
	}
	(void)pthread_mutex_unlock(&seam.lock);
	if (delay_ms > 0)
		(void)poll(NULL, 0, delay_ms);
	return result;
}

static _Atomic uint64_t mapped_bytes;

uint64_t sys_fault_mapped(void)
{
	return mapped_bytes;
}

void sys_fault_mapped_change(int64_t bytes)
{
	mapped_bytes += (uint64_t)bytes;
}

/* The command built with the seam takes one fault from its environment: CALL:NTH:WHAT[:TIMES]. */
__attribute__((constructor)) static void seam_from_environment(void)
{
	static const struct {
		const char *text;
		enum sys_fault_kind kind;
		int error;
	} what_rows[] = {
		{ "short", SYS_FAULT_SHORT, 0 },
		{ "eintr", SYS_FAULT_EINTR, 0 },
		{ "slow", SYS_FAULT_SLOW, 100 },
		{ "EIO", SYS_FAULT_ERRNO, EIO },
		{ "ENOSPC", SYS_FAULT_ERRNO, ENOSPC },
		{ "EDQUOT", SYS_FAULT_ERRNO, EDQUOT },
		{ "ENOMEM", SYS_FAULT_ERRNO, ENOMEM },
		{ "EPERM", SYS_FAULT_ERRNO, EPERM },
		{ "ENOSYS", SYS_FAULT_ERRNO, ENOSYS },
		{ "EINVAL", SYS_FAULT_ERRNO, EINVAL },
		{ "EOPNOTSUPP", SYS_FAULT_ERRNO, EOPNOTSUPP },
		{ "ECONNRESET", SYS_FAULT_ERRNO, ECONNRESET },
	};
	const char *text = getenv("ZEROHAUL_FAULT");
	struct sys_fault fault = { .call = SYS_CALL_COUNT };
	unsigned long nth = 0, times = 1;
	char call[32], what[32];

	if (!text || sscanf(text, "%31[^:]:%lu:%31[^:]:%lu", call, &nth, what, &times) < 3)
		return;
	for (size_t i = 0; i < SYS_CALL_COUNT; i++)
		if (strcmp(call_text[i], call) == 0)
			fault.call = (enum sys_call)i;
	for (size_t i = 0; i < ARRAY_LEN(what_rows); i++)
		if (strcmp(what_rows[i].text, what) == 0) {
			fault.kind = what_rows[i].kind;
			fault.error = what_rows[i].error;
		}
	fault.nth = nth;
	fault.times = times;
	sys_fault_arm(&fault);
}
#endif

/*
 * Runs expression with errno turned into a negative result, again after EINTR. `length` is an
 * lvalue that the seam may lower.
 */
#define CALL_LENGTH(call, length, expression)                          \
	({                                                             \
		ssize_t call_result_;                                  \
		do {                                                   \
			sys_calls[call]++;                             \
			call_result_ = sys_fault_ask(call, &(length)); \
			if (call_result_ == 0) {                       \
				call_result_ = (expression);           \
				if (call_result_ < 0)                  \
					call_result_ = -errno;         \
			}                                              \
		} while (call_result_ == -EINTR);                      \
		call_result_;                                          \
	})

#define CALL(call, expression)                                  \
	({                                                      \
		size_t no_length_ = 0;                          \
		(int)CALL_LENGTH(call, no_length_, expression); \
	})

ssize_t sys_pread(int fd, void *buffer, size_t length, uint64_t offset)
{
	return CALL_LENGTH(SYS_PREAD, length, pread(fd, buffer, length, (off_t)offset));
}

ssize_t sys_preadv2(int fd, void *buffer, size_t length, uint64_t offset, int flags)
{
	struct iovec iov = { .iov_base = buffer, .iov_len = length };
	return CALL_LENGTH(SYS_PREADV2, length, preadv2(fd, &iov, 1, (off_t)offset, flags));
}

ssize_t sys_pwrite(int fd, const void *buffer, size_t length, uint64_t offset)
{
	return CALL_LENGTH(SYS_PWRITE, length, pwrite(fd, buffer, length, (off_t)offset));
}

ssize_t sys_pwritev2(int fd, const void *buffer, size_t length, uint64_t offset, int flags)
{
	struct iovec iov = { .iov_len = length };

	memcpy(&iov.iov_base, &buffer, sizeof(buffer)); /* struct iovec knows no const */
	return CALL_LENGTH(SYS_PWRITE, iov.iov_len, pwritev2(fd, &iov, 1, (off_t)offset, flags));
}

bool sys_takes_write_flags(int fd, int flags)
{
	char nothing = 0;
	struct iovec iov = { .iov_base = &nothing };

	return CALL(SYS_PWRITEV2, pwritev2(fd, &iov, 1, 0, flags)) == 0;
}

ssize_t sys_read(int fd, void *buffer, size_t length)
{
	return CALL_LENGTH(SYS_READ, length, read(fd, buffer, length));
}

ssize_t sys_write(int fd, const void *buffer, size_t length)
{
	return CALL_LENGTH(SYS_WRITE, length, write(fd, buffer, length));
}

int sys_openat(int dir, const char *name, int flags, mode_t mode)
{
	return CALL(SYS_OPEN, openat(dir, name, flags | O_CLOEXEC, mode));
}

int sys_openat2(int dir, const char *name, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = mode,
		.resolve = resolve,
	};
	return CALL(SYS_OPEN, syscall(SYS_openat2, dir, name, &how, sizeof(how)));
}

struct proc_path {
	char text[40];
};

static struct proc_path proc_path(int fd)
{
	struct proc_path path;

	(void)snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fd);
	return path;
}

int sys_reopen(int fd, int flags)
{
	struct proc_path path = proc_path(fd);

	return CALL(SYS_OPEN, open(path.text, flags | O_CLOEXEC));
}

int sys_mkdirat(int dir, const char *name, mode_t mode)
{
	return CALL(SYS_MKDIR, mkdirat(dir, name, mode));
}

int sys_unlinkat(int dir, const char *name, int flags)
{
	return CALL(SYS_UNLINK, unlinkat(dir, name, flags));
}

void sys_unlinkat_quiet(int dir, const char *name, int flags)
{
	int r = sys_unlinkat(dir, name, flags);
	(void)r;
}

int sys_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	return CALL(SYS_RENAME, renameat2(from_dir, from, to_dir, to, flags));
}

int sys_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	return CALL(SYS_LINK, linkat(from_dir, from, to_dir, to, flags));
}

int sys_link_open(int fd, int to_dir, const char *to)
{
	return CALL(SYS_LINK, linkat(fd, "", to_dir, to, AT_EMPTY_PATH));
}

int sys_link_open_by_proc(int fd, int to_dir, const char *to)
{
	struct proc_path path = proc_path(fd);

	return CALL(SYS_LINK, linkat(AT_FDCWD, path.text, to_dir, to, AT_SYMLINK_FOLLOW));
}

int sys_symlinkat(const char *target, int dir, const char *name)
{
	return CALL(SYS_SYMLINK, symlinkat(target, dir, name));
}

int sys_fstat(int fd, struct stat *ret_stat)
{
	return CALL(SYS_STAT, fstat(fd, ret_stat));
}

int sys_fstatat(int dir, const char *name, struct stat *ret_stat, int flags)
{
	return CALL(SYS_STAT, fstatat(dir, name, ret_stat, flags));
}

int sys_fstatfs(int fd, struct statfs *ret_statfs)
{
	return CALL(SYS_STAT, fstatfs(fd, ret_statfs));
}

ssize_t sys_getdents(int dir, void *buffer, size_t length)
{
	return CALL_LENGTH(SYS_READDIR, length, getdents64(dir, buffer, length));
}

ssize_t sys_readlinkat(int dir, const char *name, char *ret_target, size_t cap)
{
	return CALL_LENGTH(SYS_READLINK, cap, readlinkat(dir, name, ret_target, cap));
}

int sys_statx_dio(int fd, uint32_t *ret_memory_align, uint32_t *ret_offset_align)
{
	struct statx x = { 0 };
	int r = CALL(SYS_STAT, statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x));

	if (r < 0)
		return r;
	if (!(x.stx_mask & STATX_DIOALIGN))
		return -EOPNOTSUPP; /* older than Linux 6.1, or a file system that does not tell */
	*ret_memory_align = x.stx_dio_mem_align;
	*ret_offset_align = x.stx_dio_offset_align;
	return 0;
}

int sys_seek(int fd, uint64_t offset, int whence, uint64_t *ret_offset)
{
	size_t no_length = 0;
	ssize_t r = CALL_LENGTH(SYS_SEEK, no_length, lseek(fd, (off_t)offset, whence));

	if (r < 0)
		return (int)r;
	*ret_offset = (uint64_t)r;
	return 0;
}

int sys_fallocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	return CALL(SYS_FALLOCATE, fallocate(fd, mode, (off_t)offset, (off_t)length));
}

int sys_ftruncate(int fd, uint64_t length)
{
	return CALL(SYS_FTRUNCATE, ftruncate(fd, (off_t)length));
}

int sys_fsync(int fd)
{
	return CALL(SYS_FSYNC, fsync(fd));
}

int sys_fdatasync(int fd)
{
	return CALL(SYS_FSYNC, fdatasync(fd));
}

int sys_syncfs(int fd)
{
	return CALL(SYS_SYNCFS, syncfs(fd));
}

int sys_fchmod(int fd, mode_t mode)
{
	return CALL(SYS_CHMOD, fchmod(fd, mode));
}

int sys_fchownat(int dir, const char *name, uid_t uid, gid_t gid, int flags)
{
	return CALL(SYS_CHOWN, fchownat(dir, name, uid, gid, flags));
}

int sys_futimens(int fd, const struct timespec times[2])
{
	return CALL(SYS_UTIMENS, futimens(fd, times));
}

int sys_utimensat(int dir, const char *name, const struct timespec times[2], int flags)
{
	return CALL(SYS_UTIMENS, utimensat(dir, name, times, flags));
}

ssize_t sys_flistxattr(int fd, char *ret_names, size_t cap)
{
	return CALL_LENGTH(SYS_LISTXATTR, cap, flistxattr(fd, ret_names, cap));
}

ssize_t sys_fgetxattr(int fd, const char *name, void *ret_value, size_t cap)
{
	return CALL_LENGTH(SYS_GETXATTR, cap, fgetxattr(fd, name, ret_value, cap));
}

int sys_fsetxattr(int fd, const char *name, const void *value, size_t length)
{
	return CALL(SYS_SETXATTR, fsetxattr(fd, name, value, length, 0));
}

int sys_fremovexattr(int fd, const char *name)
{
	return CALL(SYS_REMOVEXATTR, fremovexattr(fd, name));
}

int sys_fadvise(int fd, uint64_t offset, uint64_t length, int advice)
{
	sys_calls[SYS_FADVISE]++;
	return -posix_fadvise(fd, (off_t)offset, (off_t)length, advice);
}

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static int mincore_pages(int fd, uint64_t offset, uint64_t length, uint64_t *ret_pages)
{
	uint64_t start = round_down(offset, 4096);
	size_t bytes = (size_t)(offset - start + length);
	unsigned char *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)start);
	unsigned char state[1024];
	uint64_t pages = 0;
	int r = 0;

	if (map == MAP_FAILED)
		return -errno;
	for (size_t at = 0; at < bytes && r == 0; at += sizeof(state) * 4096) {
		size_t part = min_size(bytes - at, sizeof(state) * 4096);
		r = mincore(map + at, part, state) < 0 ? -errno : 0;
		for (size_t i = 0; r == 0 && i < div_up(part, 4096); i++)
			pages += state[i] & 1;
	}
	(void)munmap(map, bytes);
	*ret_pages = pages;
	return r;
}

int sys_resident_pages(int fd, uint64_t offset, uint64_t length, uint64_t *ret_pages)
{
	struct {
		uint64_t offset, length;
	} range = { offset, length };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} result = { 0 };
	int r = CALL(SYS_CACHESTAT, syscall(SYS_cachestat, fd, &range, &result, 0));

	if (r == -ENOSYS || r == -EPERM)
		return mincore_pages(fd, offset, length, ret_pages);
	*ret_pages = result.cached;
	return r;
}

int sys_flock(int fd, int operation)
{
	return CALL(SYS_FLOCK, flock(fd, operation));
}

static uint64_t limit_of(__rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT64_MAX;
	return (uint64_t)limit.rlim_cur;
}

uint64_t sys_file_size_limit(void)
{
	return limit_of(RLIMIT_FSIZE);
}

uint64_t sys_open_files_limit(void)
{
	return limit_of(RLIMIT_NOFILE);
}

void sys_raise_open_files_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

uid_t sys_euid(void)
{
	return geteuid();
}

bool sys_kernel_is(unsigned major, unsigned minor)
{
	struct utsname name;
	unsigned has_major, has_minor;

	if (CALL(SYS_UNAME, uname(&name)) < 0 ||
		sscanf(name.release, "%u.%u", &has_major, &has_minor) != 2)
		return false;
	return has_major > major || (has_major == major && has_minor >= minor);
}

void sys_close(int fd)
{
	if (fd >= 0)
		(void)close(fd); /* never repeated: the descriptor is gone even after EINTR */
}

int sys_socket(int domain, int type, int protocol)
{
	return CALL(SYS_SOCKET, socket(domain, type | SOCK_CLOEXEC, protocol));
}

int sys_socketpair(int domain, int type, int ret_fd[2])
{
	return CALL(SYS_SOCKET, socketpair(domain, type | SOCK_CLOEXEC, 0, ret_fd));
}

int sys_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	return CALL(SYS_BIND, bind(fd, address, length));
}

int sys_listen(int fd, int backlog)
{
	return CALL(SYS_LISTEN, listen(fd, backlog));
}

int sys_accept(int fd, struct sockaddr *ret_address, socklen_t *length, int flags)
{
	return CALL(SYS_ACCEPT, accept4(fd, ret_address, length, flags | SOCK_CLOEXEC));
}

int sys_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int r;

	sys_calls[SYS_CONNECT]++;
	r = sys_fault_ask(SYS_CONNECT, NULL);
	if (r == 0 && connect(fd, address, length) < 0)
		r = -errno;
	return r; /* -EINTR: the connection goes on being made; poll for it, never repeat the call
		   */
}

int sys_shutdown(int fd, int how)
{
	return shutdown(fd, how) < 0 ? -errno : 0;
}

ssize_t sys_send(int fd, const void *buffer, size_t length, int flags)
{
	return CALL_LENGTH(SYS_SEND, length, send(fd, buffer, length, flags | MSG_NOSIGNAL));
}

ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags)
{
	size_t no_length = 0;
	return CALL_LENGTH(SYS_SENDMSG, no_length, sendmsg(fd, message, flags | MSG_NOSIGNAL));
}

ssize_t sys_recv(int fd, void *buffer, size_t length, int flags)
{
	return CALL_LENGTH(SYS_RECV, length, recv(fd, buffer, length, flags));
}

ssize_t sys_recvmsg(int fd, struct msghdr *message, int flags)
{
	size_t no_length = 0;
	return CALL_LENGTH(SYS_RECVMSG, no_length, recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC));
}

int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	return CALL(SYS_SETSOCKOPT, setsockopt(fd, level, name, value, length));
}

int sys_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *length)
{
	return CALL(SYS_GETSOCKOPT, getsockopt(fd, level, name, ret_value, length));
}

int sys_getsockname(int fd, struct sockaddr *ret_address, socklen_t *length)
{
	return CALL(SYS_GETSOCKOPT, getsockname(fd, ret_address, length));
}

int sys_getpeername(int fd, struct sockaddr *ret_address, socklen_t *length)
{
	return CALL(SYS_GETSOCKOPT, getpeername(fd, ret_address, length));
}

int sys_ioctl(int fd, unsigned long request, void *argument)
{
	return CALL(SYS_IOCTL, ioctl(fd, request, argument));
}

ssize_t sys_sendfile(int sock, int file, uint64_t offset, size_t length)
{
	off_t position = (off_t)offset;
	return CALL_LENGTH(SYS_SENDFILE, length, sendfile(sock, file, &position, length));
}

ssize_t sys_splice(int in, const uint64_t *in_offset, int out, const uint64_t *out_offset,
	size_t length, unsigned flags)
{
	loff_t from = in_offset ? (loff_t)*in_offset : 0;
	loff_t to = out_offset ? (loff_t)*out_offset : 0;
	return CALL_LENGTH(SYS_SPLICE, length,
		splice(in, in_offset ? &from : NULL, out, out_offset ? &to : NULL, length, flags));
}

int sys_pipe(int ret_fd[2], int flags)
{
	return CALL(SYS_PIPE, pipe2(ret_fd, flags | O_CLOEXEC));
}

int sys_fcntl(int fd, int command, long argument)
{
	return CALL(SYS_FCNTL, fcntl(fd, command, argument));
}

int sys_eventfd(void)
{
	return CALL(SYS_PIPE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

void sys_eventfd_signal(int fd)
{
	uint64_t one = 1;
	IGNORE(write(fd, &one, sizeof(one))); /* refused when it is full: then it is readable */
}

int sys_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
	int r;

	sys_calls[SYS_POLL]++;
	r = sys_fault_ask(SYS_POLL, NULL);
	if (r == 0) {
		r = poll(fds, count, timeout_ms);
		if (r < 0)
			r = -errno;
	}
	return r;
}

static void *map(size_t length, int protection, int flags, int fd, uint64_t offset, int *ret_error)
{
	void *memory;

	do {
		sys_calls[SYS_MMAP]++;
		*ret_error = sys_fault_ask(SYS_MMAP, NULL);
	} while (*ret_error == -EINTR);
	if (*ret_error)
		return NULL;
	memory = mmap(NULL, length, protection, flags, fd, (off_t)offset);
	if (memory == MAP_FAILED) {
		*ret_error = -errno;
		return NULL;
	}
	sys_fault_mapped_change((int64_t)length);
	return memory;
}

void *sys_map_memory(size_t length, bool huge, int *ret_error)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (huge ? MAP_HUGETLB : 0);

	return map(length, PROT_READ | PROT_WRITE, flags, -1, 0, ret_error);
}

void *sys_map_file(int fd, uint64_t offset, size_t length, enum zh_side side, int *ret_error)
{
	if (side == ZH_RECEIVE)
		return map(length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset, ret_error);
	/* What is read is wanted at once: one call instead of a fault for every few pages. */
	return map(length, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, offset, ret_error);
}

void *sys_map_socket(int sock, size_t length, int *ret_error)
{
	return map(length, PROT_READ, MAP_SHARED, sock, 0, ret_error);
}

void sys_unmap_memory(void *memory, size_t length)
{
	if (memory && munmap(memory, length) == 0)
		sys_fault_mapped_change(-(int64_t)length);
}
