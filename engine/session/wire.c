/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.c - bytes of zh/1 to values and back. The two tables say it all: frame_rules is the format
 * of the heads, bye_fields the image of a report; the rest is one pair of functions per payload. A
 * builder whose values come from this host's user or files reads its own bytes back, so that what a
 * peer would refuse is refused here first.
 */
#include "session/wire.h"

#include <errno.h>

_Static_assert(LIMIT_DEPTH *(LIMIT_NAME_BYTES + 1) <= FRAME_PAYLOAD_CAP, "deepest path fits");
_Static_assert(WIRE_RANGES_MAX * 16 <= FRAME_PAYLOAD_CAP, "most ranges fit");
_Static_assert(FRAME_PAYLOAD_CAP / WIRE_MEMBER_BYTES_MIN <= LIMIT_MEMBERS, "no PACK holds more");

/* ------------------------------ pieces ------------------------------------------------- */

static bool all_zero(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static bool printable(uint8_t byte)
{
	return byte >= 0x20 && byte <= 0x7e;
}

/* Texts have a fixed size on the wire, at least one zero at the end, and nothing behind it. */
static void put_text(uint8_t *ret_bytes, const char *text, size_t cap)
{
	size_t length = strnlen(text, cap - 1);

	memset(ret_bytes, 0, cap);
	for (size_t i = 0; i < length; i++)
		ret_bytes[i] = printable((uint8_t)text[i]) ? (uint8_t)text[i] : '?';
}

static bool text_is_ended(const uint8_t *bytes, size_t cap)
{
	size_t length = strnlen((const char *)bytes, cap);

	return length < cap && all_zero(bytes + length, cap - length);
}

static bool text_is_printable(const uint8_t *bytes, size_t cap)
{
	if (!text_is_ended(bytes, cap))
		return false;
	for (size_t i = 0; bytes[i] != 0; i++)
		if (!printable(bytes[i]))
			return false;
	return true;
}

static bool outcome_is_failure(uint32_t outcome)
{
	return outcome != ZH_OK && outcome <= UINT16_MAX &&
	       strcmp(zh_outcome_name((int)outcome), "UNKNOWN") != 0;
}

/* ------------------------------ HELLO -------------------------------------------------- */

enum {
	HELLO_AT_KIND = 8,
	HELLO_AT_LINK = 9,
	HELLO_AT_AUTH = 10,
	HELLO_AT_INTENT = 11,
	HELLO_AT_VERSION_MIN = 12,
	HELLO_AT_VERSION_MAX = 14,
	HELLO_AT_REQUIRED = 16,
	HELLO_AT_OPTIONAL = 20,
	HELLO_AT_DATA_INDEX = 24,
	HELLO_AT_ZERO = 28,
	HELLO_AT_SESSION = 32,
	HELLO_AT_NONCE = 48,
	HELLO_AT_TAIL = 80,
	REFUSAL_KIND = 0xff,
	REFUSAL_AT_OUTCOME = 16,
	REFUSAL_AT_TAIL = 18,
	PROOF_REFUSAL_AT_OUTCOME = 16,
};

void wire_build_hello(const struct hello *hello, uint8_t ret_bytes[HELLO_BYTES])
{
	memset(ret_bytes, 0, HELLO_BYTES);
	memcpy(ret_bytes, HELLO_MAGIC, HELLO_AT_KIND);
	ret_bytes[HELLO_AT_KIND] = hello->kind;
	ret_bytes[HELLO_AT_LINK] = hello->link;
	ret_bytes[HELLO_AT_AUTH] = hello->auth;
	ret_bytes[HELLO_AT_INTENT] = hello->intent;
	put_le16(ret_bytes + HELLO_AT_VERSION_MIN, hello->version_min);
	put_le16(ret_bytes + HELLO_AT_VERSION_MAX, hello->version_max);
	put_le32(ret_bytes + HELLO_AT_REQUIRED, hello->required);
	put_le32(ret_bytes + HELLO_AT_OPTIONAL, hello->optional);
	put_le32(ret_bytes + HELLO_AT_DATA_INDEX, hello->data_index);
	memcpy(ret_bytes + HELLO_AT_SESSION, hello->session, SESSION_ID_BYTES);
	memcpy(ret_bytes + HELLO_AT_NONCE, hello->nonce, NONCE_BYTES);
}

static bool hello_fields_are_legal(const struct hello *hello)
{
	if (hello->link != HELLO_LINK_PLAIN && hello->link != HELLO_LINK_TLS)
		return false;
	if (hello->auth != HELLO_AUTH_NONE && hello->auth != HELLO_AUTH_PSK)
		return false;
	if (hello->intent != HELLO_PUSH && hello->intent != HELLO_PULL)
		return false;
	return hello->kind == HELLO_DATA ? hello->data_index < LIMIT_STREAMS
					 : hello->data_index == 0;
}

int wire_parse_hello(const uint8_t bytes[HELLO_BYTES], struct hello *ret_hello)
{
	struct hello hello = {
		.kind = bytes[HELLO_AT_KIND],
		.version_min = get_le16(bytes + HELLO_AT_VERSION_MIN),
		.version_max = get_le16(bytes + HELLO_AT_VERSION_MAX),
	};

	if (memcmp(bytes, HELLO_MAGIC, HELLO_AT_KIND) != 0)
		return -EPROTO;
	if (hello.kind != HELLO_CONTROL && hello.kind != HELLO_DATA)
		return -EPROTO;
	if (hello.version_min == 0 || hello.version_min > hello.version_max)
		return -EPROTO;
	if (hello.version_min > WIRE_VERSION) {
		*ret_hello = hello; /* what the rest means is not known here */
		return 0;
	}
	hello.link = bytes[HELLO_AT_LINK];
	hello.auth = bytes[HELLO_AT_AUTH];
	hello.intent = bytes[HELLO_AT_INTENT];
	hello.required = get_le32(bytes + HELLO_AT_REQUIRED);
	hello.optional = get_le32(bytes + HELLO_AT_OPTIONAL);
	hello.data_index = get_le32(bytes + HELLO_AT_DATA_INDEX);
	memcpy(hello.session, bytes + HELLO_AT_SESSION, SESSION_ID_BYTES);
	memcpy(hello.nonce, bytes + HELLO_AT_NONCE, NONCE_BYTES);
	if (!hello_fields_are_legal(&hello) ||
		!all_zero(bytes + HELLO_AT_ZERO, HELLO_AT_SESSION - HELLO_AT_ZERO) ||
		!all_zero(bytes + HELLO_AT_TAIL, HELLO_BYTES - HELLO_AT_TAIL))
		return -EPROTO;
	*ret_hello = hello;
	return 0;
}

int wire_negotiate(const struct hello *mine, const struct hello *theirs, uint32_t known)
{
	uint64_t low = max_u64(mine->version_min, theirs->version_min);
	uint64_t high = min_u64(mine->version_max, theirs->version_max);

	if (low > high || (theirs->required & ~known) != 0)
		return -EPROTONOSUPPORT;
	return (int)high;
}

void wire_build_refusal(const struct wire_refusal *refusal, uint8_t ret_bytes[HELLO_BYTES])
{
	CHECK(outcome_is_failure(refusal->outcome));
	memset(ret_bytes, 0, HELLO_BYTES);
	memcpy(ret_bytes, HELLO_MAGIC, HELLO_AT_KIND);
	ret_bytes[HELLO_AT_KIND] = REFUSAL_KIND;
	put_le16(ret_bytes + HELLO_AT_VERSION_MIN, refusal->version_min);
	put_le16(ret_bytes + HELLO_AT_VERSION_MAX, refusal->version_max);
	put_le16(ret_bytes + REFUSAL_AT_OUTCOME, refusal->outcome);
}

int wire_parse_refusal(const uint8_t bytes[HELLO_BYTES], struct wire_refusal *ret_refusal)
{
	struct wire_refusal refusal = {
		.outcome = get_le16(bytes + REFUSAL_AT_OUTCOME),
		.version_min = get_le16(bytes + HELLO_AT_VERSION_MIN),
		.version_max = get_le16(bytes + HELLO_AT_VERSION_MAX),
	};

	if (memcmp(bytes, HELLO_MAGIC, HELLO_AT_KIND) != 0 ||
		bytes[HELLO_AT_KIND] != REFUSAL_KIND ||
		!all_zero(bytes + HELLO_AT_LINK, HELLO_AT_VERSION_MIN - HELLO_AT_LINK) ||
		!all_zero(bytes + REFUSAL_AT_TAIL, HELLO_BYTES - REFUSAL_AT_TAIL))
		return -EPROTO;
	if (refusal.version_min == 0 || refusal.version_min > refusal.version_max)
		return -EPROTO;
	if (!outcome_is_failure(refusal.outcome))
		return -EPROTO;
	*ret_refusal = refusal;
	return 0;
}

void wire_build_proof_refusal(enum zh_outcome outcome, uint8_t ret_bytes[PROOF_BYTES])
{
	CHECK(outcome_is_failure((uint32_t)outcome));
	memset(ret_bytes, 0, PROOF_BYTES);
	put_le16(ret_bytes + PROOF_REFUSAL_AT_OUTCOME, (uint16_t)outcome);
}

int wire_parse_proof_refusal(const uint8_t bytes[PROOF_BYTES], enum zh_outcome *ret_outcome)
{
	uint16_t outcome = get_le16(bytes + PROOF_REFUSAL_AT_OUTCOME);
	size_t tail = PROOF_REFUSAL_AT_OUTCOME + 2;

	if (!all_zero(bytes, PROOF_REFUSAL_AT_OUTCOME) ||
		!all_zero(bytes + tail, PROOF_BYTES - tail) || !outcome_is_failure(outcome))
		return -EPROTO;
	*ret_outcome = (enum zh_outcome)outcome;
	return 0;
}

/* ------------------------------ frame heads -------------------------------------------- */

enum id_rule { ID_ZERO, ID_GIVEN, ID_ANY };
enum offset_rule { OFFSET_ZERO, OFFSET_LEAF, OFFSET_ANY };

struct frame_rule {
	const char *name;
	uint32_t least; /* length of the payload */
	uint32_t most;
	uint32_t unit;
	uint8_t flags; /* those that may be set */
	bool raw;
	enum id_rule id;
	enum offset_rule offset;
};

#define BETWEEN(a, b)   .least = (a), .most = (b), .unit = 1
#define FIXED(bytes)    BETWEEN(bytes, bytes)
#define UP_TO(bytes)    BETWEEN(0, bytes)
#define MANY(bytes, of) .least = 0, .most = (bytes), .unit = (of)
#define RAW(bytes)      .least = 1, .most = (bytes), .unit = 1, .raw = true

static const struct frame_rule frame_rules[FRAME_TYPE_END] = {
	[FRAME_SETUP] = { "SETUP", FIXED(WIRE_SETUP_BYTES) },
	[FRAME_WANT] = { "WANT", UP_TO(FRAME_PAYLOAD_CAP),
		.flags = WANT_DIRECTORY | WANT_LAST | WANT_CONTENTS, .id = ID_ANY },
	[FRAME_PLACE] = { "PLACE", FIXED(WIRE_PLACE_BYTES), .id = ID_ANY },
	[FRAME_DIR] = { "DIR", BETWEEN(WIRE_FILE_BYTES_MIN, WIRE_FILE_BYTES_MAX), .id = ID_GIVEN },
	[FRAME_FILE] = { "FILE", BETWEEN(WIRE_FILE_BYTES_MIN, WIRE_FILE_BYTES_MAX),
		.flags = FILE_NO_CLOBBER | FILE_SPARSE, .id = ID_GIVEN },
	[FRAME_MAP] = { "MAP", MANY(FRAME_PAYLOAD_CAP, WIRE_RANGE_BYTES), .id = ID_GIVEN },
	[FRAME_NEED] = { "NEED", MANY(FRAME_PAYLOAD_CAP, WIRE_RANGE_BYTES),
		.flags = NEED_PROVE | NEED_TRUSTED, .id = ID_GIVEN },
	[FRAME_LEAF] = { "LEAF", MANY(FRAME_PAYLOAD_CAP, DIGEST_BYTES), .id = ID_GIVEN,
		.offset = OFFSET_ANY },
	[FRAME_DATA] = { "DATA", RAW(LIMIT_DATA_BYTES), .id = ID_GIVEN, .offset = OFFSET_LEAF },
	[FRAME_PACK] = { "PACK", BETWEEN(WIRE_MEMBER_BYTES_MIN, FRAME_PAYLOAD_CAP),
		.flags = PACK_NO_CLOBBER, .id = ID_GIVEN },
	[FRAME_SUM] = { "SUM", MANY(WIRE_SUM_BYTES_MAX, DIGEST_BYTES), .flags = SUM_VOID,
		.id = ID_GIVEN, .offset = OFFSET_LEAF },
	[FRAME_NAK] = { "NAK", FIXED(WIRE_NAK_BYTES), .id = ID_GIVEN, .offset = OFFSET_LEAF },
	[FRAME_END] = { "END", FIXED(WIRE_END_BYTES), .id = ID_GIVEN },
	[FRAME_ACK] = { "ACK", FIXED(DIGEST_BYTES), .flags = ACK_DURABLE, .id = ID_GIVEN },
	[FRAME_CREDIT] = { "CREDIT", FIXED(0), .id = ID_GIVEN },
	[FRAME_ERR] = { "ERR", FIXED(WIRE_ERR_BYTES), .flags = ERR_DIRECTORY, .id = ID_ANY,
		.offset = OFFSET_ANY },
	[FRAME_PING] = { "PING", FIXED(0), .id = ID_ANY },
	[FRAME_PONG] = { "PONG", FIXED(0), .id = ID_ANY },
	[FRAME_BYE] = { "BYE", FIXED(WIRE_BYE_BYTES) },
	[FRAME_LEAVE] = { "LEAVE", FIXED(WIRE_LEAVE_BYTES), .flags = LEAVE_COMPLETE,
		.id = ID_GIVEN },
	[FRAME_ATTR] = { "ATTR", BETWEEN(WIRE_ATTR_BYTES_MIN, FRAME_PAYLOAD_CAP),
		.flags = ATTR_DIRECTORY, .id = ID_GIVEN },
	[FRAME_RULE] = { "RULE", BETWEEN(1, WIRE_RULE_BYTES_MAX), .flags = RULE_EXCLUDE },
	[FRAME_GOT] = { "GOT", FIXED(0), .flags = GOT_LAST, .id = ID_ANY, .offset = OFFSET_ANY },
	[FRAME_LOST] = { "LOST", FIXED(0), .id = ID_ANY },
	[FRAME_KEEP] = { "KEEP", BETWEEN(WIRE_KEEP_BYTES_MIN, FRAME_PAYLOAD_CAP), .id = ID_ANY },
};

static bool length_is_legal(const struct frame_rule *rule, const struct frame *frame)
{
	if (frame->type == FRAME_SUM && (frame->flags & SUM_VOID))
		return frame->length == WIRE_VOID_BYTES;
	return frame->length >= rule->least && frame->length <= rule->most &&
	       frame->length % rule->unit == 0;
}

static bool id_is_legal(const struct frame_rule *rule, const struct frame *frame)
{
	if (frame->type == FRAME_LEAVE && (frame->flags & LEAVE_COMPLETE))
		return true; /* also of the place */
	return rule->id == ID_ANY || (rule->id == ID_ZERO) == (frame->id == 0);
}

static bool offset_is_legal(const struct frame_rule *rule, const struct frame *frame)
{
	switch (rule->offset) {
	case OFFSET_ZERO:
		return frame->offset == 0;
	case OFFSET_LEAF:
		return frame->offset % LEAF_BYTES == 0 &&
		       range_fits(frame->offset, rule->raw ? frame->length : 0, INT64_MAX);
	case OFFSET_ANY:
	default:
		return true;
	}
}

static bool head_is_legal(const struct frame *frame)
{
	const struct frame_rule *rule;

	if (frame->type == 0 || frame->type >= FRAME_TYPE_END)
		return false;
	rule = &frame_rules[frame->type];
	return (frame->flags & ~rule->flags) == 0 && length_is_legal(rule, frame) &&
	       id_is_legal(rule, frame) && offset_is_legal(rule, frame);
}

void wire_build_head(const struct frame *frame, uint8_t ret_bytes[FRAME_HEAD_BYTES])
{
	CHECK(head_is_legal(frame));
	ret_bytes[0] = frame->type;
	ret_bytes[1] = frame->flags;
	put_le16(ret_bytes + 2, 0);
	put_le32(ret_bytes + 4, frame->length);
	put_le64(ret_bytes + 8, frame->id);
	put_le64(ret_bytes + 16, frame->offset);
}

int wire_parse_head(const uint8_t bytes[FRAME_HEAD_BYTES], struct frame *ret_frame)
{
	struct frame frame = {
		.type = bytes[0],
		.flags = bytes[1],
		.length = get_le32(bytes + 4),
		.id = get_le64(bytes + 8),
		.offset = get_le64(bytes + 16),
	};

	if (get_le16(bytes + 2) != 0 || !head_is_legal(&frame))
		return -EPROTO;
	*ret_frame = frame;
	return 0;
}

uint32_t wire_cap(enum frame_type type)
{
	CHECK(type > 0 && type < FRAME_TYPE_END);
	return frame_rules[type].most;
}

const char *wire_name(unsigned type)
{
	return type > 0 && type < FRAME_TYPE_END ? frame_rules[type].name : "unknown";
}

bool wire_is_raw(enum frame_type type)
{
	CHECK(type > 0 && type < FRAME_TYPE_END);
	return frame_rules[type].raw;
}

/* ------------------------------ SETUP -------------------------------------------------- */

static bool setup_is_legal(const struct wire_setup *setup)
{
	return setup->direction <= ZH_PULL && setup->verify <= ZH_VERIFY_NONE &&
	       setup->durability <= ZH_DURABLE_NONE && setup->nagle <= ZH_NAGLE_CORK &&
	       setup->no_fallback <= 1 && setup->streams >= 1 && setup->streams <= LIMIT_STREAMS &&
	       setup->chunk_bytes <= INT32_MAX && setup->sndbuf_bytes <= INT32_MAX &&
	       setup->rcvbuf_bytes <= INT32_MAX && setup->notsent_lowat_bytes <= INT32_MAX &&
	       setup->cache <= ZH_CACHE_DROP && setup->existing <= WIRE_EXISTING_DIGEST &&
	       (setup->tree & ~TREE_ALL) == 0 && setup->dry_run <= 1 &&
	       setup->max_open <= LIMIT_OPEN_FILES &&
	       (setup->tree & (TREE_XATTRS | TREE_PRIVILEGED)) != TREE_PRIVILEGED &&
	       (setup->tree & (TREE_RECURSIVE | TREE_DELETE)) != TREE_DELETE;
}

int wire_build_setup(const struct wire_setup *setup, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_SETUP_BYTES);
	if (!setup_is_legal(setup))
		return -EINVAL;
	memset(ret_bytes, 0, WIRE_SETUP_BYTES);
	ret_bytes[0] = setup->direction;
	ret_bytes[1] = setup->verify;
	ret_bytes[2] = setup->durability;
	ret_bytes[3] = setup->nagle;
	ret_bytes[4] = (uint8_t)setup->no_fallback;
	ret_bytes[5] = setup->max_open;
	put_le32(ret_bytes + 8, setup->streams);
	put_le32(ret_bytes + 12, setup->chunk_bytes);
	put_le32(ret_bytes + 16, setup->sndbuf_bytes);
	put_le32(ret_bytes + 20, setup->rcvbuf_bytes);
	put_le32(ret_bytes + 24, setup->notsent_lowat_bytes);
	ret_bytes[28] = (uint8_t)setup->cache;
	ret_bytes[29] = setup->existing;
	ret_bytes[30] = setup->tree;
	ret_bytes[31] = setup->dry_run;
	put_le64(ret_bytes + 32, setup->pacing_bytes_per_s);
	put_text(ret_bytes + 40, setup->congestion, sizeof(setup->congestion));
	put_text(ret_bytes + 56, setup->strategy, sizeof(setup->strategy));
	return WIRE_SETUP_BYTES;
}

