/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - main for a fuzz target without a fuzzer: runs every file and every file of every
 * directory named, or standard input when none is. Fails when a directory has nothing to run.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#define INPUT_BYTES_MAX (1u << 20)

static int run_stream(FILE *file)
{
	static uint8_t bytes[INPUT_BYTES_MAX];
	size_t length = fread(bytes, 1, sizeof(bytes), file);
	uint8_t *exact;

	if (ferror(file))
		return -1;
	exact = malloc(length ? length : 1);
	if (!exact)
		return -1;
	memcpy(exact, bytes, length);
	(void)LLVMFuzzerTestOneInput(exact, length);
	free(exact);
	return 0;
}

static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	int r = file ? run_stream(file) : -1;

	if (r < 0)
		fprintf(stderr, "cannot read %s\n", path);
	if (file)
		(void)fclose(file);
	return r;
}

/* Returns the number of files run, or -1. */
static int run_directory(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!dir) {
		fprintf(stderr, "cannot open %s\n", path);
		return -1;
	}
	while (count >= 0 && (entry = readdir(dir)) != NULL) {
		char name[4096];
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		count = run_file(name) < 0 ? -1 : count + 1;
	}
	(void)closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	int total = 0;

	if (argc < 2)
		return run_stream(stdin) < 0;
	for (int i = 1; i < argc; i++) {
		struct stat st;
		int count = 1;
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			count = run_directory(argv[i]);
		else if (run_file(argv[i]) < 0)
			count = -1;
		if (count <= 0) {
			fprintf(stderr, "nothing was run in %s\n", argv[i]);
			return 1;
		}
		total += count;
	}
	printf("%d inputs\n", total);
	return 0;
}
