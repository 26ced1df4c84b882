/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - the client's side of a session and tier three of the public face: connect, prove,
 * say what is wanted, open the data connections, run, and put the report together.
 */
#include "base/clock.h"
#include "base/stats.h"
#include "kernel/sock.h"
#include "session/receiver.h"
#include "session/sender.h"
#include "session/session.h"
#include "store/root.h"

#include <errno.h>
#include <stdio.h>

#define CONNECT_MS_DEFAULT    10000u
#define STREAMS_UNPROVED_MOST 4u

struct rule {
	char *pattern;
	bool exclude;
};

struct zh_transfer {
	struct zh_transfer_options options;
	char *host;
	char *key_file;
	char *destination;
	char *strategy;
	char *receive_strategy;
	char *manifest_path;
	struct manifest *manifest;
	char **source;
	size_t source_count;
	struct rule *rule;
	size_t rule_count;
	struct walk_list *list; /* of names, which alone are sent; NULL: everything is */

	struct session session;
	bool has_session;
	_Atomic bool running; /* the session may be looked at from other threads */
	_Atomic bool cancelled;
	_Atomic int phase;
	struct auth_key key;
	struct sender *sender;
	struct receiver *receiver;
	int root;     /* of a pull */
	bool renames; /* the one source of a pull gets the name of the destination */
	bool missing; /* of what a pull has asked for, without a reason */
	uint64_t started_ns;
	struct zh_error error;
	struct zh_report report;
};

enum { PHASE_CONNECTING, PHASE_MOVING, PHASE_DONE };

static int copy_text(const char *text, char **ret_copy)
{
	*ret_copy = text ? strdup(text) : NULL;
	return text && !*ret_copy ? -ENOMEM : 0;
}

ZH_API int zh_transfer_new(
	const struct zh_transfer_options *options, struct zh_transfer **ret_transfer)
{
	struct zh_transfer *transfer;

	if (!options || options->size < sizeof(*options) || !options->host || !options->destination)
		return -EINVAL;
	transfer = calloc(1, sizeof(*transfer));
	if (!transfer)
		return -ENOMEM;
	transfer->options = *options;
	transfer->root = -1;
	err_init(&transfer->error);
	transfer->report.size = sizeof(transfer->report);
	if (copy_text(options->host, &transfer->host) < 0 ||
		copy_text(options->key_file, &transfer->key_file) < 0 ||
		copy_text(options->destination, &transfer->destination) < 0 ||
		copy_text(options->manifest, &transfer->manifest_path) < 0 ||
		copy_text(options->strategy, &transfer->strategy) < 0 ||
		copy_text(options->receive_strategy, &transfer->receive_strategy) < 0 ||
		(options->flags & ZH_NAMED &&
			walk_list_new(options->flags & ZH_RECURSIVE, &transfer->list) < 0)) {
		zh_transfer_free(transfer);
		return -ENOMEM;
	}
	*ret_transfer = transfer;
	return 0;
}

ZH_API int zh_transfer_add(struct zh_transfer *transfer, const char *source)
{
	char **grown = reallocarray(
		transfer->source, transfer->source_count + 1, sizeof(*transfer->source));

	if (!grown)
		return -ENOMEM;
	transfer->source = grown;
	if (copy_text(source, &transfer->source[transfer->source_count]) < 0)
		return -ENOMEM;
	transfer->source_count++;
	return 0;
}