int wire_parse_setup(const uint8_t *bytes, size_t length, struct wire_setup *ret_setup)
{
	struct wire_setup setup;

	if (length != WIRE_SETUP_BYTES || get_le16(bytes + 6) != 0)
		return -EPROTO;
	if (!text_is_printable(bytes + 40, sizeof(setup.congestion)) ||
		!text_is_printable(bytes + 56, sizeof(setup.strategy)))
		return -EPROTO;
	memset(&setup, 0, sizeof(setup));
	setup.direction = bytes[0];
	setup.verify = bytes[1];
	setup.durability = bytes[2];
	setup.nagle = bytes[3];
	setup.no_fallback = bytes[4];
	setup.max_open = bytes[5];
	setup.streams = get_le32(bytes + 8);
	setup.chunk_bytes = get_le32(bytes + 12);
	setup.sndbuf_bytes = get_le32(bytes + 16);
	setup.rcvbuf_bytes = get_le32(bytes + 20);
	setup.notsent_lowat_bytes = get_le32(bytes + 24);
	setup.cache = bytes[28];
	setup.existing = bytes[29];
	setup.tree = bytes[30];
	setup.dry_run = bytes[31];
	setup.pacing_bytes_per_s = get_le64(bytes + 32);
	memcpy(setup.congestion, bytes + 40, sizeof(setup.congestion));
	memcpy(setup.strategy, bytes + 56, sizeof(setup.strategy));
	if (!setup_is_legal(&setup))
		return -EPROTO;
	*ret_setup = setup;
	return 0;
}

