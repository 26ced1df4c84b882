/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - a tree against its manifest, the public face of it: reads the manifest twice, hands
 * its lines to threads that prove one after the other, counts, and keeps what is wrong.
 */
#include "base/clock.h"
#include "base/sys.h"
#include "store/extra.h"
#include "store/manifest.h"
#include "store/prove.h"
#include "store/root.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define STAGE         "verify"
#define FINDINGS_KEPT 10000u
#define THREADS_MOST  64u

enum phase { PHASE_READING, PHASE_VERIFYING, PHASE_SEARCHING, PHASE_DONE };

struct zh_verifier {
	struct zh_verify_options options;
	char *manifest;
	char *directory;
	int manifest_fd;
	int root;
	struct stat manifest_stat;
	struct listed listed;
	uint64_t started_ns;

	/* for zh_verifier_progress */
	atomic_bool cancel;
	_Atomic int phase;
	_Atomic uint32_t files_done;
	_Atomic uint32_t files_failed;
	_Atomic uint32_t files_known;
	_Atomic uint64_t bytes;
	_Atomic uint64_t bytes_known;

	pthread_mutex_t lock; /* guards what follows while threads run */
	struct manifest_reader reader;
	struct zh_error error;
	struct zh_verify_report report;
	struct zh_finding *finding;
	size_t finding_count;
	size_t finding_cap;
};

ZH_API int zh_verifier_new(
	const struct zh_verify_options *options, struct zh_verifier **ret_verifier)
{
	struct zh_verifier *verifier;

	if (!options || options->size < sizeof(*options) || !options->manifest ||
		!options->directory || options->threads > THREADS_MOST)
		return -EINVAL;
	verifier = calloc(1, sizeof(*verifier));
	if (!verifier)
		return -ENOMEM;
	verifier->options = *options;
	verifier->manifest_fd = verifier->root = -1;
	verifier->started_ns =
		clock_now_ns(); /* run begins later, and progress may be asked before */
	verifier->report.size = sizeof(verifier->report);
	err_init(&verifier->error);
	(void)pthread_mutex_init(&verifier->lock, NULL);
	verifier->manifest = strdup(options->manifest);
	verifier->directory = strdup(options->directory);
	if (!verifier->manifest || !verifier->directory) {
		zh_verifier_free(verifier);
		return -ENOMEM;
	}
	*ret_verifier = verifier;
	return 0;
}

ZH_API void zh_verifier_free(struct zh_verifier *verifier)
{
	if (!verifier)
		return;
	manifest_reader_fini(&verifier->reader);
	listed_free(&verifier->listed);
	sys_close(verifier->manifest_fd);
	sys_close(verifier->root);
	(void)pthread_mutex_destroy(&verifier->lock);
	free(verifier->finding);
	free(verifier->manifest);
	free(verifier->directory);
	free(verifier);
}

/* ------------------------------ findings ----------------------------------------------- */

/* Under lock. What cannot be kept is counted all the same. */
static void keep(
	struct zh_verifier *verifier, enum zh_finding_kind kind, const struct zh_error *error)
{
	size_t cap = verifier->finding_cap;

	if (verifier->finding_count == cap && cap < FINDINGS_KEPT) {
		struct zh_finding *grown;
		cap = cap ? min_size(4 * cap, FINDINGS_KEPT) : 16;
		grown = reallocarray(verifier->finding, cap, sizeof(*grown));
		if (!grown)
			return;
		verifier->finding = grown;
		verifier->finding_cap = cap;
	}
	if (verifier->finding_count < cap)
		verifier->finding[verifier->finding_count++] = (struct zh_finding){
			.size = sizeof(struct zh_finding),
			.kind = kind,
			.error = *error,
		};
}

static void note(struct zh_verifier *verifier, enum proof proof, const struct zh_error *error)
{
	struct zh_verify_report *report = &verifier->report;

	(void)pthread_mutex_lock(&verifier->lock);
	switch (proof) {
	case PROOF_RIGHT:
		report->right++;
		break;
	case PROOF_WRONG:
		report->wrong++;
		keep(verifier, ZH_FOUND_WRONG, error);
		break;
	case PROOF_MISSING:
		report->missing++;
		keep(verifier, ZH_FOUND_MISSING, error);
		break;
	case PROOF_UNREADABLE:
		report->unreadable++;
		keep(verifier, ZH_FOUND_UNREADABLE, error);
		break;
	case PROOF_CANCELLED:
		break;
	}
	(void)pthread_mutex_unlock(&verifier->lock);
	atomic_fetch_add(proof == PROOF_RIGHT ? &verifier->files_done : &verifier->files_failed, 1);
}

/* Found by the walk; at a directory that cannot be read something extra may be hidden. */
static void note_extra(void *context, const char *path, size_t path_bytes, int r)
{
	struct zh_verifier *verifier = context;
	struct zh_error error;

	err_init(&error);
	if (r == 0) {
		(void)err_set(&error, ZH_VERIFY, 0, STAGE, "not in the manifest");
		verifier->report.extra++;
	} else {
		(void)err_set(&error, err_of_source(r), r, STAGE,
			"cannot be searched for what is not in the manifest");
		verifier->report.unreadable++;
	}
	err_file(&error, path_bytes ? path : ".", path_bytes ? path_bytes : 1, 0);
	keep(verifier, r == 0 ? ZH_FOUND_EXTRA : ZH_FOUND_UNREADABLE, &error);
}