ZH_API int zh_transfer_rule(struct zh_transfer *transfer, const char *pattern, int exclude)
{
	struct rule *grown;
	size_t length = strlen(pattern);

	if (length == 0 || length > WIRE_RULE_BYTES_MAX)
		return -EINVAL;
	grown = reallocarray(transfer->rule, transfer->rule_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	transfer->rule = grown;
	grown[transfer->rule_count].exclude = exclude != 0;
	if (copy_text(pattern, &grown[transfer->rule_count].pattern) < 0)
		return -ENOMEM;
	transfer->rule_count++;
	return 0;
}

ZH_API int zh_transfer_name(struct zh_transfer *transfer, const char *name)
{
	return transfer->list ? walk_list_add(transfer->list, name) : -EINVAL;
}

ZH_API void zh_transfer_free(struct zh_transfer *transfer)
{
	if (!transfer)
		return;
	receiver_free(transfer->receiver);
	sender_free(transfer->sender);
	if (transfer->has_session)
		session_fini(&transfer->session);
	sys_close(transfer->root);
	for (size_t i = 0; i < transfer->source_count; i++)
		free(transfer->source[i]);
	free(transfer->source);
	for (size_t i = 0; i < transfer->rule_count; i++)
		free(transfer->rule[i].pattern);
	free(transfer->rule);
	walk_list_free(transfer->list);
	free(transfer->host);
	free(transfer->key_file);
	free(transfer->destination);
	free(transfer->strategy);
	free(transfer->receive_strategy);
	free(transfer->manifest_path);
	manifest_abandon(transfer->manifest);
	auth_wipe(&transfer->key, sizeof(transfer->key));
	free(transfer);
}

/* ------------------------------ before the connection ---------------------------------- */

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static bool ends_in_slash(const char *path)
{
	size_t length = strlen(path);
	return length > 0 && path[length - 1] == '/';
}

/* The last component that is not empty, of the first bytes of a path. */
static const char *name_within(const char *path, size_t bytes, size_t *ret_length)
{
	const char *name = path;

	while (bytes > 0 && path[bytes - 1] == '/')
		bytes--;
	for (size_t i = 0; i < bytes; i++)
		if (path[i] == '/')
			name = path + i + 1;
	*ret_length = bytes - (size_t)(name - path);
	return name;
}

static const char *name_of_source(const char *source, size_t *ret_length)
{
	return name_within(source, strlen(source), ret_length);
}

/* A destination that is written as a directory. */
static bool names_directory(const char *path)
{
	size_t length;
	const char *name = name_of_source(path, &length);

	return ends_in_slash(path) || (length == 1 && *name == '.');
}

/*
 * The name of what a pull names, where a "." at the end, or nothing at all, stands for what is in
 * the directory before it.
 */
static const char *name_of_pulled(const char *source, size_t *ret_length, bool *ret_contents)
{
	const char *name = name_of_source(source, ret_length);

	*ret_contents = *ret_length == 0;
	while (*ret_length == 1 && *name == '.') {
		*ret_contents = true;
		name = name_within(source, (size_t)(name - source), ret_length);
	}
	return name;
}

static bool is_no_name(const char *name, size_t length)
{
	return length == 0 || strncmp(name, ".", length) == 0 || strncmp(name, "..", length) == 0;
}

/* A directory of which what is in it is meant: "", "." and "..", and what ends in them. */
static bool has_no_name(const char *source)
{
	size_t length;
	const char *name = name_of_source(source, &length);

	return is_no_name(name, length);
}

static int compare_names(const void *a, const void *b)
{
	size_t a_length, b_length;
	const char *a_name = name_of_source(*(char *const *)a, &a_length);
	const char *b_name = name_of_source(*(char *const *)b, &b_length);
	int order = memcmp(a_name, b_name, min_size(a_length, b_length));

	return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* Of two sources with one name the one that comes later would replace the other. */
static int check_names(const struct zh_transfer *transfer, struct zh_error *err)
{
	size_t count = transfer->source_count, length;
	char **sorted = calloc(count, sizeof(*sorted));
	const char *name;
	int r = 0;

	if (!sorted)
		return err_set(err, ZH_INTERNAL, ENOMEM, "options", "no memory");
	memcpy(sorted, transfer->source, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare_names);
	for (size_t i = 1; i < count && r == 0; i++)
		if (compare_names(&sorted[i - 1], &sorted[i]) == 0) {
			r = err_set(
				err, ZH_USAGE, 0, "options", "two sources would get the same name");
			name = name_of_source(sorted[i], &length);
			err_file(err, name, length, 0);
		}
	free(sorted);
	return r;
}

/* Wherever something may be removed has to be one directory of one source. */
static int check_delete(const struct zh_transfer *transfer, bool discard, struct zh_error *err)
{
	if (!(transfer->options.flags & ZH_DELETE))
		return 0;
	if (transfer->options.flags & ZH_NAMED)
		return err_set(err, ZH_USAGE, 0, "options",
			"names that are listed are not all that the source has: no --delete");
	if (!(transfer->options.flags & ZH_RECURSIVE))
		return err_set(err, ZH_USAGE, 0, "options", "--delete needs --recursive");
	if (discard)
		return err_set(err, ZH_USAGE, 0, "options",
			"'discard' stores nothing: there is nothing to --delete from");
	for (size_t i = 0; transfer->source_count > 1 && i < transfer->source_count; i++)
		if (has_no_name(transfer->source[i]))
			return err_set(err, ZH_USAGE, 0, "options",
				"with --delete what is in a directory can be copied only by itself");
	return 0;
}

static int check_wish(const char *name, enum zh_side side, struct zh_error *err)
{
	if (!name || strategy_find(side, name))
		return 0;
	return err_set(err, ZH_USAGE, 0, "options", "there is no %s strategy '%.40s'",
		side == ZH_SEND ? "send" : "receive", name);
}

static int check_options(struct zh_transfer *transfer, struct zh_error *err)
{
	const struct zh_transfer_options *options = &transfer->options;
	bool insecure = options->flags & ZH_INSECURE;
	bool discard =
		transfer->receive_strategy && strcmp(transfer->receive_strategy, "discard") == 0;
	int r = 0;

	if (transfer->source_count == 0)
		return err_set(err, ZH_USAGE, 0, "options", "nothing to copy");
	if (transfer->list && (options->direction != ZH_PUSH || transfer->source_count != 1))
		return err_set(
			err, ZH_USAGE, 0, "options", "names are for a push, and below one source");
	if (insecure == !!transfer->key_file)
		return err_set(err, ZH_USAGE, 0, "options",
			"either a key file or the wish to do without one is needed");
	if (options->streams > LIMIT_STREAMS)
		return err_set(err, ZH_LIMIT, 0, "options", "at most %u streams", LIMIT_STREAMS);
	if (options->chunk_bytes > INT32_MAX)
		return err_set(
			err, ZH_LIMIT, 0, "options", "a chunk is at most %d bytes", INT32_MAX);
	if (transfer->manifest_path &&
		(options->verify == ZH_VERIFY_NONE || options->existing == ZH_EXISTING_TRUST))
		return err_set(err, ZH_USAGE, 0, "options",
			"a manifest needs digests: neither --verify=none nor --existing=trust");
	if (transfer->manifest_path && options->flags & ZH_DRY_RUN)
		return err_set(err, ZH_USAGE, 0, "options",
			"a manifest lists what has arrived, and in a dry run nothing does");
	if (options->max_open > LIMIT_OPEN_FILES)
		return err_set(
			err, ZH_LIMIT, 0, "options", "at most %u open files", LIMIT_OPEN_FILES);
	if (options->existing > ZH_EXISTING_DIGEST)
		return err_set(err, ZH_USAGE, 0, "options",
			"no such wish for files that are there already");
	if (options->cache > ZH_CACHE_DROP)
		return err_set(err, ZH_USAGE, 0, "options", "no such wish for the page cache");
	if (discard &&
		(options->verify != ZH_VERIFY_NONE || options->durability != ZH_DURABLE_NONE))
		return err_set(err, ZH_USAGE, 0, "options",
			"'discard' stores nothing: it needs --verify=none --durability=none");
	r = check_delete(transfer, discard, err);
	if (r == 0)
		r = check_names(transfer, err);
	if (r == 0)
		r = check_wish(transfer->strategy, ZH_SEND, err);
	if (r == 0)
		r = check_wish(transfer->receive_strategy, ZH_RECEIVE, err);
	if (r < 0)
		return r;
	if (insecure)
		auth_key_none(&transfer->key);
	else
		r = auth_key_load(transfer->key_file, &transfer->key, err);
	return r;
}

/* Pull: the local directory, and the name in it unless the files keep theirs. */
static int open_local_root(struct zh_transfer *transfer, char *ret_name, struct zh_error *err)
{
	char *path = transfer->destination;
	struct stat st;
	bool exists = sys_fstatat(AT_FDCWD, path, &st, 0) == 0;
	bool directory = exists && S_ISDIR(st.st_mode);
	bool deletes = transfer->options.flags & ZH_DELETE;
	char *slash;

	ret_name[0] = '\0';
	if (!directory && (transfer->source_count > 1 || names_directory(path)))
		return err_set(err, ZH_DST_IO, ENOTDIR, "destination", "%s", "the destination");
	if (deletes && exists && !directory)
		return err_set(err, ZH_DST_IO, ENOTDIR, "destination",
			"with --delete it has to be a directory");
	if (directory) {
		transfer->root = root_open(path, err);
		return transfer->root < 0 ? transfer->root : 0;
	}
	if (strlen(last_component(path)) > LIMIT_NAME_BYTES)
		return err_set(err, ZH_UNSAFE_NAME, ENAMETOOLONG, "destination", "the name");
	text_set(ret_name, LIMIT_NAME_BYTES + 1, last_component(path));
	slash = strrchr(path, '/');
	if (!slash) {
		transfer->root = root_open(".", err);
	} else {
		char kept = slash[1];
		slash[1] = '\0';
		transfer->root = root_open(path, err);
		slash[1] = kept;
	}
	return transfer->root < 0 ? transfer->root : 0;
}

/* What is not sent here is not removed here; what is no rule is found before anything is sent. */
static int add_rules(struct zh_transfer *transfer, struct zh_error *err)
{
	int r = 0;

	for (size_t i = 0; i < transfer->rule_count && r == 0; i++)
		r = transfer->sender ? sender_rule(transfer->sender, transfer->rule[i].pattern,
					       transfer->rule[i].exclude)
				     : receiver_rule(transfer->receiver, transfer->rule[i].pattern,
					       transfer->rule[i].exclude);
	if (r == -EINVAL)
		return err_set(err, ZH_USAGE, r, "options", "not a pattern");
	return r < 0 ? err_set(err, ZH_INTERNAL, r, "start", "no memory") : 0;
}

static int make_role(struct zh_transfer *transfer, struct zh_error *err)
{
	char name[LIMIT_NAME_BYTES + 1];
	int r;

	if (transfer->manifest_path) {
		r = manifest_open(transfer->manifest_path, &transfer->manifest, err);
		if (r < 0)
			return r;
	}
	transfer->session.manifest = transfer->manifest;
	transfer->session.list =
		transfer->options.flags & ZH_DRY_RUN ? transfer->options.list : NULL;
	transfer->session.list_context = transfer->options.list_context;
	transfer->session.no_clobber = transfer->options.flags & ZH_NO_CLOBBER;
	if (transfer->options.direction == ZH_PUSH) {
		r = sender_new(&transfer->session, &transfer->sender);
		if (r == 0 && add_rules(transfer, err) < 0)
			return -EINVAL;
		if (r == 0 && transfer->list) {
			walk_list_sort(transfer->list);
			sender_list(transfer->sender, transfer->list);
		}
	} else {
		r = open_local_root(transfer, name, err);
		if (r < 0)
			return r;
		transfer->renames = name[0] != '\0';
		r = receiver_new(&transfer->session, transfer->root, &transfer->receiver);
		if (r == 0)
			r = receiver_place(
				transfer->receiver, transfer->root, name[0] ? name : NULL);
		if (r == 0 && transfer->options.flags & ZH_DELETE && add_rules(transfer, err) < 0)
			return -EINVAL;
	}
	return r < 0 ? err_set(err, ZH_INTERNAL, r, "start", "cannot set up the transfer") : 0;
}

/* ------------------------------ the session -------------------------------------------- */

static int connect_control(struct zh_transfer *transfer, struct zh_error *err)
{
	const struct zh_transfer_options *options = &transfer->options;
	struct session *session = &transfer->session;
	int timeout = (int)(options->connect_ms ? options->connect_ms : CONNECT_MS_DEFAULT);
	int fd;
	int r = sock_connect(transfer->host, options->port, NULL, -1, timeout, &fd, err);

	if (r < 0)
		return r;
	if (options->flags & ZH_INSECURE && !sock_peer_is_loopback(fd)) {
		sys_close(fd);
		return err_set(err, ZH_POLICY, 0, "connect",
			"without a key only servers on loopback are used");
	}
	r = session_init(session, END_CLIENT, fd);
	transfer->has_session = true;
	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "connect", "no descriptor");
	session->handshake.kind = HELLO_CONTROL;
	session->handshake.auth = options->flags & ZH_INSECURE ? HELLO_AUTH_NONE : HELLO_AUTH_PSK;
	session->handshake.intent = options->direction == ZH_PUSH ? HELLO_PUSH : HELLO_PULL;
	session->handshake.key = &transfer->key;
	TEXT_SET(err->peer, session->peer);
	return handshake_connect(&session->control, &session->handshake, err);
}

/* Directories are announced. */
static bool is_recursive(const struct zh_transfer *transfer)
{
	return transfer->options.flags & (ZH_RECURSIVE | ZH_NAMED);
}

/* What the session shall be: known to this side from now on, and to the server with SETUP. */
static void settle_setup(struct zh_transfer *transfer)
{
	const struct zh_transfer_options *options = &transfer->options;
	struct session *session = &transfer->session;
	const char *mine =
		options->direction == ZH_PUSH ? transfer->strategy : transfer->receive_strategy;
	const char *theirs =
		options->direction == ZH_PUSH ? transfer->receive_strategy : transfer->strategy;
	struct wire_setup setup = {
		.direction = (uint8_t)options->direction,
		.verify = (uint8_t)options->verify,
		.durability = (uint8_t)options->durability,
		.cache = options->cache,
		.nagle = (uint8_t)options->sock.nagle,
		.no_fallback = (options->flags & ZH_NO_FALLBACK) != 0,
		.streams = options->streams ? options->streams : 1,
		.chunk_bytes = options->chunk_bytes,
		.sndbuf_bytes = options->sock.sndbuf_bytes,
		.rcvbuf_bytes = options->sock.rcvbuf_bytes,
		.notsent_lowat_bytes = options->sock.notsent_lowat_bytes,
		.pacing_bytes_per_s = options->sock.pacing_bytes_per_s,
		.existing = (uint8_t)options->existing,
		.dry_run = (options->flags & ZH_DRY_RUN) != 0,
		.max_open = (uint8_t)options->max_open,
		.tree = (uint8_t)((is_recursive(transfer) ? TREE_RECURSIVE : 0) |
				  (options->flags & ZH_LINKS ? TREE_LINKS : 0) |
				  (options->flags & ZH_OWNER ? TREE_OWNER : 0) |
				  (options->flags & (ZH_XATTRS | ZH_PRIVILEGED_XATTRS) ? TREE_XATTRS
										       : 0) |
				  (options->flags & ZH_PRIVILEGED_XATTRS ? TREE_PRIVILEGED : 0) |
				  (options->flags & ZH_DELETE ? TREE_DELETE : 0)),
	};

	TEXT_SET(setup.congestion, options->sock.congestion);
	TEXT_SET(setup.strategy, theirs ? theirs : "");
	session->setup = setup;
	session->sock = options->sock;
	TEXT_SET(session->strategy, mine ? mine : "");
	session->calibrate = options->flags & ZH_CALIBRATE;
	session->never_corks = options->flags & ZH_NO_CORK;
}

static int send_setup(struct session *session)
{
	uint8_t bytes[WIRE_SETUP_BYTES];
	int length = wire_build_setup(&session->setup, bytes, sizeof(bytes));

	CHECK(length > 0);
	struct frame frame = { .type = FRAME_SETUP, .length = (uint32_t)length };
	session->state = SESSION_PLACING;
	return session_send(session, &frame, bytes);
}

/*
 * The name that a source shall have at a destination of this kind; "" for what has none of its own,
 * as "." and "/", and for the source of a list: then what is in it goes into the place, as with
 * cp(1).
 */
static int add_source(struct zh_transfer *transfer, const char *path, enum wire_place kind)
{
	struct session *session = &transfer->session;
	char name[LIMIT_NAME_BYTES + 1] = "";
	size_t length;
	const char *own = name_of_source(path, &length);
	struct zh_error error;

	if (kind != PLACE_DIRECTORY)
		own = name_of_source(transfer->destination, &length);
	else if (transfer->list)
		length = 0;
	else if (!is_recursive(transfer))
		length = ends_in_slash(path) ? 0 : length;
	bool none = is_no_name(own, length);
	if (!none && length < sizeof(name))
		memcpy(name, own, length);
	if (none ? !is_recursive(transfer) : wire_name_check(own, length) < 0) {
		err_init(&error);
		(void)err_set(&error, ZH_USAGE, 0, "name source",
			"the source is a directory, or has no name that could be given to it");
		atomic_fetch_add(&session->files_known, 1);
		session_file_failed(session, path, strlen(path), &error);
		return 0;
	}
	return sender_add(transfer->sender, AT_FDCWD, path, 0, name) < 0
		       ? session_failf(session, ZH_INTERNAL, ENOMEM, "add source", "no memory")
		       : 0;
}

static int send_want(struct session *session, uint64_t id, const char *path, uint8_t flags)
{
	static uint8_t bytes[FRAME_PAYLOAD_CAP];
	int length = wire_build_path(path, bytes, sizeof(bytes));

	if (length < 0)
		return session_failf(session, ZH_UNSAFE_NAME, -length, "path",
			"a path that cannot be said: '..', too long or too deep");
	struct frame frame = {
		.type = FRAME_WANT, .flags = flags, .length = (uint32_t)length, .id = id
	};
	return session_send(session, &frame, bytes);
}

/* Waits for the answer to WANT. *ret_error is set when the answer is no. */
static int receive_place(struct session *session, uint64_t id, struct wire_place_info *ret_place,
	struct zh_error *ret_error)
{
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)LIMIT_IDLE_MS * NS_PER_MS;
	struct wire_err wire;
	struct frame frame;
	bool liveness;
	int r;

	do {
		uint64_t now = clock_now_ns();
		r = link_recv(&session->control, &frame,
			now < deadline_ns ? (int)((deadline_ns - now) / NS_PER_MS) : 0);
		if (r < 0)
			return session_fail_link(
				session, r == -EAGAIN ? -ETIMEDOUT : r, "control connection");
		liveness = frame.type == FRAME_PING || frame.type == FRAME_PONG;
		if (frame.type == FRAME_PING)
			r = session_send(session,
				&(struct frame){ .type = FRAME_PONG, .id = frame.id }, NULL);
		if (frame.type == FRAME_CREDIT && session->role == ROLE_SENDER) {
			liveness = true;
			r = session->ops->frame(session, &frame);
		}
		if (r == 0 && clock_now_ns() >= deadline_ns) /* liveness is no answer */
			r = session_fail_link(session, -ETIMEDOUT, "control connection");
		if (r < 0)
			return r;
	} while (liveness);
	if (frame.type == FRAME_PLACE && frame.id == id &&
		wire_parse_place(session->control.payload, frame.length, ret_place) == 0)
		return 0;
	if (frame.type != FRAME_ERR ||
		wire_parse_err(session->control.payload, frame.length, &wire) < 0)
		return session_failf(session, ZH_PROTO, 0, "WANT", "an answer that makes no sense");
	session_error_from_wire(&wire, ret_error);
	return frame.id == 0 ? session_fail(session, ret_error) : 0;
}