/* ------------------------------ names and paths ---------------------------------------- */

int wire_name_check(const void *name, size_t length)
{
	const uint8_t *bytes = name;

	if (length > LIMIT_NAME_BYTES)
		return -ENAMETOOLONG;
	if (length == 0 || memchr(bytes, '/', length) || memchr(bytes, '\0', length))
		return -EINVAL;
	if (bytes[0] == '.' && (length == 1 || (length == 2 && bytes[1] == '.')))
		return -EINVAL;
	return 0;
}

static size_t utf8_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if ((first & 0xe0) == 0xc0)
		return 2;
	if ((first & 0xf0) == 0xe0)
		return 3;
	return (first & 0xf8) == 0xf0 ? 4 : 0;
}

/* Bytes of the UTF-8 sequence at the start, with its code point; 0: none that is legal. */
static size_t utf8_next(const uint8_t *bytes, size_t length, uint32_t *ret_point)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t first = bytes[0];
	size_t need = utf8_length(first);
	uint32_t point;

	if (need == 0 || need > length)
		return 0;
	point = need == 1 ? first : first & (0x7fu >> need);
	for (size_t i = 1; i < need; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (bytes[i] & 0x3f);
	}
	if (point < least[need] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
		return 0;
	*ret_point = point;
	return need;
}

