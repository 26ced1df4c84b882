/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h - adding up what channels did, and naming what limited a transfer. Pure. */
#ifndef ZH_BASE_STATS_H
#define ZH_BASE_STATS_H

#include "base/util.h"
#include "zerohaul.h"

/* Adds one channel: sums add up; how it was done is taken from the first that moved something. */
void stats_add(struct zh_stats *total, const struct zh_stats *one);

/* Fills limited_by and limit_evidence of a report from both sides' totals. */
void stats_name_limit(struct zh_report *report);

#endif
