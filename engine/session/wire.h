/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - the bytes of zh/1: the opening HELLO, frame heads and payloads. Pure: bytes in, values
 * out; no call into the system, no allocation, no memory between calls. Values that break a rule of
 * the format never come out of here; rules that need context (ids, sizes, order) are kept above.
 *
 * All integers are little endian. Parsers return 0 or -EPROTO (-ERANGE where noted) and leave their
 * outputs alone on failure; builders return the number of bytes written into a buffer whose size
 * is part of the contract.
 */
#ifndef ZH_SESSION_WIRE_H
#define ZH_SESSION_WIRE_H

#include "base/leaf.h"
#include "base/util.h"
#include "session/limits.h"
#include "zerohaul.h"

#define WIRE_VERSION 1

/* ------------------------------ HELLO -------------------------------------------------- */

#define HELLO_BYTES      128
#define HELLO_MAGIC      "zerohaul" /* 8 bytes */
#define NONCE_BYTES      32
#define SESSION_ID_BYTES 16
#define PROOF_BYTES      32

enum hello_kind { HELLO_CONTROL = 1, HELLO_DATA = 2 };
enum hello_link { HELLO_LINK_PLAIN = 1, HELLO_LINK_TLS = 2 };
enum hello_auth { HELLO_AUTH_NONE = 0, HELLO_AUTH_PSK = 1 };
enum hello_intent { HELLO_PUSH = 1, HELLO_PULL = 2 };

/* The first bytes of each connection, both ways. Unused bytes are zero and checked. */
struct hello {
	uint8_t kind;   /* enum hello_kind */
	uint8_t link;   /* enum hello_link */
	uint8_t auth;   /* enum hello_auth */
	uint8_t intent; /* enum hello_intent */
	uint16_t version_min;
	uint16_t version_max;
	uint32_t required;                 /* feature bits the other side must know */
	uint32_t optional;                 /* feature bits that may be echoed */
	uint32_t data_index;               /* of a data connection, from 0 */
	uint8_t session[SESSION_ID_BYTES]; /* zero in a client's control HELLO */
	uint8_t nonce[NONCE_BYTES];
};

void wire_build_hello(const struct hello *hello, uint8_t ret_bytes[HELLO_BYTES]);
/*
 * -EPROTO: not a HELLO. Version and features are for wire_negotiate, which comes first: when the
 * versions of the peer begin after ours, only kind and versions are filled and the rest is zero.
 */
int wire_parse_hello(const uint8_t bytes[HELLO_BYTES], struct hello *ret_hello) must_check;
/* Returns the version both speak, or -EPROTONOSUPPORT. known: feature bits this side implements. */
int wire_negotiate(const struct hello *mine, const struct hello *theirs, uint32_t known) must_check;

/* What a server sends in place of its HELLO, HELLO_BYTES long too. Not covered by any proof. */
struct wire_refusal {
	uint16_t outcome;     /* enum zh_outcome, > 0 */
	uint16_t version_min; /* what the server speaks */
	uint16_t version_max;
};
void wire_build_refusal(const struct wire_refusal *refusal, uint8_t ret_bytes[HELLO_BYTES]);
/* -EPROTO: no refusal; it may be a HELLO. */
int wire_parse_refusal(
	const uint8_t bytes[HELLO_BYTES], struct wire_refusal *ret_refusal) must_check;
/* The same in place of a server's proof: 16 zero bytes, le16 outcome, zeros; no proof looks so. */
void wire_build_proof_refusal(enum zh_outcome outcome, uint8_t ret_bytes[PROOF_BYTES]);
int wire_parse_proof_refusal(
	const uint8_t bytes[PROOF_BYTES], enum zh_outcome *ret_outcome) must_check;

/* ------------------------------ frames ------------------------------------------------- */

#define FRAME_HEAD_BYTES 24
#define FRAME_TAG_BYTES  16
/* A head and its tag travel together; the payload follows. */
#define FRAME_FIXED_BYTES (FRAME_HEAD_BYTES + FRAME_TAG_BYTES)

