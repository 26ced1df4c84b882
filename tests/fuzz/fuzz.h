/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what the fuzz targets share. A broken promise ends the program, as a sanitizer would. */
#ifndef ZH_TESTS_FUZZ_H
#define ZH_TESTS_FUZZ_H

#include "session/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First byte of an input of fuzz_wire: frame types, and these. */
enum fuzz_selector {
	FUZZ_HELLO = 32,
	FUZZ_REFUSAL,
	FUZZ_PROOF_REFUSAL,
	FUZZ_HEAD,
	FUZZ_VOID,
	FUZZ_NAME,
	FUZZ_SELECTOR_END,
};

/* First byte of an input of fuzz_link. */
enum fuzz_stream { FUZZ_STREAM_RAW, FUZZ_STREAM_TAGGED, FUZZ_STREAM_END };

/*
 * Parses the payload of a frame, checks that nothing out of contract came out, and that building
 * it again gives the same bytes. Copies the bytes to where a read past them is seen.
 */
void fuzz_payload(unsigned selector, const uint8_t *bytes, size_t length);

#endif
