/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - what Linux offers for one open file: facts, a second descriptor for direct I/O. */
#ifndef ZH_KERNEL_FILE_H
#define ZH_KERNEL_FILE_H

#include "kernel/facts.h"

/* Fills ret_facts for the extent. Changes nothing in the file and starts no read of it. */
int file_facts(int fd, struct zh_extent extent, struct file_facts *ret_facts) must_check;

/* A descriptor of the same open file with O_DIRECT, for reading or writing; close it with
 * sys_close. -EBADF: fd itself does not allow that. */
int file_open_direct(int fd, enum zh_side side) must_check;

/* Per mille of the extent that is in the page cache, -1: cannot be told. */
int32_t file_resident_permille(int fd, struct zh_extent extent);
/* The same as bytes of size; 0 when it cannot be told. */
uint64_t file_bytes_of_permille(uint64_t size, int32_t permille);
/* Bytes of the whole file in the page cache, as far as samples tell; drop: asked to leave it first.
 */
uint64_t file_leave(int fd, uint64_t size, bool drop);
/* Asks that what lies before offset leaves the page cache, a window of it: for who moves on. */
void file_drop_behind(int fd, uint64_t offset);

#endif