/* ------------------------------ the manifest ------------------------------------------- */

static int say_of_manifest(struct zh_verifier *verifier, enum zh_outcome outcome, int r)
{
	r = err_set(&verifier->error, outcome, r, STAGE, "the manifest cannot be read");
	err_file(&verifier->error, verifier->manifest, strlen(verifier->manifest), 0);
	return r;
}

static int open_both(struct zh_verifier *verifier)
{
	int fd = sys_openat(AT_FDCWD, verifier->manifest, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	int r;

	if (fd < 0)
		return say_of_manifest(verifier, err_of_source(fd), fd);
	verifier->manifest_fd = fd;
	r = sys_fstat(fd, &verifier->manifest_stat);
	if (r < 0)
		return say_of_manifest(verifier, err_of_source(r), r);
	if (!S_ISREG(verifier->manifest_stat.st_mode)) {
		r = err_set(&verifier->error, ZH_CONFIG, EINVAL, STAGE,
			"the manifest is not a regular file");
		err_file(&verifier->error, verifier->manifest, strlen(verifier->manifest), 0);
		return r;
	}
	verifier->root = root_open(verifier->directory, &verifier->error);
	return verifier->root < 0 ? verifier->root : 0;
}

static int reader_begin(struct zh_verifier *verifier)
{
	int r = manifest_reader_init(&verifier->reader, verifier->manifest_fd);

	return r < 0 ? say_of_manifest(verifier, ZH_INTERNAL, r) : 0;
}

/* The next line; 0 at the end and when it was cancelled, an error with the record filled. */
static int reader_next(struct zh_verifier *verifier, struct manifest_entry *ret_entry)
{
	int r;

	if (atomic_load(&verifier->cancel))
		return 0;
	r = manifest_reader_next(&verifier->reader, ret_entry, &verifier->error);
	if (r < 0)
		err_file(&verifier->error, verifier->manifest, strlen(verifier->manifest), 0);
	return r;
}

/* The first reading: is it whole, and what is in it? */
static int survey(struct zh_verifier *verifier)
{
	struct manifest_entry entry;
	int r = reader_begin(verifier);

	while (r >= 0 && (r = reader_next(verifier, &entry)) > 0) {
		atomic_fetch_add(&verifier->files_known, 1);
		if (entry.kind == MANIFEST_FILE)
			atomic_fetch_add(&verifier->bytes_known, entry.size);
		verifier->report.listed++;
		if (verifier->options.flags & ZH_VERIFY_EXTRA)
			r = listed_add(&verifier->listed, entry.path, entry.path_bytes);
		if (r == -ENOMEM)
			r = say_of_manifest(verifier, ZH_INTERNAL, r);
	}
	manifest_reader_fini(&verifier->reader);
	listed_sort(&verifier->listed);
	return r;
}

/* ------------------------------ the threads -------------------------------------------- */

struct worker {
	struct zh_verifier *verifier;
	pthread_t thread;
	struct prover prover;
	char text[MANIFEST_PATH_MAX + MANIFEST_TARGET_MAX];
};

/* Takes a line, with copies of what the reader owns. False when there is none or no good one. */
static bool take(struct worker *worker, struct manifest_entry *entry)
{
	struct zh_verifier *verifier = worker->verifier;
	bool taken;

	(void)pthread_mutex_lock(&verifier->lock);
	taken = !err_is_set(&verifier->error) && reader_next(verifier, entry) > 0;
	if (taken) {
		memcpy(worker->text, entry->path, entry->path_bytes);
		entry->path = worker->text;
		memcpy(worker->text + MANIFEST_PATH_MAX, entry->target, entry->target_bytes);
		entry->target = worker->text + MANIFEST_PATH_MAX;
	}
	(void)pthread_mutex_unlock(&verifier->lock);
	return taken;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct zh_verifier *verifier = worker->verifier;
	struct manifest_entry entry;

	while (take(worker, &entry)) {
		struct zh_error error;
		err_init(&error);
		note(verifier, prove_entry(&worker->prover, &entry, &error), &error);
	}
	(void)pthread_mutex_lock(&verifier->lock);
	verifier->report.direct_bytes += worker->prover.direct_bytes;
	(void)pthread_mutex_unlock(&verifier->lock);
	return NULL;
}

static struct worker *worker_new(struct zh_verifier *verifier)
{
	struct worker *worker = malloc(sizeof(*worker));

	if (!worker)
		return NULL;
	worker->verifier = verifier;
	worker->prover = (struct prover){
		.root = verifier->root,
		.flags = verifier->options.flags,
		.cancel = &verifier->cancel,
		.bytes = &verifier->bytes,
	};
	if (prover_init(&worker->prover) < 0) {
		free(worker);
		return NULL;
	}
	return worker;
}

static void worker_free(struct worker *worker)
{
	prover_fini(&worker->prover);
	free(worker);
}

static uint32_t thread_count(const struct zh_verifier *verifier)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t count = verifier->options.threads;

	if (count == 0)
		count = cpus > 0 ? (uint64_t)cpus : 1;
	count = min_u64(count, THREADS_MOST);
	return (uint32_t)min_u64(count, max_u64(verifier->report.listed, 1));
}