static int send_rule(struct session *session, const struct rule *rule)
{
	uint8_t bytes[WIRE_RULE_BYTES_MAX];
	int length = wire_build_rule(rule->pattern, bytes, sizeof(bytes));

	CHECK(length > 0);
	struct frame frame = {
		.type = FRAME_RULE,
		.flags = rule->exclude ? RULE_EXCLUDE : 0,
		.length = (uint32_t)length,
	};
	return session_send(session, &frame, bytes);
}

static int send_rules(struct zh_transfer *transfer)
{
	int r = 0;

	for (size_t i = 0; i < transfer->rule_count && r == 0; i++)
		r = send_rule(&transfer->session, &transfer->rule[i]);
	return r;
}

static int place_push(struct zh_transfer *transfer)
{
	struct session *session = &transfer->session;
	bool directory = transfer->source_count > 1 || names_directory(transfer->destination);
	bool deletes = transfer->options.flags & ZH_DELETE;
	bool contents = transfer->source_count == 1 && has_no_name(transfer->source[0]);
	unsigned flags = WANT_LAST;
	struct wire_place_info place;
	struct zh_error error;
	int r = deletes ? send_rules(transfer) : 0;

	if (directory)
		flags |= WANT_DIRECTORY;
	if (deletes && contents)
		flags |= WANT_CONTENTS;
	if (r == 0)
		r = send_want(session, 1, transfer->destination, (uint8_t)flags);
	err_init(&error);
	if (r == 0)
		r = receive_place(session, 1, &place, &error);
	if (r < 0)
		return r;
	if (err_is_set(&error))
		return session_fail(session, &error);
	for (size_t i = 0; i < transfer->source_count && r == 0; i++)
		r = add_source(transfer, transfer->source[i], (enum wire_place)place.kind);
	return r;
}

