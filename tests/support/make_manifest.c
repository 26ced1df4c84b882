/* SPDX-License-Identifier: Apache-2.0 */
/* make_manifest.c - `make_manifest OUT DIRECTORY`, for tests of the command. */
#include "tree_manifest.h"

int main(int argc, char **argv)
{
	int root = argc == 3 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (root < 0) {
		fputs("usage: make_manifest OUT DIRECTORY\n", stderr);
		return 1;
	}
	tree_manifest(root, argv[1]);
	close(root);
	return 0;
}
