# SPDX-License-Identifier: Apache-2.0
"""
Cells and bounds of bench/compare about moving much: a directory of many small files into a fresh ext4, a source tree
of Debian, a million files of next to nothing, a file that is nearly all hole, and one large file by several
streams. All of them are whole commands, from the page cache; who does not see to durability himself has the
file system synced inside of the time.
"""

import contextlib
import dataclasses
import glob
import os
import subprocess

import machine
import peers
import transfer
from figures import Bound
from machine import KIB, MIB, say

FILES, FILE_BYTES = 50000, 8 * KIB
SPARSE_BYTES, DATA_BYTES = 8192 * MIB, 64 * MIB
OURS, RSYNC, CP = (f"{name} > fresh ext4" for name in ("zerohaul --recursive", "rsync -a", "cp -r"))
SPARSE, DENSE = "zerohaul, 64 MiB in 8 GiB of hole > disk", "zerohaul, 64 MiB > disk"
MILLION, TENTH = 1000000, 100000
PACKAGE, ARCHIVES = "linux-source", "/usr/src/linux-source-*.tar.xz"
SOURCES_OURS, SOURCES_RSYNC = (f"{name}, source tree > fresh ext4" for name in ("zerohaul --recursive --links",
                                                                               "rsync -a"))
ALL_TINY, FEW_TINY = (f"zerohaul, {files:,} files of 0 or 1 byte > fresh ext4" for files in (MILLION, TENTH))
ONE, FOUR = "zerohaul --streams=1 > disk", "zerohaul --streams=4 > disk"
MANY = {OURS, RSYNC, CP}
SOURCES = {SOURCES_OURS, SOURCES_RSYNC}
TINY = {ALL_TINY: MILLION, FEW_TINY: TENTH}
CELLS = MANY | SOURCES | {*TINY} | {SPARSE, DENSE, ONE, FOUR}


def bounds():
    return [
        Bound("trees-rsync", "wall time of many small files, durable, against rsync -a and sync -f", 0.35,
              "seconds", [OURS], [RSYNC]),
        Bound("trees-cp", "wall time of many small files, durable, against local cp -r and sync -f", 1.00,
              "seconds", [OURS], [CP]),
        Bound("trees-sparse", "wall time of 64 MiB in a sparse file of 8 GiB against 64 MiB", 1.20, "seconds",
              [SPARSE], [DENSE]),
        Bound("trees-streams", "rate of one file by 4 streams against 1", 0.90, "rate", [FOUR], [ONE],
              at_least=True),
        Bound("source-tree", "wall time of a source tree, durable, against rsync -a and sync -f", 0.50, "seconds",
              [SOURCES_OURS], [SOURCES_RSYNC]),
        Bound("million-pace", "time per file of a million files against a tenth of them", 1.50, "seconds_per_file",
              [ALL_TINY], [FEW_TINY]),
        Bound("million-memory", "highest resident set of a side, a million files, MiB", 128, "rss", [ALL_TINY],
              kind="peak", unit=" MiB"),
    ]


def archive():
    """The newest source of Linux that Debian's package brings, or None."""
    return max(glob.glob(ARCHIVES), default=None)


