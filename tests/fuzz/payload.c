/* SPDX-License-Identifier: Apache-2.0 */
/* payload.c - the promises of the payload parsers, for any bytes. */
#include "fuzz.h"

#include <errno.h>

static bool text_is_clean(const char *text, size_t cap)
{
	size_t length = strnlen(text, cap);

	for (size_t i = 0; i < length; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	return length < cap;
}

static void check_setup(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_SETUP_BYTES];
	struct wire_setup setup;
	int r = wire_parse_setup(bytes, length, &setup);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(setup.direction <= 1 && setup.verify <= 1 && setup.durability <= 2);
	CHECK(setup.nagle <= 2 && setup.no_fallback <= 1);
	CHECK(setup.cache <= 2 && setup.existing <= 2 && (setup.tree & ~TREE_ALL) == 0);
	CHECK(!(setup.tree & TREE_PRIVILEGED) || setup.tree & TREE_XATTRS);
	CHECK(setup.dry_run <= 1 && setup.max_open <= LIMIT_OPEN_FILES);
	CHECK(!(setup.tree & TREE_DELETE) || setup.tree & TREE_RECURSIVE);
	CHECK(setup.streams >= 1 && setup.streams <= LIMIT_STREAMS);
	CHECK(text_is_clean(setup.congestion, sizeof(setup.congestion)));
	CHECK(text_is_clean(setup.strategy, sizeof(setup.strategy)));
	CHECK(wire_build_setup(&setup, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_path(const uint8_t *bytes, size_t length)
{
	char *text = malloc(length + 1);
	uint8_t *again = malloc(length + 1);
	size_t at = 0, used = 0;
	unsigned count = 0;
	struct wire_path path;
	int r = wire_parse_path(bytes, length, &path);
	const char *name;
	uint8_t name_length;

	CHECK(text && again);
	CHECK(r == 0 || r == -EPROTO || r == -EINVAL);
	while (r == 0 && wire_path_next(&path, &at, &name, &name_length)) {
		CHECK(wire_name_check(name, name_length) == 0);
		CHECK(++count <= LIMIT_DEPTH);
		memcpy(text + used, name, name_length);
		used += name_length;
		text[used++] = '/';
	}
	if (r == 0) {
		text[used] = '\0';
		CHECK(count == path.count && used == length);
		CHECK(wire_build_path(text, again, length) == (int)length);
		CHECK(memcmp(again, bytes, length) == 0);
	}
	free(again);
	free(text);
}

static void check_place(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_PLACE_BYTES];
	struct wire_place_info place;
	int r = wire_parse_place(bytes, length, &place);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(place.kind <= PLACE_OTHER && place.size <= INT64_MAX);
	CHECK(wire_build_place(&place, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_file(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_FILE_BYTES_MAX];
	struct wire_file file;
	int r = wire_parse_file(bytes, length, &file);

	CHECK(r == 0 || r == -EPROTO || r == -EINVAL || r == -ERANGE);
	if (r < 0)
		return;
	CHECK(file.size <= LIMIT_FILE_BYTES && file.mtime_ns < 1000000000);
	CHECK((file.mode & ~07777u) == 0);
	CHECK(strlen(file.name) == file.name_length && !strchr(file.name, '/'));
	CHECK(strcmp(file.name, ".") != 0 && strcmp(file.name, "..") != 0);
	CHECK(wire_build_file(&file, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_dir(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_FILE_BYTES_MAX];
	struct wire_file dir, file;
	int r = wire_parse_dir(bytes, length, &dir);

	CHECK(r == 0 || r == -EPROTO || r == -EINVAL);
	if (r < 0)
		return;
	CHECK(dir.size == 0);
	CHECK(wire_parse_file(bytes, length, &file) == 0);
	CHECK(memcmp(&file, &dir, sizeof(dir)) == 0);
	CHECK(wire_build_dir(&dir, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_leave(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_LEAVE_BYTES];
	struct wire_leave leave;
	int r = wire_parse_leave(bytes, length, &leave);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(leave.mtime_ns < 1000000000 && (leave.mode & ~07777u) == 0);
	CHECK(wire_build_leave(&leave, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_member(const struct wire_member *member)
{
	CHECK(member->mtime_ns < 1000000000 && (member->mode & ~07777u) == 0);
	CHECK(member->kind == MEMBER_FILE || member->kind == MEMBER_LINK);
	CHECK(member->kind == MEMBER_FILE || (member->size >= 1 && member->size <= 4095));
	CHECK(strlen(member->name) == member->name_length);
	CHECK(wire_name_check(member->name, member->name_length) == 0);
}

static void check_pack(const uint8_t *bytes, size_t length)
{
	uint8_t *again = malloc(length + 1);
	size_t at = 0, used = 0, count = 0, seen = 0;
	uint32_t total = 0;
	uint64_t sum = 0;
	struct wire_member member;
	int r = wire_parse_pack(bytes, length, &count, &total);

	CHECK(again);
	CHECK(r == 0 || r == -EPROTO || r == -EINVAL);
	while (r == 0 && wire_pack_next(bytes, length, &at, &member)) {
		int built = wire_build_member(&member, again + used, length - used);
		check_member(&member);
		CHECK(built > 0);
		used += (size_t)built;
		CHECK(at == used);
		sum += member.size;
		seen++;
	}
	if (r == 0) {
		CHECK(count >= 1 && count <= LIMIT_MEMBERS && seen == count);
		CHECK(total <= LIMIT_PACK_BYTES && sum == total);
		CHECK(used == length && memcmp(again, bytes, length) == 0);
	}
	free(again);
}

static int compare_xattrs(const struct wire_xattr *a, const struct wire_xattr *b)
{
	int order = memcmp(a->name, b->name, min_size(a->name_length, b->name_length));

	return order ? order : (int)a->name_length - (int)b->name_length;
}

static void check_attr(const uint8_t *bytes, size_t length)
{
	uint8_t *again = malloc(length + WIRE_ATTR_BYTES_MIN);
	size_t at = 0, used = WIRE_ATTR_BYTES_MIN, seen = 0;
	struct wire_attr attr = { 0, 0, 0 };
	struct wire_xattr xattr, before = { .name = "" };
	int r = wire_parse_attr(bytes, length, &attr);

	CHECK(again);
	CHECK(r == 0 || r == -EPROTO);
	CHECK(wire_build_attr_head(attr.uid, attr.gid, again, WIRE_ATTR_BYTES_MIN) ==
		WIRE_ATTR_BYTES_MIN);
	while (r == 0 && wire_attr_next(bytes, length, &at, &xattr)) {
		int built = wire_build_attr_add(&xattr, again, used, length);
		CHECK(xattr.name_length > 0 && !memchr(xattr.name, '\0', xattr.name_length));
		CHECK(seen == 0 || compare_xattrs(&before, &xattr) < 0);
		before = xattr;
		CHECK(built > 0);
		used += (size_t)built;
		CHECK(at == used);
		seen++;
	}
	CHECK(seen <= LIMIT_XATTRS);
	if (r == 0)
		CHECK(seen == attr.count && used == length && memcmp(again, bytes, length) == 0);
	free(again);
}

static void check_rule(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_RULE_BYTES_MAX];
	char pattern[WIRE_RULE_BYTES_MAX + 1];
	int r = wire_parse_rule(bytes, length, pattern);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(length >= 1 && strlen(pattern) == length);
	CHECK(wire_build_rule(pattern, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_keep(const uint8_t *bytes, size_t length)
{
	uint8_t *again = malloc(length + 1);
	size_t at = 0, used = 0;
	unsigned count = 0;
	struct wire_path names;
	int r = wire_parse_keep(bytes, length, &names);
	const char *name;
	uint8_t name_length;

	CHECK(again);
	CHECK(r == 0 || r == -EPROTO || r == -EINVAL);
	while (r == 0 && wire_path_next(&names, &at, &name, &name_length)) {
		char copy[LIMIT_NAME_BYTES + 1];
		memcpy(copy, name, name_length);
		copy[name_length] = '\0';
		int built = wire_build_kept(copy, again + used, length - used);
		CHECK(built == name_length + 1);
		used += (size_t)built;
		CHECK(at == used);
		count++;
	}
	if (r == 0)
		CHECK(count >= 1 && count == names.count && used == length &&
			memcmp(again, bytes, length) == 0);
	free(again);
}

static void check_ranges(const uint8_t *bytes, size_t length)
{
	size_t cap = min_size(length / 16 + 1, WIRE_RANGES_MAX), count = 0;
	struct zh_extent *range = malloc(cap * sizeof(*range));
	uint8_t *again = malloc(length + 1);
	uint64_t end = 0;
	int r;

	CHECK(range && again);
	r = wire_parse_ranges(bytes, length, range, cap, &count);
	CHECK(r == 0 || r == -EPROTO);
	for (size_t i = 0; r == 0 && i < count; i++) {
		CHECK(range[i].length > 0 && range[i].offset >= end);
		CHECK(range[i].offset <= INT64_MAX);
		CHECK(range[i].length <= INT64_MAX - range[i].offset);
		end = range[i].offset + range[i].length;
	}
	if (r == 0) {
		CHECK(wire_build_ranges(range, count, again, length) == (int)length);
		CHECK(memcmp(again, bytes, length) == 0);
	}
	free(again);
	free(range);
}

static void check_digests(const uint8_t *bytes, size_t length)
{
	static struct digest digest[FRAME_PAYLOAD_CAP / DIGEST_BYTES];
	static uint8_t again[sizeof(digest)];
	size_t count = 99;
	int r = wire_parse_digests(bytes, length, digest, ARRAY_LEN(digest), &count);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(count <= ARRAY_LEN(digest) && count * DIGEST_BYTES == length);
	CHECK(wire_build_digests(digest, count, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_nak(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_NAK_BYTES];
	struct wire_nak nak;
	int r = wire_parse_nak(bytes, length, &nak);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(nak.reason != ZH_OK && strcmp(zh_outcome_name((int)nak.reason), "UNKNOWN") != 0);
	CHECK(wire_build_nak(&nak, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_end(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_END_BYTES];
	struct wire_end end;
	int r = wire_parse_end(bytes, length, &end);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(end.size <= LIMIT_FILE_BYTES && end.mtime_ns < 1000000000);
	CHECK(wire_build_end(&end, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

/* Odd bytes of a text become '?', so it is the second parse that must give what the first gave. */
static void check_err(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_ERR_BYTES];
	struct wire_err err, back;
	int r = wire_parse_err(bytes, length, &err);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(err.outcome != ZH_OK && strcmp(zh_outcome_name(err.outcome), "UNKNOWN") != 0);
	CHECK(text_is_clean(err.stage, sizeof(err.stage)));
	CHECK(text_is_clean(err.text, sizeof(err.text)));
	CHECK(wire_build_err(&err, again, sizeof(again)) == (int)length);
	for (size_t i = 0; i < length; i++)
		CHECK(again[i] == bytes[i] || (i >= 4 && again[i] == '?' && bytes[i] != 0));
	CHECK(wire_parse_err(again, sizeof(again), &back) == 0);
	CHECK(memcmp(&back, &err, sizeof(err)) == 0);
}

static void check_void(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_VOID_BYTES];
	enum zh_outcome reason;
	int r = wire_parse_void(bytes, length, &reason);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(reason != ZH_OK);
	CHECK(wire_build_void(reason, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_bye(const uint8_t *bytes, size_t length)
{
	uint8_t again[WIRE_BYE_BYTES];
	struct zh_side_report report;
	int r = wire_parse_bye(bytes, length, &report);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(report.valid <= 1 && report.stats.side <= 1 && report.stats.tcp.valid <= 1);
	CHECK(report.stats.size == sizeof(report.stats));
	CHECK(text_is_clean(report.stats.strategy, sizeof(report.stats.strategy)));
	CHECK(text_is_clean(report.stats.demotion, sizeof(report.stats.demotion)));
	CHECK(text_is_clean(report.stats.tcp.congestion, sizeof(report.stats.tcp.congestion)));
	CHECK(wire_build_bye(&report, again, sizeof(again)) == (int)length);
	CHECK(memcmp(again, bytes, length) == 0);
}

static void check_one(unsigned selector, const uint8_t *bytes, size_t length)
{
	switch (selector) {
	case FRAME_SETUP:
		return check_setup(bytes, length);
	case FRAME_WANT:
		return check_path(bytes, length);
	case FRAME_PLACE:
		return check_place(bytes, length);
	case FRAME_DIR:
		return check_dir(bytes, length);
	case FRAME_FILE:
		return check_file(bytes, length);
	case FRAME_LEAVE:
		return check_leave(bytes, length);
	case FRAME_PACK:
		return check_pack(bytes, length);
	case FRAME_ATTR:
		return check_attr(bytes, length);
	case FRAME_KEEP:
		return check_keep(bytes, length);
	case FRAME_RULE:
		return check_rule(bytes, length);
	case FRAME_MAP:
	case FRAME_NEED:
		return check_ranges(bytes, length);
	case FRAME_LEAF:
	case FRAME_SUM:
	case FRAME_ACK:
		return check_digests(bytes, length);
	case FRAME_NAK:
		return check_nak(bytes, length);
	case FRAME_END:
		return check_end(bytes, length);
	case FRAME_ERR:
		return check_err(bytes, length);
	case FRAME_BYE:
		return check_bye(bytes, length);
	case FUZZ_VOID:
		return check_void(bytes, length);
	default:
		return;
	}
}

void fuzz_payload(unsigned selector, const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	CHECK(copy);
	if (length > 0)
		memcpy(copy, bytes, length);
	check_one(selector, copy, length);
	free(copy);
}