enum frame_type {
	FRAME_SETUP = 1, /* client -> server: what this session shall do */
	FRAME_WANT,      /* client -> server: a place under the root, by components */
	FRAME_PLACE,     /* server -> client: what is there */
	FRAME_DIR,       /* announces a directory; these have ids of their own */
	FRAME_FILE,
	FRAME_MAP, /* where a sparse file has data; follows its FILE at once */
	FRAME_NEED,
	FRAME_LEAF, /* digests that a NEED with PROVE asked for */
	FRAME_DATA,
	FRAME_PACK, /* announces many small files, which are sent as one */
	FRAME_SUM,
	FRAME_NAK,
	FRAME_END,
	FRAME_ACK,
	FRAME_CREDIT,
	FRAME_ERR,
	FRAME_PING,
	FRAME_PONG,
	FRAME_BYE,
	FRAME_LEAVE, /* everything in a directory is settled */
	FRAME_ATTR,  /* owner and extended attributes; follows a FILE, comes before a LEAVE */
	FRAME_RULE,  /* client -> server: what is left out or taken */
	FRAME_GOT,   /* how many DATA of a data connection are complete */
	FRAME_LOST,  /* a data connection is over at the sender */
	FRAME_KEEP,  /* names in a directory of the source that nothing comes of */
	FRAME_TYPE_END,
};

/* flags of a head, by type */
enum {
	SUM_VOID = 1u << 0, /* throw the DATA frame away; payload: le32 outcome */
	FILE_NO_CLOBBER = 1u << 0,
	FILE_SPARSE = 1u << 1, /* MAP follows */
	PACK_NO_CLOBBER = 1u << 0,
	NEED_PROVE = 1u << 0,     /* send LEAF of these first; a NEED without PROVE follows */
	NEED_TRUSTED = 1u << 1,   /* what is not listed is there, by size and time */
	WANT_DIRECTORY = 1u << 0, /* must be a directory (trailing slash, several sources) */
	WANT_LAST = 1u << 1,      /* no further WANT comes */
	/* of a directory that is pulled what is in it, into the place; in a push with DELETE: the
	 * place is to be as the one source is */
	WANT_CONTENTS = 1u << 2,
	ACK_DURABLE = 1u << 0,    /* absent: verified and visible, not synced */
	ERR_DIRECTORY = 1u << 0,  /* the id is a directory's */
	ATTR_DIRECTORY = 1u << 0, /* the id is a directory's */
	RULE_EXCLUDE = 1u << 0,
	GOT_LAST = 1u << 0, /* the connection is over at the receiver: there will be no more */
	LEAVE_COMPLETE = 1u << 0, /* all names in it have been told: what else is there goes */
};

struct frame {
	uint8_t type; /* enum frame_type */
	uint8_t flags;
	uint32_t length; /* of the payload; for DATA of the raw bytes */
	uint64_t id;
	uint64_t offset;
};

/* A head that wire_parse_head would refuse is a bug and stops the program. */
void wire_build_head(const struct frame *frame, uint8_t ret_bytes[FRAME_HEAD_BYTES]);
/*
 * Checks type, flags, reserved bits, the cap and any fixed length of the type, and that fields the
 * type does not use are zero; DATA: length > 0, offset leaf-aligned, no overflow of offset +
 * length.
 */
int wire_parse_head(const uint8_t bytes[FRAME_HEAD_BYTES], struct frame *ret_frame) must_check;
/* Largest payload of a type, and its name for messages. */
uint32_t wire_cap(enum frame_type type);
const char *wire_name(unsigned type);
/* DATA: the payload is not covered by the tag and is not read into a frame buffer. */
bool wire_is_raw(enum frame_type type);

/* Largest payload that is parsed from memory (all types but DATA). */
#define FRAME_PAYLOAD_CAP 65536

/* Lengths of payloads; a builder's buffer holds at least that much. */
#define WIRE_SETUP_BYTES      80
#define WIRE_PLACE_BYTES      16
#define WIRE_FILE_BYTES_MIN   34 /* with a name of one byte */
#define WIRE_FILE_BYTES_MAX   (33 + LIMIT_NAME_BYTES)
#define WIRE_RANGE_BYTES      16
#define WIRE_MEMBER_BYTES_MIN 33 /* of a PACK, with a name of one byte */
#define WIRE_MEMBER_BYTES_MAX (32 + LIMIT_NAME_BYTES)
#define WIRE_LEAVE_BYTES      16
#define WIRE_ATTR_BYTES_MIN   12
#define WIRE_XATTR_HEAD_BYTES 8 /* of one attribute; name and value follow */
#define WIRE_RULE_BYTES_MAX   4096
#define WIRE_KEEP_BYTES_MIN   2 /* a name of one byte */
#define WIRE_SUM_BYTES_MAX    (LIMIT_DATA_BYTES / LEAF_BYTES * DIGEST_BYTES)
#define WIRE_VOID_BYTES       4
#define WIRE_NAK_BYTES        20
#define WIRE_END_BYTES        40
#define WIRE_ERR_BYTES        284
#define WIRE_BYE_BYTES        1024