/*
 * Asks for one source. When the server has it, it alone may come, under its own name; of what is in
 * it, anything.
 */
static int pull_source(struct zh_transfer *transfer, uint64_t id, const char *source)
{
	struct session *session = &transfer->session;
	struct wire_place_info place;
	struct zh_error error;
	bool contents;
	size_t length;
	const char *name = name_of_pulled(source, &length, &contents);
	unsigned flags = contents ? WANT_DIRECTORY : 0;
	int r;

	err_init(&error);
	contents = contents && !transfer->renames; /* else the destination is what has them in it */
	flags |= contents ? WANT_CONTENTS : 0;
	flags |= id == transfer->source_count ? WANT_LAST : 0;
	r = send_want(session, id, source, (uint8_t)flags);
	if (r == 0)
		r = receive_place(session, id, &place, &error);
	if (r < 0)
		return r;
	if (err_is_set(&error)) {
		atomic_fetch_add(&session->files_known, 1);
		session_file_failed(session, source, strlen(source), &error);
		return 0;
	}
	if (receiver_ask(transfer->receiver, name, contents ? 0 : length) < 0)
		return session_failf(session, ZH_INTERNAL, ENOMEM, "add source", "no memory");
	return contents && transfer->options.flags & ZH_DELETE
		       ? receiver_mirror_place(transfer->receiver)
		       : 0;
}

