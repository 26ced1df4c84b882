/* SPDX-License-Identifier: Apache-2.0 */
/* connect.h - a TCP connection made only to be looked at. */
#ifndef CLI_CONNECT_H
#define CLI_CONNECT_H

#include <stdint.h>

#include "url.h"

/*
 * Connect to the server of url. The caller closes *ret_fd. Returns NULL, or a sentence that says
 * what went wrong; it is static or lives until the next call.
 */
const char *connect_to(const struct url *url, uint32_t timeout_ms, int *ret_fd);

#endif