/* ------------------------------ payloads ----------------------------------------------- */

#define WIRE_STRATEGY_CAP 24

/* What is done about a file that is there already. */
enum wire_existing {
	WIRE_EXISTING_PROVE = 0,  /* with the size and time of the source: compared by digest */
	WIRE_EXISTING_TRUST = 1,  /* with the size and time of the source: left alone */
	WIRE_EXISTING_DIGEST = 2, /* with the size of the source: compared by digest */
};

/* What of a tree is carried. */
enum wire_tree {
	TREE_RECURSIVE = 1u << 0,
	TREE_LINKS = 1u << 1, /* symbolic links, as such */
	TREE_OWNER = 1u << 2,
	TREE_XATTRS = 1u << 3,
	TREE_PRIVILEGED = 1u << 4, /* with XATTRS: those that only root may set, too */
	TREE_DELETE = 1u << 5,     /* with RECURSIVE: what the source has not is removed */
	TREE_ALL = TREE_RECURSIVE | TREE_LINKS | TREE_OWNER | TREE_XATTRS | TREE_PRIVILEGED |
		   TREE_DELETE,
};

/* Wishes of the client for this session. Local policy of the server may refuse, never widen. */
struct wire_setup {
	uint8_t direction;  /* enum zh_direction */
	uint8_t verify;     /* enum zh_verify */
	uint8_t durability; /* enum zh_durability */
	uint8_t nagle;      /* enum zh_nagle */
	uint32_t no_fallback;
	uint32_t streams;     /* 1..LIMIT_STREAMS */
	uint32_t chunk_bytes; /* 0: the plan chooses */
	uint32_t sndbuf_bytes;
	uint32_t rcvbuf_bytes;
	uint32_t notsent_lowat_bytes;
	uint32_t cache;   /* enum zh_cache */
	uint8_t existing; /* enum wire_existing */
	uint8_t tree;     /* enum wire_tree */
	uint8_t dry_run;  /* 1: nothing is changed at the receiver, and no byte of a file sent */
	uint8_t max_open; /* files announced by FILE and not settled; 0: the sender chooses */
	uint64_t pacing_bytes_per_s;
	char congestion[16];
	char strategy[WIRE_STRATEGY_CAP]; /* of the server's side; "": the plan chooses */
};

/*
 * A path as components, for WANT. No component is empty, ".", "..", longer than LIMIT_NAME_BYTES or
 * holds '/' or NUL; at most LIMIT_DEPTH of them; none at all is the root itself. The names of a
 * KEEP lie side by side in the same way, at least one and as many as there are.
 */
struct wire_path {
	const uint8_t *bytes; /* (u8 length, bytes)*, borrowed */
	size_t length;
	unsigned count;
};

/* Iterates: *at starts at 0. Returns false past the last component. */
bool wire_path_next(
	const struct wire_path *path, size_t *at, const char **ret_name, uint8_t *ret_length);

enum wire_place { PLACE_ABSENT = 0, PLACE_DIRECTORY = 1, PLACE_FILE = 2, PLACE_OTHER = 3 };

/* Answer to WANT. In a push the client puts its files into the directory, or, for FILE and ABSENT,
 * under the last component's name into the directory before it. */
struct wire_place_info {
	uint8_t kind;  /* enum wire_place */
	uint64_t size; /* of a FILE; sent as 0 for other kinds */
};

/* Announces one file or directory. The name is checked by wire_name_check. */
struct wire_file {
	uint64_t parent; /* id of a directory, 0: the place */
	uint64_t size;   /* of a directory: 0 */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode; /* 07777 at most; a receiver applies 0777 & ~umask */
	uint8_t name_length;
	char name[LIMIT_NAME_BYTES + 1]; /* ended, for convenience */
};

enum wire_member_kind { MEMBER_FILE = 0, MEMBER_LINK = 1 };

