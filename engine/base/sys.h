/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.h - every system call of the engine, and the seam where tests make them fail.
 *
 * Each wrapper returns what the call returns, or a negative errno; nothing above this file reads
 * errno. EINTR is retried here, except by sys_poll and sys_connect. Calls are counted per thread.
 * io_uring has a seam of its own in kernel/ring.c, because its completions are no calls.
 */
#ifndef ZH_BASE_SYS_H
#define ZH_BASE_SYS_H

#include "base/util.h"
#include "zerohaul.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

struct statfs;
struct iovec;

/* name of the counter, name shown. Order is the order of zh_stats.calls. */
#define SYS_CALLS(X)                     \
	X(PREAD, "pread")                \
	X(PREADV2, "preadv2")            \
	X(PWRITE, "pwrite")              \
	X(READ, "read")                  \
	X(WRITE, "write")                \
	X(SEND, "send")                  \
	X(SENDMSG, "sendmsg")            \
	X(RECV, "recv")                  \
	X(RECVMSG, "recvmsg")            \
	X(SENDFILE, "sendfile")          \
	X(SPLICE, "splice")              \
	X(POLL, "poll")                  \
	X(URING_ENTER, "io_uring_enter") \
	X(OPEN, "open")                  \
	X(MKDIR, "mkdir")                \
	X(UNLINK, "unlink")              \
	X(RENAME, "rename")              \
	X(LINK, "link")                  \
	X(STAT, "stat")                  \
	X(READDIR, "readdir")            \
	X(FALLOCATE, "fallocate")        \
	X(FTRUNCATE, "ftruncate")        \
	X(FSYNC, "fsync")                \
	X(SYNCFS, "syncfs")              \
	X(CHMOD, "fchmod")               \
	X(UTIMENS, "futimens")           \
	X(FADVISE, "fadvise")            \
	X(FLOCK, "flock")                \
	X(FCNTL, "fcntl")                \
	X(PIPE, "pipe")                  \
	X(SOCKET, "socket")              \
	X(BIND, "bind")                  \
	X(LISTEN, "listen")              \
	X(ACCEPT, "accept")              \
	X(CONNECT, "connect")            \
	X(SETSOCKOPT, "setsockopt")      \
	X(GETSOCKOPT, "getsockopt")      \
	X(IOCTL, "ioctl")                \
	X(MMAP, "mmap")                  \
	X(CACHESTAT, "cachestat")        \
	X(PWRITEV2, "pwritev2")          \
	X(READLINK, "readlink")          \
	X(SYMLINK, "symlink")            \
	X(CHOWN, "fchownat")             \
	X(UNAME, "uname")                \
	X(SEEK, "lseek")                 \
	X(LISTXATTR, "flistxattr")       \
	X(GETXATTR, "fgetxattr")         \
	X(SETXATTR, "fsetxattr")         \
	X(REMOVEXATTR, "fremovexattr")

#define SYS_ENUM(name, text) SYS_##name,
enum sys_call { SYS_CALLS(SYS_ENUM) SYS_CALL_COUNT };
#undef SYS_ENUM

/* Calls made by this thread so far. */
extern _Thread_local uint64_t sys_calls[SYS_CALL_COUNT];
const char *sys_call_text(enum sys_call call);

/* files */
ssize_t sys_pread(int fd, void *buffer, size_t length, uint64_t offset) must_check;
ssize_t sys_preadv2(int fd, void *buffer, size_t length, uint64_t offset, int flags) must_check;
ssize_t sys_pwrite(int fd, const void *buffer, size_t length, uint64_t offset) must_check;
/* RWF_DONTCACHE (Linux 6.14), which older headers have not got */
#define SYS_WRITE_DONTCACHE 0x80
/* flags: RWF_* or the above; counted with pwrite */
ssize_t sys_pwritev2(
	int fd, const void *buffer, size_t length, uint64_t offset, int flags) must_check;
/* Whether the file takes writes with these flags, by one of no bytes: they are looked at first. */
bool sys_takes_write_flags(int fd, int flags) must_check;
ssize_t sys_read(int fd, void *buffer, size_t length) must_check;
ssize_t sys_write(int fd, const void *buffer, size_t length) must_check;
int sys_openat(int dir, const char *name, int flags, mode_t mode) must_check;
/* resolve: RESOLVE_* of openat2(2) */
int sys_openat2(int dir, const char *name, int flags, mode_t mode, uint64_t resolve) must_check;
/* Re-opens an open file with other flags, through /proc/self/fd. */
int sys_reopen(int fd, int flags) must_check;
int sys_mkdirat(int dir, const char *name, mode_t mode) must_check;
int sys_unlinkat(int dir, const char *name, int flags) must_check;
/* For cleaning up after a failure that is reported already, or where failing is an expected answer.
 */
