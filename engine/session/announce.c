/* SPDX-License-Identifier: Apache-2.0 */
/*
 * announce.c - the thread of a sender that finds what is to be sent and announces it: one source
 * after the other, trees as they are walked, large files each by itself and small ones in packs. It
 * waits while as much is open as may be; so the walk of a tree is never far ahead of what moves.
 */
#include "session/departure.h"

#include "base/clock.h"

#include <errno.h>

#define OPEN_PACKS_MOST   256                      /* each holds its table */
#define OPEN_MEMBERS_MOST (LIMIT_OPEN_MEMBERS / 2) /* the receiver forgets after it has told */
#define OPEN_FOLDERS_MOST (LIMIT_OPEN_DIRS / 2)
#define ATTRIBUTES_MOST   (32 * MIB)  /* of open folders: the deepest path has half of that */
#define PACKED_MOST       (256 * KIB) /* larger files go by themselves */
#define PACK_WAITS_MS     200         /* for more, when a slow disk has the walk wait */

struct origin {
	int dir; /* borrowed */
	int beneath;
	bool contents; /* of a directory: what is in it goes into the place */
	char *path;
	char name[LIMIT_NAME_BYTES + 1];
};

/* A pack that is being filled. */
struct packing {
	uint8_t table[FRAME_PAYLOAD_CAP];
	size_t length;
	size_t count;
	uint64_t bytes;
	uint64_t since_ns;
	struct folder *folder[LIMIT_MEMBERS];
};

struct announcing {
	struct sender *sender;
	struct tree *tree;      /* being walked */
	struct folder *current; /* of the walk */
	struct packing packing;
};

