/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - see options.h. */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_usage[] =
	"usage: trial [OPTION]... SOURCE [TARGET]\n"
	"One timed move of SOURCE over loopback TCP to a process that stores it in TARGET, or stores\n"
	"nothing. Prints members of one JSON object, as schema/trial.json has them.\n"
	"  --strategy=NAME --receive=NAME    without them the plan chooses; TARGET missing: discard\n"
	"  --buffer=BYTES --receive-buffer=BYTES --depth=N\n"
	"  --nagle=auto|default|nodelay|cork|msg_more|nodelay+cork\n"
	"  --mss=BYTES --sndbuf=BYTES --rcvbuf=BYTES --notsent-lowat=BYTES --congestion=NAME\n"
	"  --cache=as-is|warm|cold|direct    of the source, proved before the start (as-is)\n"
	"  --sync=none|each|once             fdatasync of each file, or syncfs after the last\n"
	"  --file-bytes=N --files=N          the beginning of SOURCE, that often (all of it, 1)\n"
	"  --numbered                        SOURCE.0, SOURCE.1, ... to TARGET.0, ...\n"
	"  --streams=N\n"
	"  --framing=writev|send,send|send,sendfile|more,sendfile    small requests, answered each\n"
	"  --window=N --cap-ms=N             requests: without an answer at most; and --files=0\n"
	"  --warm-up                         16 MiB or 200 ms on the same connection first\n";

enum kind { TEXT, NUMBER, WIDE, WORD, FLAG };

struct row {
	const char *name;
	enum kind kind;
	size_t at;
	const char *words; /* of WORD: by their value, each ended by a blank */
};

#define AT(member) offsetof(struct bench_cell, member)

static const struct row rows[] = {
	{ "strategy", TEXT, AT(strategy), NULL },
	{ "receive", TEXT, AT(receive), NULL },
	{ "buffer", NUMBER, AT(buffer), NULL },
	{ "receive-buffer", NUMBER, AT(receive_buffer), NULL },
	{ "depth", NUMBER, AT(depth), NULL },
	{ "nagle", WORD, AT(nagle), "auto default nodelay cork msg_more nodelay+cork " },
	{ "mss", NUMBER, AT(mss), NULL },
	{ "sndbuf", NUMBER, AT(sndbuf), NULL },
	{ "rcvbuf", NUMBER, AT(rcvbuf), NULL },
	{ "notsent-lowat", NUMBER, AT(notsent_lowat), NULL },
	{ "congestion", TEXT, AT(congestion), NULL },
	{ "cache", WORD, AT(cache), "as-is warm cold direct " },
	{ "sync", WORD, AT(sync), "none each once " },
	{ "file-bytes", WIDE, AT(file_bytes), NULL },
	{ "files", WIDE, AT(files), NULL },
	{ "numbered", FLAG, AT(numbered), NULL },
	{ "streams", NUMBER, AT(streams), NULL },
	{ "framing", WORD, AT(framing), "bulk writev send,send send,sendfile more,sendfile " },
	{ "window", NUMBER, AT(window), NULL },
	{ "cap-ms", NUMBER, AT(cap_ms), NULL },
	{ "warm-up", FLAG, AT(warm_up), NULL },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Which of the words it is, or -1. */
static int word_index(const char *words, const char *word)
{
	size_t length = strlen(word);

	for (int i = 0; *words; i++) {
		size_t end = strcspn(words, " ");
		if (end == length && memcmp(words, word, end) == 0)
			return i;
		words += end + 1;
	}
	return -1;
}

static int set(struct bench_cell *cell, const struct row *row, const char *value)
{
	char *at = (char *)cell + row->at, *end = NULL;
	unsigned long long number = 0;
	int index = 0;

	if (row->kind == NUMBER || row->kind == WIDE) {
		number = strtoull(value, &end, 10);
		if (*value < '0' || *value > '9' || *end ||
			(row->kind == NUMBER && number > UINT32_MAX))
			return -1;
	}
	if (row->kind == WORD) {
		index = word_index(row->words, value);
		if (index < 0)
			return -1;
	}
	switch (row->kind) {
	case TEXT:
		memcpy(at, &value, sizeof(value));
		break;
	case NUMBER:
		memcpy(at, &(uint32_t){ (uint32_t)number }, sizeof(uint32_t));
		break;
	case WIDE:
		memcpy(at, &(uint64_t){ number }, sizeof(uint64_t));
		break;
	case WORD: /* an enum without negative values is an unsigned int */
		memcpy(at, &(unsigned int){ (unsigned int)index }, sizeof(unsigned int));
		break;
	case FLAG:
		memcpy(at, &(bool){ true }, sizeof(bool));
		break;
	}
	return 0;
}

int options_parse(int argc, char **argv, struct bench_cell *ret_cell)
{
	struct option options[ROWS + 1] = { 0 };
	int found;

	*ret_cell = (struct bench_cell){ .streams = 1, .window = 1, .files = 1 };
	for (size_t i = 0; i < ROWS; i++)
		options[i] = (struct option){ .name = rows[i].name,
			.has_arg = rows[i].kind == FLAG ? no_argument : required_argument,
			.val = (int)i };
	while ((found = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (found == '?')
			return -1;
		if (set(ret_cell, &rows[found], optarg) < 0) {
			fprintf(stderr, "%s: --%s=%s is none\n", argv[0], rows[found].name, optarg);
			return -1;
		}
	}
	if (optind >= argc || argc - optind > 2) {
		fprintf(stderr, "%s: SOURCE [TARGET]\n", argv[0]);
		return -1;
	}
	ret_cell->source = argv[optind];
	ret_cell->target = argc - optind == 2 ? argv[optind + 1] : NULL;
	if (!ret_cell->target && !ret_cell->receive)
		ret_cell->receive = "discard";
	return 0;
}