void sys_unlinkat_quiet(int dir, const char *name, int flags);
int sys_renameat2(
	int from_dir, const char *from, int to_dir, const char *to, unsigned flags) must_check;
int sys_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) must_check;
/* Gives an open file a name: by its descriptor, or by the link to it in /proc/self/fd. */
int sys_link_open(int fd, int to_dir, const char *to) must_check;
int sys_link_open_by_proc(int fd, int to_dir, const char *to) must_check;
int sys_symlinkat(const char *target, int dir, const char *name) must_check;
int sys_fstat(int fd, struct stat *ret_stat) must_check;
int sys_fstatat(int dir, const char *name, struct stat *ret_stat, int flags) must_check;
int sys_fstatfs(int fd, struct statfs *ret_statfs) must_check;
int sys_statx_dio(int fd, uint32_t *ret_memory_align, uint32_t *ret_offset_align) must_check;
/* Entries of a directory as struct dirent64, from where the descriptor stands; 0: that was all. */
ssize_t sys_getdents(int dir, void *buffer, size_t length) must_check;
/* Not ended by a NUL; as long as the buffer: it may be cut. */
ssize_t sys_readlinkat(int dir, const char *name, char *ret_target, size_t cap) must_check;
/* SEEK_DATA or SEEK_HOLE; the file's own offset means nothing to us */
int sys_seek(int fd, uint64_t offset, int whence, uint64_t *ret_offset) must_check;
int sys_fallocate(int fd, int mode, uint64_t offset, uint64_t length) must_check;
int sys_ftruncate(int fd, uint64_t length) must_check;
int sys_fsync(int fd) must_check;
int sys_fdatasync(int fd) must_check;
int sys_syncfs(int fd) must_check;
int sys_fchmod(int fd, mode_t mode) must_check;
/* flags: AT_*; AT_EMPTY_PATH with "" is dir itself */
int sys_fchownat(int dir, const char *name, uid_t uid, gid_t gid, int flags) must_check;
int sys_futimens(int fd, const struct timespec times[2]) must_check;
int sys_utimensat(int dir, const char *name, const struct timespec times[2], int flags) must_check;
/* Names one after the other, each ended by a NUL. */
ssize_t sys_flistxattr(int fd, char *ret_names, size_t cap) must_check;
/* A cap of 0 asks for the length; nothing is read then. */
ssize_t sys_fgetxattr(int fd, const char *name, void *ret_value, size_t cap) must_check;
int sys_fsetxattr(int fd, const char *name, const void *value, size_t length) must_check;
int sys_fremovexattr(int fd, const char *name) must_check;
int sys_fadvise(int fd, uint64_t offset, uint64_t length, int advice);
int sys_flock(int fd, int operation) must_check;
/* Largest file this process may write (RLIMIT_FSIZE); UINT64_MAX: no limit. Crossing it is a
 * SIGXFSZ. */
uint64_t sys_file_size_limit(void);
/* Descriptors this process may have (RLIMIT_NOFILE); UINT64_MAX: no limit. */
uint64_t sys_open_files_limit(void);
/* Raises that to what the process may raise it to. A refusal leaves it as it was. */
void sys_raise_open_files_limit(void);
uid_t sys_euid(void);
/* Whether the kernel is this version or later. False when that cannot be told. */
bool sys_kernel_is(unsigned major, unsigned minor) must_check;
void sys_close(int fd); /* -1 is fine; the result says nothing that fsync did not say */

/* Pages of the extent that are in the page cache: cachestat(2), or mincore(2) before Linux 6.5. */
int sys_resident_pages(int fd, uint64_t offset, uint64_t length, uint64_t *ret_pages) must_check;

