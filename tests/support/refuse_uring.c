/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refuse_uring.c - runs a command for which io_uring_setup(2) fails, as where a container or an
 * administrator forbids it:
 *   refuse_uring EPERM|ENOSYS|ENOMEM COMMAND [ARGUMENT...]
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXIT_USAGE  2
#define EXIT_NO_RUN 127

static int errno_of(const char *name)
{
	static const struct {
		const char *name;
		int value;
	} rows[] = { { "EPERM", EPERM }, { "ENOSYS", ENOSYS }, { "ENOMEM", ENOMEM } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0)
			return rows[i].value;
	return 0;
}

static int refuse(int error)
{
	/* The number of io_uring_setup is the same for all machines that Linux runs this on. */
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv)
{
	int error = argc > 2 ? errno_of(argv[1]) : 0;

	if (error == 0) {
		(void)fprintf(
			stderr, "usage: refuse_uring EPERM|ENOSYS|ENOMEM COMMAND [ARGUMENT...]\n");
		return EXIT_USAGE;
	}
	if (refuse(error) < 0) {
		perror("refuse_uring: seccomp");
		return EXIT_NO_RUN;
	}
	(void)execvp(argv[2], argv + 2);
	perror(argv[2]);
	return EXIT_NO_RUN;
}
