/* SPDX-License-Identifier: Apache-2.0 */
/* wrap.h - text for people on stdout, 80 columns wide. */
#ifndef CLI_WRAP_H
#define CLI_WRAP_H

#define WRAP_COLUMNS 80

/* Print words from column at, further lines from column indent, and end the line. */
void wrap_print(const char *text, int at, int indent);

#endif
