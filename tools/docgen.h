/* SPDX-License-Identifier: Apache-2.0 */
/* docgen.h - the two halves of the generator of manual pages and shell completions. */
#ifndef TOOLS_DOCGEN_H
#define TOOLS_DOCGEN_H

#include <stdio.h>

/* Write the completions of a shell: "bash", "zsh" or "fish". Returns 0, or -EINVAL: not one of
 * them. */
int docgen_shell(const char *shell, FILE *out);

#endif