/* One of the small files of a PACK. Its bytes follow those of the member before it. */
struct wire_member {
	uint32_t parent; /* id of a directory, 0: the place */
	uint32_t size;   /* of a link: 1..4095 */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint8_t kind; /* enum wire_member_kind; the bytes of a link are its target */
	uint8_t name_length;
	char name[LIMIT_NAME_BYTES + 1]; /* ended, for convenience */
};

/* Of a directory, when it is left: what is made in it would change its time. */
struct wire_leave {
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode; /* 07777 at most */
};

struct wire_attr {
	uint32_t uid;
	uint32_t gid;
	uint32_t count; /* of the extended attributes */
};

/* One extended attribute. Borrowed bytes; the name is not ended and holds no NUL. */
struct wire_xattr {
	const char *name;
	const uint8_t *value;
	uint32_t value_length;
	uint8_t name_length;
};

/* 0, or -EINVAL: empty, ".", "..", has '/' or NUL; -ENAMETOOLONG. */
int wire_name_check(const void *name, size_t length) must_check;
/*
 * 0, or -EINVAL: holds control characters (C0, DEL, C1), bidirectional controls, or is no valid
 * UTF-8: refused by receivers unless told. Beside wire_name_check, not instead of it.
 */
int wire_name_strict(const void *name, size_t length) must_check;

struct wire_end {
	struct digest root;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
};

struct wire_err {
	uint16_t outcome; /* enum zh_outcome, > 0 */
	uint16_t errnum;
	char stage[24];
	char text[256]; /* printable after parsing: other bytes become '?' */
};

struct wire_nak {
	uint32_t reason;       /* enum zh_outcome */
	struct digest claimed; /* digest that the SUM gave for the leaf at head.offset */
};

#define WIRE_RANGES_MAX 4096 /* NEED, MAP: (offset, length) pairs in one frame */

/* -EINVAL: a value that wire_parse_setup would refuse. */
int wire_build_setup(const struct wire_setup *setup, uint8_t *ret_bytes, size_t cap) must_check;
int wire_parse_setup(const uint8_t *bytes, size_t length, struct wire_setup *ret_setup) must_check;
/*
 * From a slash-separated text; runs of slashes count as one, and leading and trailing ones and
 * components that are "." as none, so "", "/" and "." name the root. -EINVAL as for struct
 * wire_path; -ENAMETOOLONG: a component, the depth or the buffer.
 */
int wire_build_path(const char *text, uint8_t *ret_bytes, size_t cap) must_check;
/* -EPROTO: malformed or too deep; -EINVAL: a component that wire_name_check refuses. */
int wire_parse_path(const uint8_t *bytes, size_t length, struct wire_path *ret_path) must_check;
int wire_build_place(const struct wire_place_info *place, uint8_t *ret_bytes, size_t cap);
int wire_parse_place(
	const uint8_t *bytes, size_t length, struct wire_place_info *ret_place) must_check;
/* Fails as wire_parse_file does, for what the peer would refuse. */
int wire_build_file(const struct wire_file *file, uint8_t *ret_bytes, size_t cap) must_check;
/* -EPROTO for malformed bytes or type bits in mode, -ERANGE for a size over LIMIT_FILE_BYTES,
 * -EINVAL for a name that wire_name_check refuses. */
int wire_parse_file(const uint8_t *bytes, size_t length, struct wire_file *ret_file) must_check;
/* The same for a DIR. -EPROTO also for a size. */
int wire_build_dir(const struct wire_file *dir, uint8_t *ret_bytes, size_t cap) must_check;
int wire_parse_dir(const uint8_t *bytes, size_t length, struct wire_file *ret_dir) must_check;
/*
 * One member more of a PACK: -ENOBUFS when cap is too small for it, otherwise as wire_parse_pack.
 * The sizes of a whole table are the caller's to add up.
 */
int wire_build_member(const struct wire_member *member, uint8_t *ret_bytes, size_t cap) must_check;
/*
 * Checks a whole table: 0; -EPROTO: malformed, empty, or more than LIMIT_PACK_BYTES in total;
 * -EINVAL: a name that wire_name_check refuses. count <= LIMIT_MEMBERS.
 */
int wire_parse_pack(
	const uint8_t *bytes, size_t length, size_t *ret_count, uint32_t *ret_total) must_check;