int sender_add(struct sender *sender, int dir, const char *path, int beneath, const char *name)
{
	struct origin *origin;

	if (sender->origins == sender->origins_cap) {
		size_t cap = sender->origins_cap + 64;
		struct origin *grown = reallocarray(sender->origin, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		sender->origin = grown;
		sender->origins_cap = cap;
	}
	origin = &sender->origin[sender->origins];
	*origin = (struct origin){ .dir = dir, .beneath = beneath, .contents = name[0] == '\0' };
	origin->path = strdup(path);
	if (!origin->path)
		return -ENOMEM;
	TEXT_SET(origin->name, name);
	sender->origins++;
	return 0;
}

void announce_free(struct sender *sender)
{
	for (size_t i = 0; i < sender->origins; i++)
		free(sender->origin[i].path);
	free(sender->origin);
	free(sender->kept);
}

static int no_memory(struct sender *sender)
{
	return session_failf(sender->session, ZH_INTERNAL, ENOMEM, "announce", "no memory");
}

/* ------------------------------ names that are kept ------------------------------------ */

/* Names in kept_in, which is known to both sides: it has not been left. */
static int flush_kept(struct sender *sender)
{
	struct frame frame = { .type = FRAME_KEEP, .length = (uint32_t)sender->kept_length };

	if (sender->kept_length == 0)
		return 0;
	frame.id = sender->kept_in->id;
	sender->kept_length = 0;
	return session_send(sender->session, &frame, sender->kept);
}

/*
 * With DELETE: a name is in a directory of the source, and nothing comes of it. It is gathered
 * until the directory is left. NULL is the place, which is not left then.
 */
static int keep_name(struct sender *sender, struct folder *folder, const char *name)
{
	int r;

	if (!(sender->session->setup.tree & TREE_DELETE) || !folder)
		return 0;
	if (!sender->kept)
		sender->kept = malloc(FRAME_PAYLOAD_CAP);
	if (!sender->kept)
		return no_memory(sender);
	if (folder != sender->kept_in ||
		sender->kept_length + 1 + LIMIT_NAME_BYTES > FRAME_PAYLOAD_CAP) {
		r = flush_kept(sender);
		if (r < 0)
			return r;
	}
	sender->kept_in = folder;
	r = wire_build_kept(
		name, sender->kept + sender->kept_length, FRAME_PAYLOAD_CAP - sender->kept_length);
	if (r < 0)
		folder->untold = true;
	else
		sender->kept_length += (size_t)r;
	return 0;
}

/*
 * The walk leaves a directory. Whole: it has been read to its end. What is in the place is only all
 * that is to be there when nothing else is sent.
 */
static int end_names(struct sender *sender, struct folder *folder, bool whole)
{
	int r = flush_kept(sender);
	bool deletes = sender->session->setup.tree & TREE_DELETE;

	folder->whole = r == 0 && deletes && whole && !folder->untold &&
			(folder->id != 0 || sender->origins == 1);
	return r;
}

/* ------------------------------ room --------------------------------------------------- */

static bool has_room(const struct sender *sender, bool pack)
{
	const struct departure *old = sender->window[sender->next_id % DEPARTURES];

	if (sender->next_id >= sender->credit)
		return false;
	if (old && (!departure_is_settled(old) || old->frames > 0 || old->ending))
		return false;
	return pack ? sender->open_packs < OPEN_PACKS_MOST &&
			       sender->open_members < OPEN_MEMBERS_MOST
		    : sender->open_files < session_open_most(sender->session);
}

/* Waits for room and takes the next id. NULL: the session is over, or was failed. */
static struct departure *begin(struct sender *sender, struct pack *pack)
{
	struct session *session = sender->session;
	struct departure *departure = calloc(1, sizeof(*departure)), *old;
	bool over;

	if (!departure) {
		(void)no_memory(sender);
		return NULL;
	}
	departure->source.fd = -1;
	departure->pack = pack;
	(void)pthread_mutex_lock(&session->lock);
	while (!session->aborted && !session->finishing && !has_room(sender, pack != NULL))
		(void)pthread_cond_wait(&sender->room, &session->lock);
	over = session->aborted || session->finishing;
	if (!over) {
		departure->id = sender->next_id++;
		departure->announced = pack != NULL; /* a file is opened first */
		old = sender->window[departure->id % DEPARTURES];
		sender->window[departure->id % DEPARTURES] = departure;
		(*(pack ? &sender->open_packs : &sender->open_files))++;
		sender->open_members += pack ? (uint32_t)pack->count : 0;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (over) {
		free(departure);
		return NULL;
	}
	departure_free(old);
	return departure;
}

/* ------------------------------ one file ----------------------------------------------- */

static int send_map(struct sender *sender, const struct departure *departure)
{
	const struct holes *holes = &departure->holes;
	uint8_t *bytes = malloc(FRAME_PAYLOAD_CAP);
	struct frame frame = { .type = FRAME_MAP, .id = departure->id };
	int length, r;

	if (!bytes)
		return no_memory(sender);
	length = wire_build_ranges(holes->extent, holes->count, bytes, FRAME_PAYLOAD_CAP);
	CHECK(length >= 0);
	frame.length = (uint32_t)length;
	r = session_send(sender->session, &frame, bytes);
	free(bytes);
	return r;
}

static int send_file(struct sender *sender, const struct departure *departure,
	const struct attributes *attributes)
{
	struct session *session = sender->session;
	uint8_t bytes[WIRE_FILE_BYTES_MAX];
	struct wire_file file = {
		.parent = departure->folder ? departure->folder->id : 0,
		.size = departure->source.size,
		.mtime_s = departure->source.mtime_s,
		.mtime_ns = departure->source.mtime_ns,
		.mode = departure->source.mode,
		.name_length = (uint8_t)strlen(departure->name),
	};
	int length;

	TEXT_SET(file.name, departure->name);
	length = wire_build_file(&file, bytes, sizeof(bytes));
	CHECK(length > 0);
	struct frame frame = {
		.type = FRAME_FILE,
		.flags = (uint8_t)((session->no_clobber ? FILE_NO_CLOBBER : 0) |
				   (departure->holes.sparse ? FILE_SPARSE : 0)),
		.length = (uint32_t)length,
		.id = departure->id,
	};
	int r;

	atomic_fetch_add(
		&session->bytes_known, holes_data_bytes(&departure->holes, departure->source.size));
	r = session_send(session, &frame, bytes);
	if (r == 0 && departure->holes.sparse)
		r = send_map(sender, departure);
	return r < 0 ? r : send_attributes(sender, departure->id, 0, attributes);
}

/* Finds holes, if there may be any that are worth it. What cannot be told is data. */
static int map_file(struct sender *sender, struct departure *departure, struct zh_error *err)
{
	struct holes *holes = &departure->holes;
	int r;

	if (!departure->source.sparse)
		return 0;
	holes->extent = calloc(WIRE_RANGES_MAX, sizeof(*holes->extent));
	if (!holes->extent)
		return err_set(err, ZH_INTERNAL, ENOMEM, "announce", "no memory");
	r = source_map(&departure->source, holes->extent, WIRE_RANGES_MAX, &holes->count);
	if (r < 0 && r != -EOPNOTSUPP)
		return err_set(err, ZH_SRC_IO, r, "open source", "its holes cannot be found");
	holes->sparse = r == 0;
	if (r == 0 && sender->session->setup.verify == ZH_VERIFY_FULL)
		holes_add(holes, departure->source.size, &departure->sum);
	return 0;
}

static int plan_file(struct sender *sender, struct departure *departure, struct zh_error *err)
{
	int r;

	if (departure->source.size > LIMIT_FILE_BYTES)
		return err_set(err, ZH_LIMIT, EFBIG, "open source", "the file is too large");
	departure->plan = calloc(1, sizeof(*departure->plan));
	if (!departure->plan)
		return err_set(err, ZH_INTERNAL, ENOMEM, "plan", "no memory");
	r = session_plan(
		sender->session, departure->source.fd, departure->source.size, departure->plan);
	if (r < 0)
		(void)err_set(err, r == -EINVAL ? ZH_CONFIG : ZH_SRC_IO, r, "plan",
			"the strategy cannot be used: %s", departure->plan->reason);
	return r;
}

/*
 * Opens, plans and announces one file. One that cannot be opened fails and is not announced, but
 * uses up its id. Until all of it is announced END does not come. folder has been held for it.
 */
static int announce_file(struct sender *sender, struct folder *folder, const char *name, int dir,
	const char *path, int beneath)
{
	struct session *session = sender->session;
	struct departure *departure = begin(sender, NULL);
	struct attributes attributes = { .bytes = NULL };
	struct zh_error error;
	int r;

	if (!departure) {
		IGNORE(folder_release(sender, folder)); /* it is over anyway */
		return -ECANCELED;
	}
	err_init(&error);
	departure->name = strdup(name);
	r = departure->name ? 0 : err_set(&error, ZH_INTERNAL, ENOMEM, "announce", "no memory");
	if (r == 0)
		r = source_open(dir, path, beneath, &departure->source, &error);
	if (r == 0)
		r = plan_file(sender, departure, &error);
	if (r == 0)
		r = map_file(sender, departure, &error);
	if (r == 0)
		r = attributes_read(&session->setup, departure->source.fd, departure->source.uid,
			departure->source.gid, &attributes, &error);
	(void)pthread_mutex_lock(&session->lock);
	departure->folder = folder;
	departure->size = departure->source.size;
	departure->announced = r == 0;
	departure->unnamed = r < 0;
	departure->frames += r == 0;
	(void)pthread_mutex_unlock(&session->lock);
	if (r < 0) {
		r = keep_name(sender, folder, name);
		int failed = departure_fail(sender, departure, &error, true);
		return r < 0 ? r : failed;
	}
	r = send_file(sender, departure, &attributes);
	free(attributes.bytes);
	int left = departure_put(sender, departure);
	return r < 0 ? r : left;
}

/* What cannot even be looked at uses up an id, too: the receiver hears of it. folder is not held.
 */
static int announce_failure(struct sender *sender, struct folder *folder, const char *name,
	const struct zh_error *error)
{
	struct session *session = sender->session;
	struct departure *departure;
	int r = keep_name(sender, folder, name);

	if (r < 0)
		return r;
	atomic_fetch_add(&session->files_known, 1);
	departure = begin(sender, NULL);
	if (!departure)
		return -ECANCELED;
	departure->name = strdup(name);
	(void)pthread_mutex_lock(&session->lock);
	departure->folder = folder;
	departure->unnamed = departure->name != NULL;
	if (folder)
		folder->users++;
	(void)pthread_mutex_unlock(&session->lock);
	return departure_fail(sender, departure, error, true);
}

/* ------------------------------ packs -------------------------------------------------- */

static struct pack *pack_of(const struct packing *packing, bool listed)
{
	struct pack *pack = calloc(1, sizeof(*pack));

	if (!pack)
		return NULL;
	pack->count = packing->count;
	pack->table_length = packing->length;
	pack->table = malloc(packing->length);
	pack->folder = calloc(packing->count, sizeof(struct folder *));
	pack->state = calloc(packing->count, 1);
	pack->digest = listed ? calloc(packing->count, sizeof(*pack->digest)) : NULL;
	if (pack->table && pack->folder && pack->state && (pack->digest || !listed)) {
		memcpy(pack->table, packing->table, packing->length);
		memcpy(pack->folder, packing->folder, packing->count * sizeof(struct folder *));
		return pack;
	}
	free(pack->table);
	free(pack->folder);
	free(pack->state);
	free(pack->digest);
	free(pack);
	return NULL;
}

/* Announces what has been gathered, if anything. */
static int flush_pack(struct announcing *announcing)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	struct packing *packing = &announcing->packing;
	struct departure *departure;
	struct pack *pack;

	if (packing->count == 0)
		return 0;
	pack = pack_of(packing, session->manifest != NULL);
	if (!pack)
		return no_memory(sender);
	departure = begin(sender, pack);
	if (!departure) {
		free(pack->table);
		free(pack->folder);
		free(pack->state);
		free(pack->digest);
		free(pack);
		return -ECANCELED;
	}
	struct frame frame = {
		.type = FRAME_PACK,
		.flags = session->no_clobber ? PACK_NO_CLOBBER : 0,
		.length = (uint32_t)packing->length,
		.id = departure->id,
	};
	atomic_fetch_add(&session->files_known, (uint32_t)packing->count);
	atomic_fetch_add(&session->bytes_known, packing->bytes);
	packing->count = packing->length = 0;
	packing->bytes = 0;
	return session_send(session, &frame, packing->table);
}

static bool pack_is_full(const struct packing *packing, uint64_t more)
{
	if (packing->count == 0)
		return false;
	return packing->count == LIMIT_MEMBERS || packing->bytes + more > LIMIT_PACK_BYTES ||
	       packing->length + WIRE_MEMBER_BYTES_MAX > sizeof(packing->table) ||
	       clock_now_ns() - packing->since_ns > (uint64_t)PACK_WAITS_MS * NS_PER_MS;
}

static int pack_entry(
	struct announcing *announcing, const struct walk_entry *entry, enum wire_member_kind kind)
{
	struct packing *packing = &announcing->packing;
	struct session *session = announcing->sender->session;
	struct wire_member member = {
		.parent = (uint32_t)announcing->current->id,
		.size = (uint32_t)entry->size,
		.mtime_s = entry->mtime_s,
		.mtime_ns = entry->mtime_ns,
		.uid = entry->uid,
		.gid = entry->gid,
		.mode = (uint16_t)entry->mode,
		.kind = (uint8_t)kind,
		.name_length = (uint8_t)strlen(entry->name),
	};
	int r = 0;

	if (pack_is_full(packing, entry->size))
		r = flush_pack(announcing);
	if (r < 0)
		return r;
	if (packing->count == 0)
		packing->since_ns = clock_now_ns();
	TEXT_SET(member.name, entry->name);
	r = wire_build_member(&member, packing->table + packing->length,
		sizeof(packing->table) - packing->length);
	CHECK(r > 0);
	packing->length += (size_t)r;
	packing->bytes += entry->size;
	packing->folder[packing->count++] = announcing->current;
	(void)pthread_mutex_lock(&session->lock);
	announcing->current->users++;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

/* ------------------------------ a tree ------------------------------------------------- */

static int send_dir(struct sender *sender, const struct folder *folder)
{
	uint8_t bytes[WIRE_FILE_BYTES_MAX];
	struct wire_file dir = {
		.parent = folder->parent ? folder->parent->id : 0,
		.mtime_s = folder->mtime_s,
		.mtime_ns = folder->mtime_ns,
		.mode = folder->mode,
		.name_length = (uint8_t)strlen(folder->name),
	};
	struct frame frame = { .type = FRAME_DIR, .id = folder->id };
	int length;

	TEXT_SET(dir.name, folder->name);
	length = wire_build_dir(&dir, bytes, sizeof(bytes));
	CHECK(length > 0);
	frame.length = (uint32_t)length;
	return session_send(sender->session, &frame, bytes);
}

static int announce_folder(struct sender *sender, const struct folder *folder)
{
	char *path = malloc(MANIFEST_PATH_MAX + 1);

	if (!path)
		return no_memory(sender);
	folder_path(folder->parent, folder->name, path, MANIFEST_PATH_MAX + 1);
	session_list_directory(sender->session, path, folder->mode);
	free(path);
	atomic_fetch_add(&sender->session->dirs_known, 1);
	return send_dir(sender, folder);
}

/* A directory that the walk enters: it is a user until it leaves. NULL: no memory, or over. */
static struct folder *enter_folder(struct announcing *announcing, uint64_t id, const char *name,
	const struct walk_entry *entry)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	struct folder *folder = calloc(1, sizeof(*folder));

	if (folder)
		folder->name = strdup(name);
	if (!folder || !folder->name) {
		free(folder);
		(void)no_memory(sender);
		return NULL;
	}
	folder->id = id;
	folder->tree = announcing->tree;
	folder->users = 1;
	folder->mtime_s = entry->mtime_s;
	folder->mtime_ns = entry->mtime_ns;
	folder->mode = entry->mode;
	(void)pthread_mutex_lock(&session->lock);
	folder->parent = announcing->current;
	if (folder->parent)
		folder->parent->users++;
	folder->tree->folders++;
	folder->next = sender->folder;
	if (folder->next)
		folder->next->prev = folder;
	sender->folder = folder;
	sender->folders++;
	(void)pthread_mutex_unlock(&session->lock);
	announcing->current = folder;
	return folder;
}

/*
 * Owner and extended attributes of a directory, to be told when it is left. What cannot be read
 * fails by itself; what is in the directory goes on.
 */
static int read_attributes(
	struct sender *sender, struct folder *folder, int fd, uint32_t uid, uint32_t gid)
{
	struct session *session = sender->session;
	struct zh_error error;

	err_init(&error);
	if (attributes_read(&session->setup, fd, uid, gid, &folder->attributes, &error) < 0)
		return announce_failure(sender, folder->parent, folder->name, &error);
	(void)pthread_mutex_lock(&session->lock);
	sender->attribute_bytes += folder->attributes.length;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

/* Locked. */
static bool has_folders_enough(const struct sender *sender)
{
	return sender->folders >= OPEN_FOLDERS_MOST || sender->attribute_bytes >= ATTRIBUTES_MOST;
}

/* So many directories may be known to both sides. What is gathered may hold the last of them. */
static int wait_for_folders(struct announcing *announcing)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	bool full;
	int r;

	(void)pthread_mutex_lock(&session->lock);
	full = has_folders_enough(sender);
	(void)pthread_mutex_unlock(&session->lock);
	if (!full)
		return 0;
	r = flush_pack(announcing);
	(void)pthread_mutex_lock(&session->lock);
	while (r == 0 && has_folders_enough(sender)) {
		if (session->aborted || session->finishing)
			r = -ECANCELED;
		else
			(void)pthread_cond_wait(&sender->room, &session->lock);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return r;
}

/* The same for one that the walk enters. What cannot be opened has nothing in it, either. */
static int walk_attributes(
	struct announcing *announcing, struct walk *walk, const struct walk_entry *entry)
{
	struct sender *sender = announcing->sender;
	struct folder *folder = announcing->current;
	struct dirs *dirs = announcing->tree->dirs;
	struct zh_error error;
	int fd = -1, r = 0;

	if (attributes_kinds(&sender->session->setup) != 0)
		r = dirs_get(dirs, entry->id, &fd);
	if (r < 0) {
		walk_skip(walk);
		err_init(&error);
		(void)err_set(&error, err_of_source(r), r, "open source",
			"the directory cannot be opened");
		return announce_failure(sender, folder->parent, folder->name, &error);
	}
	r = read_attributes(sender, folder, fd, entry->uid, entry->gid);
	if (fd >= 0)
		dirs_put(dirs, entry->id);
	return r;
}

static int walk_into(
	struct announcing *announcing, struct walk *walk, const struct walk_entry *entry)
{
	struct sender *sender = announcing->sender;
	struct folder *folder;
	int r = wait_for_folders(announcing);

	if (r < 0)
		return r;
	folder = enter_folder(announcing, entry->id, entry->name, entry);
	if (!folder)
		return -ECANCELED;
	if (folder_is_failed(
		    sender, folder)) { /* its parent could not be made; that has been told */
		walk_skip(walk);
		return 0;
	}
	r = walk_attributes(announcing, walk, entry);
	return r < 0 ? r : announce_folder(sender, folder);
}

/*
 * A pack has no room for extended attributes. A file that cannot be looked at goes by itself, which
 * finds out why.
 */
static bool fits_pack(
	struct announcing *announcing, uint64_t in_dirs, const struct walk_entry *entry)
{
	struct dirs *dirs = announcing->tree->dirs;
	unsigned kinds = attributes_kinds(&announcing->sender->session->setup);
	int dir, fd, has = -1;

	if (entry->size > PACKED_MOST)
		return false;
	if (kinds == 0)
		return true;
	if (dirs_get(dirs, in_dirs, &dir) < 0)
		return false;
	fd = root_open_inside(dir, entry->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd >= 0)
		has = xattrs_any(fd, kinds);
	sys_close(fd);
	dirs_put(dirs, in_dirs);
	return has == 0;
}

static int walk_file(struct announcing *announcing, const struct walk_entry *entry)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	struct folder *folder = announcing->current;
	struct dirs *dirs = announcing->tree->dirs;
	uint64_t in_dirs = folder == announcing->tree->root ? 0 : folder->id;
	struct zh_error error;
	int fd, r;

	if (entry->links > 1)
		atomic_fetch_add(&session->hard_links, 1);
	if (fits_pack(announcing, in_dirs, entry))
		return pack_entry(announcing, entry, MEMBER_FILE);
	r = dirs_get(dirs, in_dirs, &fd);
	if (r < 0) {
		err_init(&error);
		(void)err_set(&error, err_of_source(r), r, "open source",
			"the directory that it is in cannot be opened");
		return announce_failure(sender, folder, entry->name, &error);
	}
	atomic_fetch_add(&session->files_known, 1);
	(void)pthread_mutex_lock(&session->lock);
	folder->users++;
	(void)pthread_mutex_unlock(&session->lock);
	r = announce_file(sender, folder, entry->name, fd, entry->name, 1);
	dirs_put(dirs, in_dirs);
	return r;
}

/* What the walk could not look at, or the directory that it is in and could not read. */
static int walk_failure(struct announcing *announcing, const struct walk_entry *entry)
{
	struct folder *folder = announcing->current;
	uint64_t in_dirs = folder == announcing->tree->root ? 0 : folder->id;

	if (entry->name[0] != '\0' && entry->parent != in_dirs)
		folder = folder->parent;
	return announce_failure(announcing->sender, folder, entry->name, &entry->error);
}

static int walk_entry(
	struct announcing *announcing, struct walk *walk, const struct walk_entry *entry)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	struct folder *folder = announcing->current;
	int r, left;

	if (entry->kind != WALK_LEAVE && entry->kind != WALK_DIRECTORY &&
		folder_is_failed(sender, folder))
		return 0;
	switch (entry->kind) {
	case WALK_DIRECTORY:
		return walk_into(announcing, walk, entry);
	case WALK_LEAVE:
		announcing->current = folder->parent;
		r = end_names(sender, folder, entry->whole);
		left = folder_release(sender, folder);
		return r < 0 ? r : left;
	case WALK_FILE:
		return walk_file(announcing, entry);
	case WALK_LINK:
		if (session->setup.tree & TREE_LINKS)
			return pack_entry(announcing, entry, MEMBER_LINK);
		atomic_fetch_add(&session->links_skipped, 1);
		return keep_name(sender, folder, entry->name);
	case WALK_SPECIAL:
		atomic_fetch_add(&session->special_skipped, 1);
		return keep_name(sender, folder, entry->name);
	case WALK_LEFT_OUT:
		return keep_name(sender, folder, entry->name);
	default:
		return walk_failure(announcing, entry);
	}
}

