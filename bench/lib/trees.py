# SPDX-License-Identifier: Apache-2.0
"""
Cells and bounds of bench/compare about moving much: a directory of many small files into a fresh ext4, a file
that is nearly all hole, and one large file by several streams. All of them are whole commands, from the
page cache; who does not see to durability himself has the file system synced inside of the time.
"""

import contextlib
import dataclasses
import os

import machine
import peers
import transfer
from figures import Bound
from machine import KIB, MIB, say

FILES, FILE_BYTES = 50000, 8 * KIB
SPARSE_BYTES, DATA_BYTES = 8192 * MIB, 64 * MIB
OURS, RSYNC, CP = (f"{name} > fresh ext4" for name in ("zerohaul --recursive", "rsync -a", "cp -r"))
SPARSE, DENSE = "zerohaul, 64 MiB in 8 GiB of hole > disk", "zerohaul, 64 MiB > disk"
ONE, FOUR = "zerohaul --streams=1 > disk", "zerohaul --streams=4 > disk"
ON_FRESH = {OURS, RSYNC, CP}
CELLS = ON_FRESH | {SPARSE, DENSE, ONE, FOUR}


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
    ]


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


def keeps_holes(peer, source):
    """The same program; a trial in which holes came to take space has no figures."""
    def report(place, record):
        peer.report(place, record)
        took, had = (os.stat(path).st_blocks * 512 for path in (place.target, source))
        if took > had + MIB:
            raise machine.WrongFile(f"WRONG FILE: it takes {took // MIB} MiB of disk, its source {had // MIB}")

    return dataclasses.replace(peer, report=report)


class Trees:
    """scene: of trials.py, whose large file is what the streams are tried with."""

    def __init__(self, scene, files):
        self.scene, self.files = scene, files
        self.many, self.sparse, self.dense = (os.path.join(scene.base, name) for name in
                                              ("many", "sparse", "dense"))
        # A file takes a block at least, and an inode for each 16 KiB is what mkfs makes.
        self.room = files * max(2 * FILE_BYTES, 32 * KIB) + 512 * MIB

    def prepare(self, needed, generator):
        if needed & ON_FRESH:
            machine.make_tree(self.many, self.files, FILE_BYTES, generator)
        if SPARSE in needed:
            make_sparse(self.sparse, SPARSE_BYTES, DATA_BYTES, generator)
        if DENSE in needed:
            machine.make_file(self.dense, DATA_BYTES, generator)

    def into_fresh(self, peer, sync):
        """A file system of its own for each trial: the second one would find directories and a journal in use."""
        with contextlib.ExitStack() as stack:
            directory = machine.loop_mount(stack, self.scene.base, "ext4", self.room)
            if not directory:
                raise machine.TrialError("there is no fresh ext4")
            return transfer.run(peer, self.many, directory, self.scene.accounts, self.scene.cpus, sync)

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
        made[OURS] = lambda: self.into_fresh(peers.zerohaul(command, OURS).for_trees(), sync=False)
        made[CP] = lambda: self.into_fresh(peers.CP_TREES, sync=True)
        if not peers.RSYNC_ARCHIVE.missing():
            made[RSYNC] = lambda: self.into_fresh(peers.RSYNC_ARCHIVE, sync=True)
        return made