/* The second reading. This thread works too; of the others as many as the host gives. */
static int verify(struct zh_verifier *verifier)
{
	uint32_t wanted = thread_count(verifier), count = 0;
	struct worker *worker[THREADS_MOST];
	int r = reader_begin(verifier);

	if (r < 0)
		return r;
	while (count < wanted && (worker[count] = worker_new(verifier))) {
		if (count > 0 &&
			pthread_create(&worker[count]->thread, NULL, work, worker[count]) != 0) {
			worker_free(worker[count]);
			break;
		}
		count++;
	}
	verifier->report.threads = count;
	if (count == 0)
		return say_of_manifest(verifier, ZH_INTERNAL, ENOMEM);
	(void)work(worker[0]);
	for (uint32_t i = 1; i < count; i++)
		(void)pthread_join(worker[i]->thread, NULL);
	for (uint32_t i = 0; i < count; i++)
		worker_free(worker[i]);
	return err_is_set(&verifier->error) ? -EIO : 0;
}

static int search(struct zh_verifier *verifier)
{
	struct extra_walk walk = {
		.root = verifier->root,
		.listed = &verifier->listed,
		.cancel = &verifier->cancel,
		.skip_device = verifier->manifest_stat.st_dev,
		.skip_inode = verifier->manifest_stat.st_ino,
		.found = note_extra,
		.context = verifier,
	};
	int r = extra_walk(&walk);

	return r == -ENOMEM ? say_of_manifest(verifier, ZH_INTERNAL, r) : r;
}

/* ------------------------------ the public face ---------------------------------------- */

static int outcome_of(const struct zh_verifier *verifier)
{
	const struct zh_verify_report *report = &verifier->report;

	if (err_is_set(&verifier->error))
		return verifier->error.outcome;
	if (atomic_load(&verifier->cancel))
		return ZH_CANCELLED;
	if (report->wrong || report->extra)
		return ZH_VERIFY;
	if (report->missing == 0 && report->unreadable == 0)
		return ZH_OK;
	if (report->right == 0 && report->unreadable == 0)
		return ZH_SRC_GONE;
	return report->right == 0 && report->missing == 0 ? ZH_SRC_IO : ZH_PARTIAL;
}

ZH_API int zh_verifier_run(struct zh_verifier *verifier)
{
	uint64_t started_ns = clock_now_ns();
	int r = open_both(verifier), outcome;

	if (r == 0)
		r = survey(verifier);
	atomic_store(&verifier->phase, PHASE_VERIFYING);
	if (r == 0)
		r = verify(verifier);
	if (r == 0 && verifier->options.flags & ZH_VERIFY_EXTRA) {
		atomic_store(&verifier->phase, PHASE_SEARCHING);
		r = search(verifier);
	}
	atomic_store(&verifier->phase, PHASE_DONE);
	verifier->report.bytes = atomic_load(&verifier->bytes);
	verifier->report.elapsed_ns = clock_now_ns() - started_ns;
	outcome = outcome_of(verifier);
	if (outcome == ZH_CANCELLED)
		(void)err_set(&verifier->error, ZH_CANCELLED, 0, STAGE, "cancelled");
	else if (verifier->finding_count > 0 && !err_is_set(&verifier->error))
		verifier->error = verifier->finding[0].error;
	return outcome;
}

ZH_API void zh_verifier_cancel(struct zh_verifier *verifier)
{
	atomic_store(&verifier->cancel, true);
}

ZH_API void zh_verifier_progress(
	const struct zh_verifier *verifier, struct zh_progress *ret_progress)
{
	static const char *const phase_text[] = { "reading", "verifying", "searching", "done" };
	struct zh_progress progress = {
		.size = sizeof(progress),
		.files_done = atomic_load(&verifier->files_done),
		.files_failed = atomic_load(&verifier->files_failed),
		.files_known = atomic_load(&verifier->files_known),
		.bytes_moved = atomic_load(&verifier->bytes),
		.bytes_known = atomic_load(&verifier->bytes_known),
		.elapsed_ns = clock_now_ns() - verifier->started_ns,
	};

	TEXT_SET(progress.phase, phase_text[atomic_load(&verifier->phase)]);
	*ret_progress = progress;
}

ZH_API const struct zh_error *zh_verifier_error(const struct zh_verifier *verifier)
{
	return &verifier->error;
}

ZH_API const struct zh_finding *zh_verifier_finding_at(
	const struct zh_verifier *verifier, size_t index)
{
	return index < verifier->finding_count ? &verifier->finding[index] : NULL;
}

ZH_API const struct zh_verify_report *zh_verifier_report(const struct zh_verifier *verifier)
{
	return &verifier->report;
}