/* Iterates a table that wire_parse_pack has checked: *at starts at 0. False past the last one. */
bool wire_pack_next(
	const uint8_t *bytes, size_t length, size_t *at, struct wire_member *ret_member);
int wire_build_leave(const struct wire_leave *leave, uint8_t *ret_bytes, size_t cap) must_check;
int wire_parse_leave(const uint8_t *bytes, size_t length, struct wire_leave *ret_leave) must_check;
/* ATTR: the head, with no attributes yet. */
int wire_build_attr_head(uint32_t uid, uint32_t gid, uint8_t *ret_bytes, size_t cap);
/*
 * One attribute more behind the `used` bytes of an ATTR, and counted in its head; its name has to
 * come after that of the one before. Returns the bytes added. -ENOBUFS when cap, that of the whole,
 * is too small for it, or there are LIMIT_XATTRS; -EINVAL: the name is none.
 */
int wire_build_attr_add(
	const struct wire_xattr *xattr, uint8_t *bytes, size_t used, size_t cap) must_check;
int wire_parse_attr(const uint8_t *bytes, size_t length, struct wire_attr *ret_attr) must_check;
/* Iterates what wire_parse_attr has checked: *at starts at 0. False past the last one. */
bool wire_attr_next(const uint8_t *bytes, size_t length, size_t *at, struct wire_xattr *ret_xattr);
/* -EINVAL: an empty pattern; -ENAMETOOLONG. */
int wire_build_rule(const char *pattern, uint8_t *ret_bytes, size_t cap) must_check;
int wire_parse_rule(
	const uint8_t *bytes, size_t length, char ret_pattern[WIRE_RULE_BYTES_MAX + 1]) must_check;
/*
 * One name more of a KEEP, ended by a NUL here. Returns the bytes added; -ENOBUFS when cap is too
 * small for it; what wire_name_check says of it.
 */
int wire_build_kept(const char *name, uint8_t *ret_bytes, size_t cap) must_check;
/* -EPROTO: malformed or empty; -EINVAL: a name that wire_name_check refuses. To be iterated by
 * wire_path_next. */
int wire_parse_keep(const uint8_t *bytes, size_t length, struct wire_path *ret_names) must_check;
int wire_build_ranges(const struct zh_extent *range, size_t count, uint8_t *ret_bytes, size_t cap);
/* Ranges must be sorted, not empty, not overlapping, and end by INT64_MAX. Returns 0. Of a PACK's
 * NEED they are numbers of members. */
int wire_parse_ranges(const uint8_t *bytes, size_t length, struct zh_extent *ret_range, size_t cap,
	size_t *ret_count) must_check;
/* SUM, LEAF: one digest per leaf; ACK: one, the root. */
int wire_build_digests(const struct digest *digest, size_t count, uint8_t *ret_bytes, size_t cap);
int wire_parse_digests(const uint8_t *bytes, size_t length, struct digest *ret_digest, size_t cap,
	size_t *ret_count) must_check;
int wire_build_nak(const struct wire_nak *nak, uint8_t *ret_bytes, size_t cap);
int wire_parse_nak(const uint8_t *bytes, size_t length, struct wire_nak *ret_nak) must_check;
/* -EINVAL: a size over LIMIT_FILE_BYTES, or no time. */
int wire_build_end(const struct wire_end *end, uint8_t *ret_bytes, size_t cap) must_check;
int wire_parse_end(const uint8_t *bytes, size_t length, struct wire_end *ret_end) must_check;
int wire_build_err(const struct wire_err *err, uint8_t *ret_bytes, size_t cap);
int wire_parse_err(const uint8_t *bytes, size_t length, struct wire_err *ret_err) must_check;
int wire_build_void(enum zh_outcome reason, uint8_t *ret_bytes, size_t cap);
int wire_parse_void(const uint8_t *bytes, size_t length, enum zh_outcome *ret_reason) must_check;
/*
 * BYE: totals of one side, all of struct zh_side_report but its sizes and padding, which the parser
 * sets. valid, side and tcp.valid are checked; the other numbers are for people to read.
 */
int wire_build_bye(const struct zh_side_report *report, uint8_t *ret_bytes, size_t cap);
int wire_parse_bye(
	const uint8_t *bytes, size_t length, struct zh_side_report *ret_report) must_check;

#endif