/* Code points that change how a terminal or a reader sees the rest of the line. */
static bool point_misleads(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point <= 0x9f) || point == 0x061c ||
	       point == 0x200e || point == 0x200f || (point >= 0x202a && point <= 0x202e) ||
	       (point >= 0x2066 && point <= 0x2069);
}

int wire_name_strict(const void *name, size_t length)
{
	const uint8_t *bytes = name;
	size_t step;

	for (size_t at = 0; at < length; at += step) {
		uint32_t point = 0;
		step = utf8_next(bytes + at, length - at, &point);
		if (step == 0 || point_misleads(point))
			return -EINVAL;
	}
	return 0;
}

int wire_build_path(const char *text, uint8_t *ret_bytes, size_t cap)
{
	size_t used = 0;
	unsigned count = 0;

	while (*text != '\0') {
		size_t length = strcspn(text, "/");
		if (length > 1 || (length == 1 && *text != '.')) {
			int r = wire_name_check(text, length);
			if (r < 0)
				return r;
			if (++count > LIMIT_DEPTH || cap - used < length + 1)
				return -ENAMETOOLONG;
			ret_bytes[used++] = (uint8_t)length;
			memcpy(ret_bytes + used, text, length);
			used += length;
		}
		text += length;
		text += *text == '/';
	}
	return (int)used;
}

/* Names one behind the other, each after its length. */
static int names_get(const uint8_t *bytes, size_t length, unsigned most, struct wire_path *ret_path)
{
	struct wire_path path = { .bytes = bytes, .length = length };

	for (size_t at = 0; at < length; path.count++) {
		size_t name_length = bytes[at++];
		int r;
		if (path.count == most || name_length > length - at)
			return -EPROTO;
		r = wire_name_check(bytes + at, name_length);
		if (r < 0)
			return r;
		at += name_length;
	}
	*ret_path = path;
	return 0;
}

int wire_parse_path(const uint8_t *bytes, size_t length, struct wire_path *ret_path)
{
	return names_get(bytes, length, LIMIT_DEPTH, ret_path);
}

bool wire_path_next(
	const struct wire_path *path, size_t *at, const char **ret_name, uint8_t *ret_length)
{
	if (*at >= path->length)
		return false;
	*ret_length = path->bytes[*at];
	*ret_name = (const char *)path->bytes + *at + 1;
	*at += (size_t)*ret_length + 1;
	CHECK(*at <= path->length);
	return true;
}

int wire_build_place(const struct wire_place_info *place, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_PLACE_BYTES);
	CHECK(place->kind <= PLACE_OTHER);
	memset(ret_bytes, 0, WIRE_PLACE_BYTES);
	ret_bytes[0] = place->kind;
	put_le64(ret_bytes + 8, place->kind == PLACE_FILE ? place->size : 0);
	return WIRE_PLACE_BYTES;
}