static int walk_tree(struct announcing *announcing)
{
	struct sender *sender = announcing->sender;
	struct walk_entry *entry = malloc(sizeof(*entry));
	struct walk *walk = NULL;
	int r = entry ? walk_new(announcing->tree->dirs, 0, sender->rules, sender->list,
				sender->session->setup.tree & TREE_LINKS, &sender->next_folder,
				&walk)
		      : -ENOMEM;

	if (r == 0 && sender->session->setup.tree & TREE_DELETE)
		walk_tell_left_out(walk);
	while (r == 0) {
		r = walk_next(walk, entry);
		if (r <= 0)
			break;
		r = walk_entry(announcing, walk, entry);
	}
	if (r == 0)
		r = end_names(sender, announcing->tree->root, entry->whole);
	walk_free(walk);
	free(entry);
	if (r == -ENOMEM)
		r = no_memory(sender);
	return r == 0 ? flush_pack(announcing) : r;
}

static struct tree *tree_new(const struct session *session, int fd)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (tree && dirs_new(fd, session_open_most(session), &tree->dirs) == 0) {
		tree->fd = fd;
		return tree;
	}
	free(tree);
	sys_close(fd);
	return NULL;
}

/* The source directory itself, which has been opened as fd, and everything in it. */
static int announce_tree(
	struct announcing *announcing, const struct origin *origin, int fd, const struct stat *st)
{
	struct sender *sender = announcing->sender;
	struct walk_entry top = {
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.mode = st->st_mode & 07777,
	};
	struct folder *root;
	int r = 0;

