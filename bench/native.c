/* SPDX-License-Identifier: Apache-2.0 */
/* native.c - the program `trial`: one cell from the command line, one trial, one line of JSON. */
#include "options.h"
#include "record.h"

#include <signal.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	char error[BENCH_ERROR_CAP] = "";
	struct bench_link *link = NULL;
	struct bench_result result;
	struct bench_cell cell;
	int r;

	if (options_parse(argc, argv, &cell) < 0) {
		fputs(options_usage, stderr);
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for a trial whose run has gone */
	r = bench_open(&cell, &link, error);
	if (r == 0)
		r = bench_trial(link, &result, error);
	bench_close(link);
	putchar('{');
	record_result(stdout, &cell, &result, r, error);
	puts("}");
	return r < 0 ? 1 : 0;
}