int wire_parse_place(const uint8_t *bytes, size_t length, struct wire_place_info *ret_place)
{
	struct wire_place_info place;

	if (length != WIRE_PLACE_BYTES || !all_zero(bytes + 1, 7))
		return -EPROTO;
	place = (struct wire_place_info){ .kind = bytes[0], .size = get_le64(bytes + 8) };
	if (place.kind > PLACE_OTHER || place.size > INT64_MAX)
		return -EPROTO;
	if (place.kind != PLACE_FILE && place.size != 0)
		return -EPROTO;
	*ret_place = place;
	return 0;
}

/* ------------------------------ files -------------------------------------------------- */

#define FILE_AT_NAME_LENGTH 32u
#define FILE_AT_NAME        33u

int wire_build_file(const struct wire_file *file, uint8_t *ret_bytes, size_t cap)
{
	size_t length = FILE_AT_NAME + file->name_length;
	struct wire_file back;
	int r;

	CHECK(cap >= length);
	put_le64(ret_bytes, file->parent);
	put_le64(ret_bytes + 8, file->size);
	put_le64(ret_bytes + 16, (uint64_t)file->mtime_s);
	put_le32(ret_bytes + 24, file->mtime_ns);
	put_le32(ret_bytes + 28, file->mode);
	ret_bytes[FILE_AT_NAME_LENGTH] = file->name_length;
	memcpy(ret_bytes + FILE_AT_NAME, file->name, file->name_length);
	r = wire_parse_file(ret_bytes, length, &back);
	return r < 0 ? r : (int)length;
}

int wire_parse_file(const uint8_t *bytes, size_t length, struct wire_file *ret_file)
{
	struct wire_file file;
	int r;

	if (length < WIRE_FILE_BYTES_MIN || length != FILE_AT_NAME + bytes[FILE_AT_NAME_LENGTH])
		return -EPROTO;
	memset(&file, 0, sizeof(file));
	file.parent = get_le64(bytes);
	file.size = get_le64(bytes + 8);
	file.mtime_s = (int64_t)get_le64(bytes + 16);
	file.mtime_ns = get_le32(bytes + 24);
	file.mode = get_le32(bytes + 28);
	file.name_length = bytes[FILE_AT_NAME_LENGTH];
	memcpy(file.name, bytes + FILE_AT_NAME, file.name_length);
	if (file.mtime_ns > 999999999 || (file.mode & ~07777u) != 0)
		return -EPROTO;
	if (file.size > LIMIT_FILE_BYTES)
		return -ERANGE;
	r = wire_name_check(file.name, file.name_length);
	if (r < 0)
		return r;
	*ret_file = file;
	return 0;
}

int wire_build_dir(const struct wire_file *dir, uint8_t *ret_bytes, size_t cap)
{
	return dir->size == 0 ? wire_build_file(dir, ret_bytes, cap) : -EPROTO;
}

int wire_parse_dir(const uint8_t *bytes, size_t length, struct wire_file *ret_dir)
{
	struct wire_file dir;
	int r = wire_parse_file(bytes, length, &dir);

	if (r < 0)
		return r == -ERANGE ? -EPROTO : r;
	if (dir.size != 0)
		return -EPROTO;
	*ret_dir = dir;
	return 0;
}

int wire_build_ranges(const struct zh_extent *range, size_t count, uint8_t *ret_bytes, size_t cap)
{
	uint64_t end = 0;

	CHECK(count <= WIRE_RANGES_MAX && cap >= count * WIRE_RANGE_BYTES);
	for (size_t i = 0; i < count; i++) {
		CHECK(range[i].offset >= end && range[i].length > 0);
		CHECK(range_fits(range[i].offset, range[i].length, INT64_MAX));
		put_le64(ret_bytes + i * WIRE_RANGE_BYTES, range[i].offset);
		put_le64(ret_bytes + i * WIRE_RANGE_BYTES + 8, range[i].length);
		end = range[i].offset + range[i].length;
	}
	return (int)(count * WIRE_RANGE_BYTES);
}

int wire_parse_ranges(const uint8_t *bytes, size_t length, struct zh_extent *ret_range, size_t cap,
	size_t *ret_count)
{
	size_t count = length / WIRE_RANGE_BYTES;
	uint64_t end = 0;

	if (length % WIRE_RANGE_BYTES != 0 || count > min_size(cap, WIRE_RANGES_MAX))
		return -EPROTO;
	for (size_t i = 0; i < count; i++) {
		uint64_t offset = get_le64(bytes + i * WIRE_RANGE_BYTES);
		uint64_t bytes_wanted = get_le64(bytes + i * WIRE_RANGE_BYTES + 8);
		if (offset < end || bytes_wanted == 0 ||
			!range_fits(offset, bytes_wanted, INT64_MAX))
			return -EPROTO;
		end = offset + bytes_wanted;
	}
	for (size_t i = 0; i < count; i++) {
		ret_range[i].offset = get_le64(bytes + i * WIRE_RANGE_BYTES);
		ret_range[i].length = get_le64(bytes + i * WIRE_RANGE_BYTES + 8);
	}
	*ret_count = count;
	return 0;
}

int wire_build_digests(const struct digest *digest, size_t count, uint8_t *ret_bytes, size_t cap)
{
	CHECK(count <= FRAME_PAYLOAD_CAP / DIGEST_BYTES && cap >= count * DIGEST_BYTES);
	if (count > 0)
		memcpy(ret_bytes, digest, count * DIGEST_BYTES);
	return (int)(count * DIGEST_BYTES);
}

int wire_parse_digests(const uint8_t *bytes, size_t length, struct digest *ret_digest, size_t cap,
	size_t *ret_count)
{
	size_t count = length / DIGEST_BYTES;

	if (length % DIGEST_BYTES != 0 || count > cap)
		return -EPROTO;
	if (count > 0)
		memcpy(ret_digest, bytes, length);
	*ret_count = count;
	return 0;
}

int wire_build_nak(const struct wire_nak *nak, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_NAK_BYTES && outcome_is_failure(nak->reason));
	put_le32(ret_bytes, nak->reason);
	memcpy(ret_bytes + 4, &nak->claimed, DIGEST_BYTES);
	return WIRE_NAK_BYTES;
}

int wire_parse_nak(const uint8_t *bytes, size_t length, struct wire_nak *ret_nak)
{
	if (length != WIRE_NAK_BYTES || !outcome_is_failure(get_le32(bytes)))
		return -EPROTO;
	ret_nak->reason = get_le32(bytes);
	memcpy(&ret_nak->claimed, bytes + 4, DIGEST_BYTES);
	return 0;
}

