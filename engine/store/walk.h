/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.h - finds what is to be sent: goes down a tree of the source, depth first, one directory
 * after the other, and gives each thing once. Directories get numbers in a struct dirs as they are
 * found. Links are never followed. Memory does not grow with the number of files, only with depth.
 *
 * Names are matched against rules in the order in which they were given; the first that matches
 * decides, and what none matches is taken. A directory that is left out is not entered. A pattern
 * without "/" is matched with the last component at any depth; one with "/" with the whole path
 * below the source, a leading "/" only anchors it. "*" and "?" do not match "/", "**" does, and
 * "[...]" is as in fnmatch(3). "**" followed by "/" stands for any number of directories, also
 * none. A
 * "\" takes the next byte literally. A trailing "/" restricts it to directories. What is matched
 * are bytes: a "?" is one byte, whatever the name is encoded in.
 *
 * Thread: one at a time for each walk.
 */
#ifndef ZH_STORE_WALK_H
#define ZH_STORE_WALK_H

#include "base/err.h"
#include "store/dirs.h"

struct walk_rules;

/* Rules are made once and may be shared by walks and threads after that. */
int walk_rules_new(struct walk_rules **ret_rules) must_check;
void walk_rules_free(struct walk_rules *rules);
/*
 * Appends one. exclude: what matches is left out, otherwise it is taken. -EINVAL: empty, a "\" at
 * the end, or a "[" that is not finished within its component or longer than 255 bytes. -ENOMEM.
 */
int walk_rules_add(struct walk_rules *rules, const char *pattern, bool exclude) must_check;
/* path: below the source. NULL rules: everything. */
bool walk_rules_take(const struct walk_rules *rules, const char *path, bool directory);

/*
 * Names below the start of a walk: they alone are given, and the directories that they are in. Made
 * once, sorted, and then only read. One pointer for each name is kept; the names are borrowed.
 */
struct walk_list;

#define WALK_LIST_MOST ((size_t)1 << 24) /* names */

/* whole: a directory that is named is taken with everything in it, otherwise it is WALK_FAILED. */
int walk_list_new(bool whole, struct walk_list **ret_list) must_check;
void walk_list_free(struct walk_list *list);
/*
 * Adds one. Slashes at its end or side by side, and components that are ".", say nothing. -EINVAL:
 * empty, absolute, or with "..". -EOVERFLOW: more than WALK_LIST_MOST. -ENOMEM.
 */
int walk_list_add(struct walk_list *list, const char *name) must_check;
/* When all have been added. */
void walk_list_sort(struct walk_list *list);
/* For the walk. Of the name `index`, what is behind its first `depth` components; "": nothing. */
const char *walk_list_rest(const struct walk_list *list, size_t index, size_t depth);
size_t walk_list_count(const struct walk_list *list);
bool walk_list_takes_whole(const struct walk_list *list);
/* The next name is the same. */
bool walk_list_is_repeated(const struct walk_list *list, size_t index);
/* The first name from `first` on, or `end`, that has another component `depth` than `first` has. */
size_t walk_list_end(const struct walk_list *list, size_t first, size_t end, size_t depth);

enum walk_kind {
	WALK_DIRECTORY, /* has number `id`; what is in it comes next */
	WALK_LEAVE,     /* everything of directory `id` has been given */
	WALK_FILE,      /* regular */
	WALK_LINK,      /* symbolic; target is set */
	WALK_SPECIAL,   /* FIFO, socket, device: not to be sent */
	WALK_FAILED,    /* error is set: could not be looked at or read. Of a directory the rest is
			   missing; its WALK_LEAVE still comes if its WALK_DIRECTORY has.
			   Of `start` the name is empty and the parent itself. Of a name of a
			   list it is all that is lacking of it, which may be several components */
	WALK_LEFT_OUT,  /* by a rule; only after walk_tell_left_out */
};

struct walk_entry {
	enum walk_kind kind;
	uint64_t id;     /* WALK_DIRECTORY, WALK_LEAVE */
	uint64_t parent; /* number of the directory that it is in */
	char name[ROOT_NAME_MAX + 1];
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode; /* 07777 at most */
	uint32_t uid;
	uint32_t gid;
	uint64_t device;
	uint64_t inode;
	uint64_t links;
	uint64_t blocks;    /* of 512 bytes; fewer than the size needs: sparse */
	const char *target; /* of a link; good until the next call */
	bool whole;         /* WALK_LEAVE: it was read to its end, and every name was given */
	struct zh_error error;
};

struct walk;

/*
 * Walks what is in directory start of dirs, which is in use until walk_free; numbers for the
 * directories below come from *next_id on, which is moved. rules, list (both may be NULL) and dirs
 * are borrowed. With a list each name of it is given once, or is WALK_FAILED, unless the rules
 * leave it out; what is not a directory is not looked into for it, and links are nowhere followed.
 * read_links: targets of links are wanted. Crossing to another file system is WALK_FAILED with
 * USAGE. What is named ROOT_RESERVED is passed over, and not found if it is listed. Entries of one
 * directory come in the order of their inodes where there are not too many, which saves seeks;
 * those of a list in its order. A number has to stay known until its WALK_LEAVE. Errors: -ENOMEM;
 * what dirs_get reports of start.
 */
int walk_new(struct dirs *dirs, uint64_t start, const struct walk_rules *rules,
	const struct walk_list *list, bool read_links, uint64_t *next_id,
	struct walk **ret_walk) must_check;
/*
 * 1: *ret_entry is the next thing. 0: that was all, and ret_entry->whole is that of start.
 * Negative: -ENOMEM.
 */
int walk_next(struct walk *walk, struct walk_entry *ret_entry) must_check;
/* From now on what is left out by the rules is given, too, as WALK_LEFT_OUT. */
void walk_tell_left_out(struct walk *walk);
/* After WALK_DIRECTORY: do not go into it, its WALK_LEAVE comes next. */
void walk_skip(struct walk *walk);
void walk_free(struct walk *walk);

#endif
