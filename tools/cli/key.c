/* SPDX-License-Identifier: Apache-2.0 */
/* key.c - chooses between --key, the environment and --insecure. */
#include <stdlib.h>

#include "key.h"

const char *key_settle(const char **key_file, bool insecure)
{
	if (insecure)
		return *key_file ? "--key and --insecure exclude each other" : NULL;
	if (*key_file)
		return NULL;
	const char *named = getenv(KEY_VARIABLE);
	if (!named || !*named)
		return "a key is needed: --key=FILE or " KEY_VARIABLE
		       ", or --insecure between processes of this host";
	*key_file = named;
	return NULL;
}
