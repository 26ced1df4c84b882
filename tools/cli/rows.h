/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - rows of options that several commands have, so that they say the same everywhere. type
 * is the struct of the command: ROW_PROGRESS needs its member progress, an enum progress_mode in 32
 * bits, the others its member options, a struct zh_transfer_options.
 */
#ifndef CLI_ROWS_H
#define CLI_ROWS_H

#include "args.h"

#define ROW_KEY(type)                                                                               \
	{                                                                                           \
		.name = "key", .letter = 'k', .kind = ARG_FILE, .argument = "FILE",                 \
		.help = "The key shared with the server, a file that only its owner can read. The " \
			"environment variable ZEROHAUL_KEY_FILE may name it instead.",              \
		ARG_AT(type, options.key_file)                                                      \
	}

#define ROW_INSECURE(type)                                             \
	{                                                              \
		.name = "insecure", .kind = ARG_BITS,                  \
		.help = "Use no key; only for a server on this host.", \
		ARG_AT(type, options.flags), .value = ZH_INSECURE      \
	}

#define ROW_SNDBUF(type)                                                                           \
	{                                                                                          \
		.name = "sndbuf", .kind = ARG_SIZE, .argument = "SIZE",                            \
		.help = "Size of send buffers (SO_SNDBUF). Turns the kernel's autotuning of them " \
			"off.",                                                                    \
		ARG_AT(type, options.sock.sndbuf_bytes), .minimum = 1, .maximum = INT32_MAX        \
	}

#define ROW_RCVBUF(type)                                                                              \
	{                                                                                             \
		.name = "rcvbuf", .kind = ARG_SIZE, .argument = "SIZE",                               \
		.help = "Size of receive buffers (SO_RCVBUF). Turns the kernel's autotuning of them " \
			"off.",                                                                       \
		ARG_AT(type, options.sock.rcvbuf_bytes), .minimum = 1, .maximum = INT32_MAX           \
	}

#define ROW_NOTSENT_LOWAT(type)                                                                    \
	{                                                                                          \
		.name = "notsent-lowat", .kind = ARG_SIZE, .argument = "SIZE",                     \
		.help = "Unsent bytes below which a socket takes more (TCP_NOTSENT_LOWAT).",       \
		ARG_AT(type, options.sock.notsent_lowat_bytes), .minimum = 1, .maximum = INT32_MAX \
	}

#define ROW_CONNECT_TIMEOUT(type)                                                       \
	{                                                                               \
		.name = "connect-timeout", .kind = ARG_SECONDS, .argument = "SECONDS",  \
		.help = "Give up a connection attempt after this long; 10 by default.", \
		ARG_AT(type, options.connect_ms), .minimum = 1, .maximum = 86400000     \
	}

#define ROW_PROGRESS(type)                                                                        \
	{                                                                                         \
		.name = "progress", .kind = ARG_CHOICE, .argument = "auto|always|never",          \
		.help = "Show progress on stderr: on a terminal (auto, the default), always, or " \
			"never. Without a terminal it is one plain line per second.",             \
		ARG_AT(type, progress)                                                            \
	}

#endif
