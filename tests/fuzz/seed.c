/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed.c - writes the first inputs of the fuzz targets: `seed DIRECTORY` fills DIRECTORY/wire with
 * one legal input per parser, DIRECTORY/link with streams of such frames, and DIRECTORY/manifest
 * with manifests, whole and without their last lines.
 */
#include "fuzz.h"

#include "store/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

struct sample {
	uint8_t byte[65536];
	size_t length;
};

static const char *directory;

static void add(struct sample *sample, const void *bytes, size_t length)
{
	CHECK(length <= sizeof(sample->byte) - sample->length);
	memcpy(sample->byte + sample->length, bytes, length);
	sample->length += length;
}

static void save(
	const char *target, const char *name, unsigned first, const void *bytes, size_t length)
{
	char path[4096];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s/seed-%s", directory, target, name);
	file = fopen(path, "wb");
	if (!file || fputc((int)first, file) == EOF || fwrite(bytes, 1, length, file) != length ||
		fclose(file) != 0) {
		fprintf(stderr, "cannot write %s\n", path);
		exit(1);
	}
}

/* One payload to both corpora: alone for its parser, and behind its head for the link. */
static void payload(struct sample *stream, struct frame frame, const char *name, int built,
	const uint8_t *bytes)
{
	uint8_t head[FRAME_HEAD_BYTES];

	CHECK(built >= 0);
	frame.length = (uint32_t)built;
	wire_build_head(&frame, head);
	save("wire", name,
		frame.flags & SUM_VOID && frame.type == FRAME_SUM ? FUZZ_VOID : frame.type, bytes,
		(size_t)built);
	add(stream, head, sizeof(head));
	add(stream, bytes, (size_t)built);
}

static void seed_hello(struct sample *raw)
{
	struct hello hello = { .kind = HELLO_CONTROL,
		.link = HELLO_LINK_PLAIN,
		.auth = HELLO_AUTH_PSK,
		.intent = HELLO_PUSH,
		.version_min = 1,
		.version_max = 1 };
	struct wire_refusal refusal = { ZH_VERSION, 1, 1 };
	uint8_t bytes[HELLO_BYTES], proof[PROOF_BYTES];

	memset(hello.nonce, 'n', sizeof(hello.nonce));
	wire_build_hello(&hello, bytes);
	save("wire", "hello-control", FUZZ_HELLO, bytes, sizeof(bytes));
	add(raw, bytes, sizeof(bytes));
	memset(proof, 'p', sizeof(proof));
	add(raw, proof, sizeof(proof));
	hello.kind = HELLO_DATA;
	hello.data_index = 3;
	memset(hello.session, 's', sizeof(hello.session));
	wire_build_hello(&hello, bytes);
	save("wire", "hello-data", FUZZ_HELLO, bytes, sizeof(bytes));
	hello.version_min = 2;
	hello.version_max = 3;
	wire_build_hello(&hello, bytes);
	save("wire", "hello-later", FUZZ_HELLO, bytes, sizeof(bytes));
	wire_build_refusal(&refusal, bytes);
	save("wire", "refusal", FUZZ_REFUSAL, bytes, sizeof(bytes));
	wire_build_proof_refusal(ZH_AUTH, proof);
	save("wire", "proof-refusal", FUZZ_PROOF_REFUSAL, proof, sizeof(proof));
}

static void seed_opening(struct sample *stream)
{
	struct wire_setup setup = { .streams = 4,
		.existing = WIRE_EXISTING_TRUST,
		.tree = TREE_ALL,
		.dry_run = 1,
		.max_open = 8,
		.congestion = "cubic",
		.strategy = "sendfile" };
	struct wire_place_info place = { PLACE_FILE, 4096 };
	uint8_t bytes[4096];

	payload(stream, (struct frame){ .type = FRAME_SETUP }, "setup",
		wire_build_setup(&setup, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_RULE, .flags = RULE_EXCLUDE }, "rule",
		wire_build_rule("*.o", bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_WANT, .flags = WANT_LAST }, "want",
		wire_build_path("srv/incoming/..x", bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_PLACE }, "place",
		wire_build_place(&place, bytes, sizeof(bytes)), bytes);
}