static int place_pull(struct zh_transfer *transfer)
{
	int r = receiver_ask(transfer->receiver, NULL, 0); /* nothing more cannot fail */

	if (r == 0)
		r = send_rules(transfer);
	for (size_t i = 0; i < transfer->source_count && r == 0; i++)
		r = pull_source(transfer, i + 1, transfer->source[i]);
	return r;
}

/* A server bears only a few connections of one address that have not proved themselves. */
static int wait_for_proofs(struct session *session, uint32_t opened)
{
	int r = -ETIMEDOUT;

	while (r == -ETIMEDOUT &&
		opened - atomic_load(&session->streams_greeted) >= STREAMS_UNPROVED_MOST)
		r = sock_wait(session->abort_fd, 0, session->abort_fd, 1);
	return r == -ETIMEDOUT ? 0 : r;
}

/* session.reach: one more, after one was lost. */
static int reach(void *context, int *ret_fd, struct zh_error *err)
{
	const struct zh_transfer *transfer = context;

	return sock_connect(transfer->host, transfer->options.port, &transfer->session.sock,
		transfer->session.finish_fd, (int)CONNECT_MS_DEFAULT, ret_fd, err);
}

static int open_streams(struct zh_transfer *transfer)
{
	struct session *session = &transfer->session;
	struct zh_error error;

	err_init(&error);
	session->reach = reach;
	session->reach_context = transfer;
	for (uint32_t i = 0; i < session->setup.streams; i++) {
		int fd;
		int r = sock_connect(transfer->host, transfer->options.port, &session->sock,
			session->abort_fd, (int)CONNECT_MS_DEFAULT, &fd, &error);
		if (r < 0)
			return session_fail(session, &error);
		r = session_add_stream(session, fd, i, NULL);
		if (r == 0)
			r = wait_for_proofs(session, i + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int run_session(struct zh_transfer *transfer)
{
	struct session *session = &transfer->session;
	int r = send_setup(session);

	if (r == 0)
		r = transfer->options.direction == ZH_PUSH ? place_push(transfer)
							   : place_pull(transfer);
	if (r == 0) {
		session->state = SESSION_OPEN;
		atomic_store(&transfer->phase, PHASE_MOVING);
		r = open_streams(transfer);
	}
	if (r == 0)
		return session_run(session, -1, NULL);
	session_join_streams(session);
	return r;
}

/* ------------------------------ the result --------------------------------------------- */

static uint64_t moving_ns(const struct session *session)
{
	uint64_t since_ns = atomic_load(&session->data_ns);

	return since_ns && session->done_ns > since_ns ? session->done_ns - since_ns : 0;
}

static void make_report(struct zh_transfer *transfer)
{
	struct session *session = &transfer->session;
	struct zh_report *report = &transfer->report;
	bool push = transfer->options.direction == ZH_PUSH;

	report->elapsed_ns = clock_now_ns() - transfer->started_ns;
	report->durability = transfer->options.durability;
	report->verified = transfer->options.verify == ZH_VERIFY_FULL &&
			   !(transfer->options.flags & ZH_DRY_RUN);
	if (!transfer->has_session)
		return;
	report->files_done = atomic_load(&session->files_done);
	report->files_failed = atomic_load(&session->files_failed);
	report->streams = session->stream_count;
	report->streams_lost = session->streams_lost;
	report->resent_leaves = atomic_load(&session->resent_leaves);
	report->files_skipped = atomic_load(&session->files_skipped);
	report->directories = atomic_load(&session->dirs_known);
	report->bytes = session->done_bytes;
	report->bytes_skipped = session->skipped_bytes;
	report->moving_ns = moving_ns(session);
	report->sender = push ? session->mine : session->theirs;
	report->receiver = push ? session->theirs : session->mine;
	*(push ? &report->send_plan : &report->receive_plan) = session->plan;
	stats_name_limit(report);
}

/* One file that fails gives its own outcome; one of many makes the whole partial. */
static int outcome_of_files(const struct zh_transfer *transfer)
{
	const struct session *session = &transfer->session;
	const struct zh_report *report = &transfer->report;

	if (report->files_failed == 0)
		return !transfer->missing && report->files_done + report->files_skipped ==
						     atomic_load(&session->files_known)
			       ? ZH_OK
			       : ZH_PARTIAL;
	if (report->files_done + report->files_skipped > 0 || session->failure_count == 0)
		return ZH_PARTIAL;
	for (size_t i = 1; i < session->failure_count; i++)
		if (session->failure[i].error.outcome != session->failure[0].error.outcome)
			return ZH_PARTIAL;
	return session->failure[0].error.outcome;
}

/* Ends the session's threads, clears staging, and says how it went. */
static int finish(struct zh_transfer *transfer)
{
	struct session *session = &transfer->session;
	struct zh_error *error = &transfer->error;

	make_report(transfer);
	atomic_store(&transfer->phase, PHASE_DONE);
	transfer->missing = transfer->receiver && !receiver_has_all(transfer->receiver);
	receiver_free(transfer->receiver);
	transfer->receiver = NULL;
	if (!err_is_set(error) && transfer->has_session)
		*error = session->error;
	if (err_is_set(error))
		return error->outcome;
	if (transfer->manifest) {
		struct manifest *manifest = transfer->manifest;
		transfer->manifest = NULL;
		if (manifest_close(manifest, error) < 0)
			return error->outcome;
	}
	if (session->failure_count > 0)
		*error = session->failure[0].error;
	return outcome_of_files(transfer);
}

ZH_API int zh_transfer_run(struct zh_transfer *transfer)
{
	struct zh_error *error = &transfer->error;
	int r;

	transfer->started_ns = clock_now_ns();
	r = check_options(transfer, error);
	if (r == 0)
		r = connect_control(transfer, error);
	if (r == 0) {
		session_begin_report(&transfer->session);
		settle_setup(transfer);
		r = make_role(transfer, error);
	}
	if (r == 0) {
		atomic_store(&transfer->running, true);
		if (atomic_load(&transfer->cancelled))
			session_cancel(&transfer->session);
		IGNORE(run_session(transfer)); /* its error is in the session */
	}
	return finish(transfer);
}

ZH_API void zh_transfer_cancel(struct zh_transfer *transfer)
{
	atomic_store(&transfer->cancelled, true);
	if (atomic_load(&transfer->running))
		session_cancel(&transfer->session);
}

ZH_API void zh_transfer_progress(
	const struct zh_transfer *transfer, struct zh_progress *ret_progress)
{
	static const char *const phase_text[] = { "connecting", "moving", "done" };
	const struct session *session = &transfer->session;
	struct zh_progress progress = { .size = sizeof(progress) };

	TEXT_SET(progress.phase, phase_text[atomic_load(&transfer->phase)]);
	if (atomic_load(&transfer->running)) {
		progress.files_done = atomic_load(&session->files_done);
		progress.files_failed = atomic_load(&session->files_failed);
		progress.files_known = atomic_load(&session->files_known);
		progress.bytes_moved = atomic_load(&session->bytes_moved);
		progress.bytes_known = atomic_load(&session->bytes_known);
		progress.elapsed_ns = clock_now_ns() - transfer->started_ns;
		if (progress.bytes_known && progress.bytes_moved >= progress.bytes_known &&
			atomic_load(&transfer->phase) == PHASE_MOVING)
			TEXT_SET(progress.phase, "committing");
	}
	*ret_progress = progress;
}

ZH_API const struct zh_error *zh_transfer_error(const struct zh_transfer *transfer)
{
	return &transfer->error;
}

ZH_API const struct zh_failure *zh_transfer_failure_at(
	const struct zh_transfer *transfer, size_t index)
{
	return transfer->has_session && index < transfer->session.failure_count
		       ? &transfer->session.failure[index]
		       : NULL;
}

ZH_API const struct zh_report *zh_transfer_report(const struct zh_transfer *transfer)
{
	return &transfer->report;
}

ZH_API const char *zh_version(void)
{
	return ENGINE_VERSION;
}
