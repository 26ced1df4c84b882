/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - the library's structs as JSON objects. All text in them is printable ASCII already.
 * Each returns a new reference, or NULL without memory.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <jansson.h>
#include <stdint.h>

#include <zerohaul.h>

/* How a command ended: what every report begins with. */
json_t *json_of_outcome(const char *schema, int outcome, int exit_status);
json_t *json_of_error(const struct zh_error *error, int exit_status);
json_t *json_of_plan(const struct zh_plan *plan);
json_t *json_of_report(const struct zh_report *report);
json_t *json_of_strategies(void);
/* System calls by name, without those that were not made. */
json_t *json_of_calls(const struct zh_stats *stats);

/* A number of bytes, times and counts alike. */
json_t *json_of_u64(uint64_t number);
/* Text from outside, escaped. */
json_t *json_of_bytes(const char *text);

const char *json_side(uint32_t side);

/* Print one object on stdout and drop it. Returns 0, or -ENOMEM. */
int json_print(json_t *object);

#endif
