/* SPDX-License-Identifier: Apache-2.0 */
/* wrap.c - breaks lines between words. */
#include <stdio.h>
#include <string.h>

#include "wrap.h"

void wrap_print(const char *text, int at, int indent)
{
	int column = at;

	while (*text) {
		const int length = (int)strcspn(text, " ");
		if (column > indent && column + 1 + length > WRAP_COLUMNS) {
			printf("\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			putchar(' ');
			column++;
		}
		printf("%.*s", length, text);
		column += length;
		text += length;
		text += strspn(text, " ");
	}
	putchar('\n');
}
