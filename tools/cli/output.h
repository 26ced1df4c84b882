/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - standard output, of which it is known why it could not be written. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

/* Call before anything is printed. */
void output_open(void);

/* Writes what is left. Returns 0, or the positive errno of the first write that failed. */
int output_close(void);

#endif