/* sockets */
int sys_socket(int domain, int type, int protocol) must_check;
int sys_socketpair(int domain, int type, int ret_fd[2]) must_check;
int sys_bind(int fd, const struct sockaddr *address, socklen_t length) must_check;
int sys_listen(int fd, int backlog) must_check;
int sys_accept(int fd, struct sockaddr *ret_address, socklen_t *length, int flags) must_check;
int sys_connect(int fd, const struct sockaddr *address, socklen_t length) must_check;
int sys_shutdown(int fd, int how);
ssize_t sys_send(int fd, const void *buffer, size_t length, int flags) must_check;
ssize_t sys_sendmsg(int fd, const struct msghdr *message, int flags) must_check;
ssize_t sys_recv(int fd, void *buffer, size_t length, int flags) must_check;
ssize_t sys_recvmsg(int fd, struct msghdr *message, int flags) must_check;
int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t length) must_check;
int sys_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *length) must_check;
int sys_getsockname(int fd, struct sockaddr *ret_address, socklen_t *length) must_check;
int sys_getpeername(int fd, struct sockaddr *ret_address, socklen_t *length) must_check;
int sys_ioctl(int fd, unsigned long request, void *argument) must_check;

/* between a file, a pipe and a socket, inside the kernel */
ssize_t sys_sendfile(int sock, int file, uint64_t offset, size_t length) must_check;
/* offsets: NULL for pipes and sockets; an offset given is not changed */
ssize_t sys_splice(int in, const uint64_t *in_offset, int out, const uint64_t *out_offset,
	size_t length, unsigned flags) must_check;
int sys_pipe(int ret_fd[2], int flags) must_check;
int sys_fcntl(int fd, int command, long argument) must_check;
int sys_eventfd(void) must_check; /* close on exec, non-blocking */
void sys_eventfd_signal(int fd);  /* makes it readable; safe in a signal handler */

/* timeout_ms < 0: for ever. Returns ready descriptors, 0 on time-out, -EINTR when interrupted. */
int sys_poll(struct pollfd *fds, nfds_t count, int timeout_ms) must_check;

/* Anonymous memory; huge: explicit huge pages. NULL and *ret_error (negative errno) on failure. */
void *sys_map_memory(size_t length, bool huge, int *ret_error) must_check;
/* A shared mapping of part of a file, readable (sending) or writable (receiving). offset: on a
 * page. */
void *sys_map_file(
	int fd, uint64_t offset, size_t length, enum zh_side side, int *ret_error) must_check;
/* A window of a TCP socket, for TCP_ZEROCOPY_RECEIVE to put pages into: readable there, and only
 * where it has. */
void *sys_map_socket(int sock, size_t length, int *ret_error) must_check;
void sys_unmap_memory(void *memory, size_t length);

/* ------------------------------ the seam ----------------------------------------------- */
/*
 * Built with SYS_FAULTS (the test programs, and the library of tests/faulty), any call can be
 * made to fail, be short, be interrupted or be slow. Released builds contain none of it.
 */
enum sys_fault_kind {
	SYS_FAULT_NONE,
	SYS_FAULT_ERRNO, /* fails with error and does nothing */
	SYS_FAULT_SHORT, /* moves half of what was asked, at least one byte */
	SYS_FAULT_EINTR, /* is interrupted once */
	SYS_FAULT_SLOW,  /* happens, after a while */
};

struct sys_fault {
	enum sys_fault_kind kind;
	enum sys_call call; /* SYS_CALL_COUNT: any call */
	int error;      /* positive errno for SYS_FAULT_ERRNO; milliseconds for SYS_FAULT_SLOW */
	uint64_t nth;   /* 1: the next one */
	uint64_t times; /* how many from then on, 0: all */
};

#ifdef SYS_FAULTS
/* Arms one fault for the whole process, or disarms with NULL. Reset by each call. */
void sys_fault_arm(const struct sys_fault *fault);
/* Calls that matched since it was armed, and how often it struck. */
uint64_t sys_fault_seen(void);
uint64_t sys_fault_struck(void);
/* The call that was struck last, SYS_CALL_COUNT: none since it was armed. */
enum sys_call sys_fault_struck_call(void);
/*
 * Asked by each wrapper and by ring.c. Returns a negative errno to fail with, or 0 after perhaps
 * lowering *length. Interruptions come back as -EINTR.
 */
int sys_fault_ask(enum sys_call call, size_t *length);
/* Bytes that the calls for mappings gave and sys_unmap_memory has not taken back; change counts
 * them. */
uint64_t sys_fault_mapped(void);
void sys_fault_mapped_change(int64_t bytes);
#else
static inline int sys_fault_ask(enum sys_call call, size_t *length)
{
	(void)call;
	(void)length;
	return 0;
}

static inline void sys_fault_mapped_change(int64_t bytes)
{
	(void)bytes;
}
#endif

#endif