int wire_build_end(const struct wire_end *end, uint8_t *ret_bytes, size_t cap)
{
	struct wire_end back;

	CHECK(cap >= WIRE_END_BYTES);
	memcpy(ret_bytes, &end->root, DIGEST_BYTES);
	put_le64(ret_bytes + 16, end->size);
	put_le64(ret_bytes + 24, (uint64_t)end->mtime_s);
	put_le32(ret_bytes + 32, end->mtime_ns);
	put_le32(ret_bytes + 36, 0);
	if (wire_parse_end(ret_bytes, WIRE_END_BYTES, &back) < 0)
		return -EINVAL;
	return WIRE_END_BYTES;
}

int wire_parse_end(const uint8_t *bytes, size_t length, struct wire_end *ret_end)
{
	struct wire_end end;

	if (length != WIRE_END_BYTES || !all_zero(bytes + 36, 4))
		return -EPROTO;
	memset(&end, 0, sizeof(end));
	memcpy(&end.root, bytes, DIGEST_BYTES);
	end.size = get_le64(bytes + 16);
	end.mtime_s = (int64_t)get_le64(bytes + 24);
	end.mtime_ns = get_le32(bytes + 32);
	if (end.size > LIMIT_FILE_BYTES || end.mtime_ns > 999999999)
		return -EPROTO;
	*ret_end = end;
	return 0;
}

int wire_build_leave(const struct wire_leave *leave, uint8_t *ret_bytes, size_t cap)
{
	struct wire_leave back;

	CHECK(cap >= WIRE_LEAVE_BYTES);
	put_le64(ret_bytes, (uint64_t)leave->mtime_s);
	put_le32(ret_bytes + 8, leave->mtime_ns);
	put_le32(ret_bytes + 12, leave->mode);
	return wire_parse_leave(ret_bytes, WIRE_LEAVE_BYTES, &back) < 0 ? -EINVAL
									: WIRE_LEAVE_BYTES;
}

int wire_parse_leave(const uint8_t *bytes, size_t length, struct wire_leave *ret_leave)
{
	struct wire_leave leave;

	if (length != WIRE_LEAVE_BYTES)
		return -EPROTO;
	memset(&leave, 0, sizeof(leave));
	leave.mtime_s = (int64_t)get_le64(bytes);
	leave.mtime_ns = get_le32(bytes + 8);
	leave.mode = get_le32(bytes + 12);
	if (leave.mtime_ns > 999999999 || (leave.mode & ~07777u) != 0)
		return -EPROTO;
	*ret_leave = leave;
	return 0;
}

/* ------------------------------ PACK --------------------------------------------------- */

#define MEMBER_AT_NAME 32u
#define LINK_BYTES_MAX 4095u /* PATH_MAX without the NUL */

static bool member_is_legal(const struct wire_member *member)
{
	if (member->mtime_ns > 999999999 || (member->mode & ~07777u) != 0)
		return false;
	if (member->kind == MEMBER_LINK)
		return member->size >= 1 && member->size <= LINK_BYTES_MAX;
	return member->kind == MEMBER_FILE && member->size <= LIMIT_PACK_BYTES;
}

/* The member at the start. Returns its bytes, or as wire_parse_pack. */
static int member_get(const uint8_t *bytes, size_t length, struct wire_member *ret_member)
{
	struct wire_member member;
	int r;

	if (length < WIRE_MEMBER_BYTES_MIN || bytes[31] > length - MEMBER_AT_NAME)
		return -EPROTO;
	memset(&member, 0, sizeof(member));
	member.parent = get_le32(bytes);
	member.size = get_le32(bytes + 4);
	member.mtime_s = (int64_t)get_le64(bytes + 8);
	member.mtime_ns = get_le32(bytes + 16);
	member.uid = get_le32(bytes + 20);
	member.gid = get_le32(bytes + 24);
	member.mode = get_le16(bytes + 28);
	member.kind = bytes[30];
	member.name_length = bytes[31];
	if (!member_is_legal(&member) || member.name_length == 0)
		return -EPROTO;
	memcpy(member.name, bytes + MEMBER_AT_NAME, member.name_length);
	r = wire_name_check(member.name, member.name_length);
	if (r < 0)
		return r;
	*ret_member = member;
	return (int)(MEMBER_AT_NAME + member.name_length);
}

int wire_build_member(const struct wire_member *member, uint8_t *ret_bytes, size_t cap)
{
	size_t length = MEMBER_AT_NAME + member->name_length;
	struct wire_member back;

	if (cap < length)
		return -ENOBUFS;
	put_le32(ret_bytes, member->parent);
	put_le32(ret_bytes + 4, member->size);
	put_le64(ret_bytes + 8, (uint64_t)member->mtime_s);
	put_le32(ret_bytes + 16, member->mtime_ns);
	put_le32(ret_bytes + 20, member->uid);
	put_le32(ret_bytes + 24, member->gid);
	put_le16(ret_bytes + 28, member->mode);
	ret_bytes[30] = member->kind;
	ret_bytes[31] = member->name_length;
	memcpy(ret_bytes + MEMBER_AT_NAME, member->name, member->name_length);
	return member_get(ret_bytes, length, &back);
}

int wire_parse_pack(const uint8_t *bytes, size_t length, size_t *ret_count, uint32_t *ret_total)
{
	size_t at = 0, count = 0;
	uint32_t total = 0;

	if (length == 0 || length > FRAME_PAYLOAD_CAP)
		return -EPROTO;
	while (at < length) {
		struct wire_member member;
		int r = member_get(bytes + at, length - at, &member);
		if (r < 0)
			return r;
		if (member.size > LIMIT_PACK_BYTES - total)
			return -EPROTO;
		total += member.size;
		at += (size_t)r;
		count++;
	}
	*ret_count = count;
	*ret_total = total;
	return 0;
}

bool wire_pack_next(const uint8_t *bytes, size_t length, size_t *at, struct wire_member *ret_member)
{
	int r;

	if (*at >= length)
		return false;
	r = member_get(bytes + *at, length - *at, ret_member);
	CHECK(r > 0);
	*at += (size_t)r;
	return true;
}

/* ------------------------------ ATTR, RULE, KEEP --------------------------------------- */

#define XATTR_AT_NAME ((size_t)WIRE_XATTR_HEAD_BYTES)

/* The attribute at the start. Returns its bytes or -EPROTO. */
static int xattr_get(const uint8_t *bytes, size_t length, struct wire_xattr *ret_xattr)
{
	struct wire_xattr xattr;

	if (length <= XATTR_AT_NAME || !all_zero(bytes + 1, 3))
		return -EPROTO;
	length -= XATTR_AT_NAME;
	xattr.name = (const char *)bytes + XATTR_AT_NAME;
	xattr.name_length = bytes[0];
	xattr.value_length = get_le32(bytes + 4);
	if (xattr.name_length == 0 || xattr.name_length > length ||
		xattr.value_length > length - xattr.name_length ||
		memchr(xattr.name, '\0', xattr.name_length))
		return -EPROTO;
	xattr.value = bytes + XATTR_AT_NAME + xattr.name_length;
	*ret_xattr = xattr;
	return (int)(XATTR_AT_NAME + xattr.name_length + xattr.value_length);
}