static void seed_file(struct sample *stream)
{
	struct wire_file file = { .size = 3 << 20,
		.mtime_s = 1700000000,
		.mtime_ns = 5,
		.mode = 0644,
		.name_length = 9,
		.name = "file.data" };
	struct zh_extent range[2] = { { 0, 1 << 20 }, { 2 << 20, 1 << 20 } };
	struct wire_end end = { .size = 3 << 20, .mtime_s = 1700000000, .mtime_ns = 5 };
	struct wire_nak nak = { .reason = ZH_VERIFY };
	struct digest digest[2] = { { { 1 } }, { { 2 } } };
	struct frame data = { .type = FRAME_DATA, .id = 1, .length = 5 };
	uint8_t bytes[4096], head[FRAME_HEAD_BYTES];

	payload(stream, (struct frame){ .type = FRAME_FILE, .id = 1 }, "file",
		wire_build_file(&file, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_NEED, .id = 1 }, "need",
		wire_build_ranges(range, 2, bytes, sizeof(bytes)), bytes);
	wire_build_head(&data, head);
	save("wire", "head-data", FUZZ_HEAD, head, sizeof(head));
	add(stream, head, sizeof(head));
	add(stream, "bytes", 5);
	payload(stream, (struct frame){ .type = FRAME_SUM, .id = 1 }, "sum",
		wire_build_digests(digest, 2, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_SUM, .flags = SUM_VOID, .id = 1 }, "void",
		wire_build_void(ZH_SRC_IO, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_NAK, .id = 1, .offset = 1 << 20 }, "nak",
		wire_build_nak(&nak, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_END, .id = 1 }, "end",
		wire_build_end(&end, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_ACK, .flags = ACK_DURABLE, .id = 1 }, "ack",
		wire_build_digests(digest, 1, bytes, sizeof(bytes)), bytes);
}

static void seed_directory(struct sample *stream)
{
	struct wire_file dir = {
		.mtime_s = 1700000000, .mode = 0755, .name_length = 3, .name = "src"
	};
	struct wire_xattr xattr = { .name = "user.a",
		.name_length = 6,
		.value = (const uint8_t *)"xyz",
		.value_length = 3 };
	struct wire_leave leave = { .mtime_s = 1700000000, .mtime_ns = 5, .mode = 0755 };
	uint8_t bytes[4096];
	int length;

	payload(stream, (struct frame){ .type = FRAME_DIR, .id = 1 }, "dir",
		wire_build_dir(&dir, bytes, sizeof(bytes)), bytes);
	length = wire_build_attr_head(1000, 100, bytes, sizeof(bytes));
	for (unsigned i = 0; i < 2; i++) {
		int added = wire_build_attr_add(&xattr, bytes, (size_t)length, sizeof(bytes));
		CHECK(added > 0);
		length += added;
		xattr.name = "user.b";
		xattr.value_length = 0;
	}
	payload(stream, (struct frame){ .type = FRAME_ATTR, .flags = ATTR_DIRECTORY, .id = 1 },
		"attr", length, bytes);
	length = wire_build_kept("out.o", bytes, sizeof(bytes));
	CHECK(length == 6);
	payload(stream, (struct frame){ .type = FRAME_KEEP, .id = 1 }, "keep",
		length + wire_build_kept("\xff", bytes + length, sizeof(bytes) - 6), bytes);
	payload(stream, (struct frame){ .type = FRAME_LEAVE, .id = 1 }, "leave",
		wire_build_leave(&leave, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_LEAVE, .flags = LEAVE_COMPLETE },
		"leave-complete", wire_build_leave(&leave, bytes, sizeof(bytes)), bytes);
}

static void seed_pack(struct sample *stream)
{
	struct wire_member member = { .parent = 1,
		.size = 7,
		.mtime_s = 1700000000,
		.mode = 0644,
		.name_length = 5,
		.name = "a.txt" };
	struct zh_extent all = { 0, 2 }, data = { 4096, 8192 };
	struct digest digest[2] = { { { 1 } }, { { 2 } } };
	uint8_t bytes[4096];
	int length, more;

	length = wire_build_member(&member, bytes, sizeof(bytes));
	CHECK(length > 0);
	member.kind = MEMBER_LINK;
	member.name[0] = 'l';
	more = wire_build_member(&member, bytes + length, sizeof(bytes) - (size_t)length);
	CHECK(more > 0);
	payload(stream, (struct frame){ .type = FRAME_PACK, .flags = PACK_NO_CLOBBER, .id = 2 },
		"pack", length + more, bytes);
	payload(stream, (struct frame){ .type = FRAME_NEED, .flags = NEED_PROVE, .id = 2 },
		"need-prove", wire_build_ranges(&all, 1, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_LEAF, .id = 2, .offset = 1 }, "leaf",
		wire_build_digests(digest, 2, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_MAP, .id = 3 }, "map",
		wire_build_ranges(&data, 1, bytes, sizeof(bytes)), bytes);
}