def make_sparse(path, size, data, generator):
    """Its data is in pieces of 1 MiB, as far from each other as they can be."""
    pieces = data // MIB
    with open(path, "wb") as file:
        for piece in range(pieces):
            file.seek(piece * (size // pieces))
            file.write(generator.randbytes(MIB))
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(path, 0o644)


def looked_at(peer, look):
    """The same program; look(target) raises WrongFile for what bytes do not show."""
    def report(place, record):
        if peer.report:
            peer.report(place, record)
        look(place.target)

    return dataclasses.replace(peer, report=report)


def keeps_holes(peer, source):
    def look(target):
        took, had = (os.stat(path).st_blocks * 512 for path in (target, source))
        if took > had + MIB:
            raise machine.WrongFile(f"WRONG FILE: it takes {took // MIB} MiB of disk, its source {had // MIB}")

    return looked_at(peer, look)


def keeps_attributes(peer, source):
    def look(target):
        if machine.attributes_of(source) != machine.attributes_of(target):
            raise machine.WrongFile("WRONG FILE: links, modes or times are not as they were")

    return looked_at(peer, look)


def room_for(tree):
    """A file takes a block at least, and 4 KiB more because mkfs makes an inode for each of them."""
    return sum(max(os.path.getsize(os.path.join(tree, name)), 4 * KIB) + 4 * KIB
               for name in machine.files_of(tree)) * 5 // 4 + 512 * MIB


class Trees:
    """scene: of trials.py, whose large file is what the streams are tried with."""

    def __init__(self, scene, files):
        self.scene, self.files = scene, files
        self.many, self.sparse, self.dense, self.sources = (os.path.join(scene.base, name) for name in
                                                            ("many", "sparse", "dense", "sources"))
        self.tiny = {name: os.path.join(scene.base, f"tiny{files}") for name, files in TINY.items()}

    def prepare(self, needed, generator):
        if needed & MANY:
            machine.make_tree(self.many, self.files, lambda _: FILE_BYTES, generator)
        for name in needed & {*TINY}:
            machine.make_tree(self.tiny[name], TINY[name], lambda number: number % 2, generator)
        if needed & SOURCES:
            self.unpack_sources()
        if SPARSE in needed:
            make_sparse(self.sparse, SPARSE_BYTES, DATA_BYTES, generator)
        if DENSE in needed:
            machine.make_file(self.dense, DATA_BYTES, generator)

    def unpack_sources(self):
        if archive():
            os.mkdir(self.sources)
            subprocess.run(["tar", "-C", self.sources, "-xJf", archive(), "--no-same-owner"], check=True)
            machine.sync_file_system(self.sources)
        else:
            say(f"left out: a source tree, there is no {ARCHIVES} (package {PACKAGE})")

    def into_fresh(self, peer, source, sync):
        """A file system of its own for each trial: the second one would find directories and a journal in use."""
        with contextlib.ExitStack() as stack:
            # an inode for each 4 KiB: more than the smallest files need
            directory = machine.loop_mount(stack, self.scene.base, "ext4", room_for(source), ["-i", "4096"])
            if not directory:
                raise machine.TrialError("there is no fresh ext4")
            return transfer.run(peer, source, directory, self.scene.accounts, self.scene.cpus, sync)

    def to_disk(self, peer, source):
        return transfer.run(peer, source, self.scene.base, self.scene.accounts, self.scene.cpus)

    def cells(self):
        """All that can be made here: name -> function."""
        command = self.scene.command
        sparse = keeps_holes(peers.zerohaul(command, SPARSE), self.sparse)
        made = {SPARSE: lambda: self.to_disk(sparse, self.sparse),
                DENSE: lambda: self.to_disk(peers.zerohaul(command, DENSE), self.dense)}
        for name, count in ((ONE, 1), (FOUR, 4)):
            us = peers.zerohaul(command, name, [f"--streams={count}"])
            made[name] = lambda p=us: self.to_disk(p, self.scene.source)
        if not machine.is_root():
            say("left out: a fresh ext4 on a loop device needs root")
            return made
        ours = peers.zerohaul(command, OURS).for_trees()
        made[OURS] = lambda: self.into_fresh(ours, self.many, sync=False)
        made[CP] = lambda: self.into_fresh(peers.CP_TREES, self.many, sync=True)
        for name, source in self.tiny.items():
            made[name] = lambda s=source: self.into_fresh(ours, s, sync=False)
        if os.path.isdir(self.sources):
            linked = peers.zerohaul(command, SOURCES_OURS, ["--links"]).for_trees()
            made[SOURCES_OURS] = lambda: self.into_fresh(keeps_attributes(linked, self.sources), self.sources,
                                                         sync=False)
        if not peers.RSYNC_ARCHIVE.missing():
            rsync = peers.RSYNC_ARCHIVE
            made[RSYNC] = lambda: self.into_fresh(rsync, self.many, sync=True)
            if os.path.isdir(self.sources):
                made[SOURCES_RSYNC] = lambda: self.into_fresh(keeps_attributes(rsync, self.sources), self.sources,
                                                              sync=True)
        return made