/* Bytewise; a name comes before those that begin with it. */
static bool xattr_follows(const struct wire_xattr *before, const struct wire_xattr *xattr)
{
	int order = memcmp(
		before->name, xattr->name, min_size(before->name_length, xattr->name_length));

	return order < 0 || (order == 0 && before->name_length < xattr->name_length);
}

int wire_build_attr_head(uint32_t uid, uint32_t gid, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_ATTR_BYTES_MIN);
	put_le32(ret_bytes, uid);
	put_le32(ret_bytes + 4, gid);
	put_le32(ret_bytes + 8, 0);
	return WIRE_ATTR_BYTES_MIN;
}

int wire_build_attr_add(const struct wire_xattr *xattr, uint8_t *bytes, size_t used, size_t cap)
{
	size_t fixed = XATTR_AT_NAME + xattr->name_length;

	CHECK(used >= WIRE_ATTR_BYTES_MIN && used <= cap);
	if (xattr->name_length == 0 || memchr(xattr->name, '\0', xattr->name_length))
		return -EINVAL;
	cap = min_size(cap, FRAME_PAYLOAD_CAP);
	if (used + fixed > cap || xattr->value_length > cap - used - fixed ||
		get_le32(bytes + 8) >= LIMIT_XATTRS)
		return -ENOBUFS;
	bytes[used] = xattr->name_length;
	memset(bytes + used + 1, 0, 3);
	put_le32(bytes + used + 4, xattr->value_length);
	memcpy(bytes + used + XATTR_AT_NAME, xattr->name, xattr->name_length);
	if (xattr->value_length > 0)
		memcpy(bytes + used + fixed, xattr->value, xattr->value_length);
	put_le32(bytes + 8, get_le32(bytes + 8) + 1);
	return (int)(fixed + xattr->value_length);
}

int wire_parse_attr(const uint8_t *bytes, size_t length, struct wire_attr *ret_attr)
{
	size_t at = WIRE_ATTR_BYTES_MIN, count = 0;
	struct wire_xattr xattr, before = { .name = "" };

	if (length < WIRE_ATTR_BYTES_MIN || length > FRAME_PAYLOAD_CAP)
		return -EPROTO;
	for (; at < length; count++) {
		int r = xattr_get(bytes + at, length - at, &xattr);
		if (r < 0 || count == LIMIT_XATTRS ||
			(count > 0 && !xattr_follows(&before, &xattr)))
			return -EPROTO;
		before = xattr;
		at += (size_t)r;
	}
	if (count != get_le32(bytes + 8))
		return -EPROTO;
	*ret_attr = (struct wire_attr){ get_le32(bytes), get_le32(bytes + 4), (uint32_t)count };
	return 0;
}

bool wire_attr_next(const uint8_t *bytes, size_t length, size_t *at, struct wire_xattr *ret_xattr)
{
	size_t from = *at == 0 ? WIRE_ATTR_BYTES_MIN : *at;
	int r;

	if (from >= length)
		return false;
	r = xattr_get(bytes + from, length - from, ret_xattr);
	CHECK(r > 0);
	*at = from + (size_t)r;
	return true;
}

int wire_build_rule(const char *pattern, uint8_t *ret_bytes, size_t cap)
{
	size_t length = strlen(pattern);

	if (length == 0)
		return -EINVAL;
	if (length > min_size(cap, WIRE_RULE_BYTES_MAX))
		return -ENAMETOOLONG;
	memcpy(ret_bytes, pattern, length);
	return (int)length;
}

int wire_parse_rule(const uint8_t *bytes, size_t length, char ret_pattern[WIRE_RULE_BYTES_MAX + 1])
{
	if (length == 0 || length > WIRE_RULE_BYTES_MAX || memchr(bytes, '\0', length))
		return -EPROTO;
	memcpy(ret_pattern, bytes, length);
	ret_pattern[length] = '\0';
	return 0;
}

int wire_build_kept(const char *name, uint8_t *ret_bytes, size_t cap)
{
	size_t length = strlen(name);
	int r = wire_name_check(name, length);

	if (r < 0)
		return r;
	if (length + 1 > cap)
		return -ENOBUFS;
	ret_bytes[0] = (uint8_t)length;
	memcpy(ret_bytes + 1, name, length);
	return (int)length + 1;
}

int wire_parse_keep(const uint8_t *bytes, size_t length, struct wire_path *ret_names)
{
	return length == 0 || length > FRAME_PAYLOAD_CAP
		       ? -EPROTO
		       : names_get(bytes, length, UINT32_MAX, ret_names);
}

/* ------------------------------ ERR and VOID ------------------------------------------- */

int wire_build_err(const struct wire_err *err, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_ERR_BYTES && outcome_is_failure(err->outcome));
	put_le16(ret_bytes, err->outcome);
	put_le16(ret_bytes + 2, err->errnum);
	put_text(ret_bytes + 4, err->stage, sizeof(err->stage));
	put_text(ret_bytes + 28, err->text, sizeof(err->text));
	return WIRE_ERR_BYTES;
}

int wire_parse_err(const uint8_t *bytes, size_t length, struct wire_err *ret_err)
{
	if (length != WIRE_ERR_BYTES || !outcome_is_failure(get_le16(bytes)))
		return -EPROTO;
	if (!text_is_ended(bytes + 4, sizeof(ret_err->stage)) ||
		!text_is_ended(bytes + 28, sizeof(ret_err->text)))
		return -EPROTO;
	ret_err->outcome = get_le16(bytes);
	ret_err->errnum = get_le16(bytes + 2);
	/* a message worth reading is not thrown away for one odd byte: put_text makes it a '?' */
	put_text((uint8_t *)ret_err->stage, (const char *)bytes + 4, sizeof(ret_err->stage));
	put_text((uint8_t *)ret_err->text, (const char *)bytes + 28, sizeof(ret_err->text));
	return 0;
}

int wire_build_void(enum zh_outcome reason, uint8_t *ret_bytes, size_t cap)
{
	CHECK(cap >= WIRE_VOID_BYTES && outcome_is_failure((uint32_t)reason));
	put_le32(ret_bytes, (uint32_t)reason);
	return WIRE_VOID_BYTES;
}