static void seed_closing(struct sample *stream)
{
	struct wire_err err = { .outcome = ZH_NOSPACE,
		.errnum = ENOSPC,
		.stage = "fallocate",
		.text = "no space left" };
	static struct zh_side_report report = { .valid = 1,
		.cpu_user_ns = 7,
		.links_skipped = 5,
		.stats = { .strategy = "splice",
			.demotion = "EINVAL",
			.tcp = { .valid = 1, .congestion = "bbr" } } };
	struct frame ping = { .type = FRAME_PING, .id = 9 };
	uint8_t bytes[4096], head[FRAME_HEAD_BYTES];

	wire_build_head(&ping, head);
	save("wire", "head-ping", FUZZ_HEAD, head, sizeof(head));
	add(stream, head, sizeof(head));
	payload(stream, (struct frame){ .type = FRAME_ERR, .id = 1, .offset = 77 }, "err",
		wire_build_err(&err, bytes, sizeof(bytes)), bytes);
	payload(stream, (struct frame){ .type = FRAME_BYE }, "bye",
		wire_build_bye(&report, bytes, sizeof(bytes)), bytes);
}

static void seed_manifest(void)
{
	static const char head[] = "zerohaul-manifest 1\n";
	struct manifest_entry entry[] = {
		{ .kind = MANIFEST_FILE,
			.mode = 0644,
			.size = 4097,
			.mtime_s = -5,
			.mtime_ns = 999,
			.path = "d/a file\xff\n",
			.path_bytes = 10 },
		{ .kind = MANIFEST_DIRECTORY, .mode = 02755, .path = "d", .path_bytes = 1 },
		{ .kind = MANIFEST_LINK,
			.target = "../to there\\",
			.target_bytes = 12,
			.path = "d/link",
			.path_bytes = 6 },
	};
	char path[4096], text[4096], *last;
	struct manifest *manifest;
	FILE *file;
	size_t length;

	(void)snprintf(path, sizeof(path), "%s/manifest/seed-whole", directory);
	CHECK(manifest_open(path, &manifest, NULL) == 0);
	for (size_t i = 0; i < ARRAY_LEN(entry); i++)
		manifest_add(manifest, &entry[i]);
	CHECK(manifest_close(manifest, NULL) == 0);
	file = fopen(path, "rb");
	CHECK(file);
	length = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[length] = '\0';
	last = strstr(text, "\nend ");
	CHECK(last);
	save("manifest", "lines", (unsigned char)text[0], text + 1, (size_t)(last - text));
	save("manifest", "head", (unsigned char)head[0], head + 1, sizeof(head) - 2);
}

int main(int argc, char **argv)
{
	static struct sample raw, opening, whole, tree;
	char path[4096];

	if (argc != 2) {
		fprintf(stderr, "usage: seed DIRECTORY\n");
		return 1;
	}
	directory = argv[1];
	(void)snprintf(path, sizeof(path), "%s/wire", directory);
	(void)mkdir(path, 0755);
	(void)snprintf(path, sizeof(path), "%s/link", directory);
	(void)mkdir(path, 0755);
	(void)snprintf(path, sizeof(path), "%s/manifest", directory);
	(void)mkdir(path, 0755);

	seed_hello(&raw);
	seed_opening(&opening);
	save("link", "opening", FUZZ_STREAM_TAGGED, opening.byte, opening.length);
	seed_file(&whole);
	save("link", "file", FUZZ_STREAM_TAGGED, whole.byte, whole.length);
	seed_directory(&tree);
	seed_pack(&tree);
	save("link", "tree", FUZZ_STREAM_TAGGED, tree.byte, tree.length);
	seed_closing(&whole);
	save("link", "whole", FUZZ_STREAM_TAGGED, whole.byte, whole.length);
	add(&raw, whole.byte, whole.length);
	save("link", "handshake", FUZZ_STREAM_RAW, raw.byte, raw.length);
	seed_manifest();
	save("wire", "name", FUZZ_NAME, "caf\xc3\xa9 \xf0\x9f\x98\x80", 10);
	return 0;
}