	announcing->tree = tree_new(sender->session, fd);
	if (!announcing->tree)
		return no_memory(sender);
	announcing->current = NULL;
	root = enter_folder(
		announcing, origin->contents ? 0 : sender->next_folder, origin->name, &top);
	if (!root) {
		dirs_free(announcing->tree->dirs);
		sys_close(fd);
		free(announcing->tree);
		return -ECANCELED;
	}
	announcing->tree->root = root;
	if (!origin->contents) {
		sender->next_folder++;
		r = read_attributes(sender, root, fd, st->st_uid, st->st_gid);
		if (r == 0)
			r = announce_folder(sender, root);
	}
	if (r == 0)
		r = walk_tree(announcing);
	while (r < 0 && announcing->current != root && announcing->current) {
		struct folder *folder = announcing->current;
		announcing->current = folder->parent;
		IGNORE(folder_release(sender, folder)); /* it is over */
	}
	int left = folder_release(sender, root);
	return r < 0 ? r : left;
}

static int announce_origin(struct announcing *announcing, const struct origin *origin)
{
	struct sender *sender = announcing->sender;
	struct session *session = sender->session;
	struct zh_error error;
	struct stat st;
	int fd = -ENOTDIR;
	int r = 0;

	err_init(&error);
	if (session->setup.tree & TREE_RECURSIVE)
		fd = source_open_directory(origin->dir, origin->path, origin->beneath, &error);
	if (fd == -ENOTDIR && !sender->list) {
		atomic_fetch_add(&session->files_known, 1);
		return announce_file(
			sender, NULL, origin->name, origin->dir, origin->path, origin->beneath);
	}
	if (fd >= 0) {
		r = sys_fstat(fd, &st);
		if (r == 0)
			return announce_tree(announcing, origin, fd, &st);
		(void)err_set(&error, ZH_SRC_IO, r, "open source", "cannot be examined");
		sys_close(fd);
	} else if (fd == -ENOTDIR) {
		(void)err_set(&error, ZH_USAGE, fd, "open source",
			"names are listed, and the source is nothing that they could be in");
	}
	return announce_failure(sender, NULL, origin->path, &error);
}

static void *announcer_main(void *argument)
{
	struct sender *sender = argument;
	struct session *session = sender->session;
	struct announcing *announcing = calloc(1, sizeof(*announcing));
	int r = announcing ? 0 : no_memory(sender);

	if (announcing)
		announcing->sender = sender;
	for (size_t i = 0; i < sender->origins && r == 0; i++)
		r = announce_origin(announcing, &sender->origin[i]);
	free(announcing);
	(void)pthread_mutex_lock(&session->lock);
	sender->announced = r == 0;
	(void)pthread_mutex_unlock(&session->lock);
	session_nudge(session);
	return NULL;
}

int announce_start(struct sender *sender)
{
	int r = pthread_create(&sender->announcer, NULL, announcer_main, sender);

	sender->announcing = r == 0;
	return -r;
}