int wire_parse_void(const uint8_t *bytes, size_t length, enum zh_outcome *ret_reason)
{
	if (length != WIRE_VOID_BYTES || !outcome_is_failure(get_le32(bytes)))
		return -EPROTO;
	*ret_reason = (enum zh_outcome)get_le32(bytes);
	return 0;
}

/* ------------------------------ BYE ---------------------------------------------------- */

/* Where a value lies in struct zh_side_report; on the wire the fields follow each other. */
struct bye_field {
	uint16_t at;
	uint16_t bytes; /* of one value: 4, 8 or a text's size */
	uint16_t count;
	uint16_t most; /* of a 4-byte value; 0: any */
};

#define BYE_ROW(member, width, n, limit)                                       \
	{                                                                      \
		offsetof(struct zh_side_report, member), (width), (n), (limit) \
	}
#define BYE_U32(member)       BYE_ROW(member, 4, 1, 0)
#define BYE_ENUM(member, top) BYE_ROW(member, 4, 1, top)
#define BYE_U64(member)       BYE_ROW(member, 8, 1, 0)
#define BYE_TEXT(member)      BYE_ROW(member, sizeof(((struct zh_side_report *)0)->member), 1, 0)

static const struct bye_field bye_fields[] = {
	BYE_ENUM(valid, 1),
	BYE_ENUM(stats.side, ZH_RECEIVE),
	BYE_U64(cpu_user_ns),
	BYE_U64(cpu_sys_ns),
	BYE_U64(max_rss_bytes),
	BYE_U64(voluntary_switches),
	BYE_U64(involuntary_switches),
	BYE_U64(disk_ns),
	BYE_TEXT(stats.strategy),
	BYE_U64(stats.bytes),
	BYE_U64(stats.elapsed_ns),
	BYE_U64(stats.cpu_ns),
	BYE_U64(stats.wait_space_ns),
	BYE_U64(stats.wait_data_ns),
	BYE_U64(stats.wait_disk_ns),
	BYE_U64(stats.wait_run_ns),
	BYE_U64(stats.shorts),
	BYE_U64(stats.agains),
	BYE_U64(stats.zc_copied_bytes),
	BYE_U64(stats.digest_bytes),
	BYE_U32(stats.chunk_bytes),
	BYE_U32(stats.depth),
	BYE_U32(stats.pipe_bytes),
	BYE_U32(stats.ring_flags),
	BYE_U32(stats.registered),
	BYE_U32(stats.huge_pages),
	BYE_U32(stats.direct),
	BYE_U32(stats.demotions),
	BYE_TEXT(stats.demotion),
	BYE_ROW(stats.calls, 8, ZH_CALL_MAX, 0),
	BYE_ENUM(stats.tcp.valid, 1),
	BYE_U32(stats.tcp.nodelay),
	BYE_U32(stats.tcp.cork),
	BYE_U32(stats.tcp.sndbuf_bytes),
	BYE_U32(stats.tcp.rcvbuf_bytes),
	BYE_U32(stats.tcp.notsent_lowat_bytes),
	BYE_U32(stats.tcp.mss_bytes),
	BYE_U32(stats.tcp.rtt_us),
	BYE_U32(stats.tcp.min_rtt_us),
	BYE_U32(stats.tcp.cwnd_segments),
	BYE_U32(stats.tcp.retransmits),
	BYE_U32(stats.tcp.segments_out),
	BYE_U64(stats.tcp.delivery_rate),
	BYE_U64(stats.tcp.pacing_rate),
	BYE_U64(stats.tcp.busy_us),
	BYE_U64(stats.tcp.rwnd_limited_us),
	BYE_U64(stats.tcp.sndbuf_limited_us),
	BYE_TEXT(stats.tcp.congestion),
	BYE_U64(cached_before_bytes),
	BYE_U64(cached_after_bytes),
	BYE_U32(hard_links),
	BYE_U32(links_skipped),
	BYE_U32(special_skipped),
	BYE_U32(directories_made),
	BYE_U64(deleted),
};

static size_t bye_put(const struct bye_field *field, const void *value, uint8_t *ret_bytes)
{
	for (size_t i = 0; i < field->count; i++) {
		if (field->bytes == 4)
			put_le32(ret_bytes + i * 4, ((const uint32_t *)value)[i]);
		else if (field->bytes == 8)
			put_le64(ret_bytes + i * 8, ((const uint64_t *)value)[i]);
		else
			put_text(ret_bytes, value, field->bytes);
	}
	return (size_t)field->bytes * field->count;
}

static bool bye_get(const struct bye_field *field, const uint8_t *bytes, void *ret_value)
{
	for (size_t i = 0; i < field->count; i++) {
		if (field->bytes == 4) {
			uint32_t value = get_le32(bytes + i * 4);
			if (field->most != 0 && value > field->most)
				return false;
			((uint32_t *)ret_value)[i] = value;
		} else if (field->bytes == 8) {
			((uint64_t *)ret_value)[i] = get_le64(bytes + i * 8);
		} else {
			if (!text_is_printable(bytes, field->bytes))
				return false;
			memcpy(ret_value, bytes, field->bytes);
		}
	}
	return true;
}

int wire_build_bye(const struct zh_side_report *report, uint8_t *ret_bytes, size_t cap)
{
	size_t used = 0;

	CHECK(cap >= WIRE_BYE_BYTES);
	CHECK(report->valid <= 1 && report->stats.side <= ZH_RECEIVE);
	CHECK(report->stats.tcp.valid <= 1);
	memset(ret_bytes, 0, WIRE_BYE_BYTES);
	for (size_t i = 0; i < ARRAY_LEN(bye_fields); i++)
		used += bye_put(
			&bye_fields[i], (const char *)report + bye_fields[i].at, ret_bytes + used);
	CHECK(used <= WIRE_BYE_BYTES);
	return WIRE_BYE_BYTES;
}

int wire_parse_bye(const uint8_t *bytes, size_t length, struct zh_side_report *ret_report)
{
	struct zh_side_report report;
	size_t used = 0;

	if (length != WIRE_BYE_BYTES)
		return -EPROTO;
	memset(&report, 0, sizeof(report));
	report.stats.size = sizeof(report.stats);
	for (size_t i = 0; i < ARRAY_LEN(bye_fields); i++) {
		if (!bye_get(&bye_fields[i], bytes + used, (char *)&report + bye_fields[i].at))
			return -EPROTO;
		used += (size_t)bye_fields[i].bytes * bye_fields[i].count;
	}
	if (!all_zero(bytes + used, WIRE_BYE_BYTES - used))
		return -EPROTO;
	*ret_report = report;
	return 0;
}
