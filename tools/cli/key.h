/* SPDX-License-Identifier: Apache-2.0 */
/* key.h - which key file a command is to use. It never opens one: the secret stays in the library.
 */
#ifndef CLI_KEY_H
#define CLI_KEY_H

#include <stdbool.h>

#define KEY_VARIABLE "ZEROHAUL_KEY_FILE"

/*
 * Settle *key_file: --key, else the environment, else NULL with --insecure. Returns NULL, or a
 * static sentence that says what is wrong.
 */
const char *key_settle(const char **key_file, bool insecure);

#endif
