# SPDX-License-Identifier: Apache-2.0
"""
The cells that bench/compare interleaves: each is a name and a function that makes one trial and returns
its figures. A figure is named: rate (GB/s), seconds, sender_cpu, receiver_cpu, cpu (both; CPU s/GB), rss.
"""

import os
import subprocess

import machine
import peers
import transfer
from machine import KIB, MIB, TrialError

# The plain loop gets its best chance: the best of these is what it is compared with.
COPY_CHUNKS = [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB]
COPIES = [f"copy {chunk // KIB} KiB > discard" for chunk in COPY_CHUNKS]
ZERO_COPIES = ["sendfile > discard", "splice > discard"]
COLD, DURABLE = "planned, cold > discard", "planned > disk, durable"
# The disk's ceiling is what fio reaches at its best. A MiB in scattered small pages is a long list of
# segments for the device, in a huge page it is one; where that matters fio without is half as fast as
# the disk, and a bound against it would hold for nothing.
FIO_READS = {"fio read, O_DIRECT": False, "fio read, O_DIRECT, huge pages": True}
FIO_WRITES = {"fio write, O_DIRECT, fsync": False, "fio write, O_DIRECT, fsync, huge pages": True}
OURS = {
    "zerohaul > disk": [],
    "zerohaul --verify=none > disk": ["--verify=none"],
    "zerohaul --verify=none --durability=none > tmpfs": ["--verify=none", "--durability=none"],
}
FULL, UNVERIFIED, TO_MEMORY = OURS


def peer_cell(peer, place):
    return f"{peer.name} > {place}"


class Scene:
    """What every trial needs: programs, files, directories, the machine."""

    def __init__(self, build, base, memory, size, congestion, accounts, cpus):
        self.trial = os.path.join(build, "bench", "trial")
        self.command = os.path.join(build, "tools", "zerohaul")
        self.base = base              # on the disk
        self.memory = memory          # on tmpfs, or None
        self.size = size
        self.congestion = congestion
        self.accounts = accounts
        self.cpus = cpus              # of whole commands: side -> CPU, or {}
        self.source = os.path.join(base, "source")
        self.cold = os.path.join(base, "cold")
        self.fio_engine = None

    # ------------------------------------------------------------------ bench/trial.c

    def run_trial(self, arguments, source, target=None, files=0):
        """Figures of one run of the program trial, which pins its two sides itself."""
        words = [self.trial, "--congestion=" + self.congestion, *arguments,
                 *(["--numbered", f"--files={files}"] if files else []),
                 source, *([target] if target else [])]
        record = machine.run_trial(words, 300)
        if record["status"] == "invalid":
            raise TrialError("not admitted here")
        if record["status"] != "ok":
            raise TrialError(record["error"])
        gigabytes, seconds = record["bytes"] / 1e9, record["time"]["acked_s"]
        figures = {"seconds": seconds, "rate": gigabytes / seconds}
        for side, account in (("sender", record["tx"]), ("receiver", record["rx"])):
            figures[side + "_cpu"] = account["cpu_ns"] * 1e-9 / gigabytes
        figures["cpu"] = figures["sender_cpu"] + figures["receiver_cpu"]
        figures["strategies"] = [record["effective"][name] for name in ("strategy", "receive")]
        figures["note"] = " > ".join(figures["strategies"])
        figures["trial"] = record
        return figures

    def discard(self, *arguments):
        machine.warm(self.source)
        return self.run_trial(arguments, self.source)

    def planned_cold(self):
        machine.cool(self.cold)
        return self.run_trial([], self.cold)

    def planned_durable(self):
        target = os.path.join(self.base, "durable")
        machine.warm(self.source)
        machine.sync_file_system(self.base)
        try:
            figures = self.run_trial(["--sync=each"], self.source, target)
            if not machine.same(self.source, target):
                raise machine.WrongFile("WRONG FILE: what arrived is not what was sent")
            return figures
        finally:
            remove(target)

    # ------------------------------------------------------------------ fio

    def fio(self, mode, path, huge_pages):
        """
        Sequential O_DIRECT, 1 MiB, depth 8. The time is fio's own, so its start is not in it; nor is, when
        it writes, allocating the space, which is in ours. huge_pages: its buffers ask for them, as ours do.
        """
        environment = dict(os.environ)
        if huge_pages:
            environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        fio = machine.find_program("fio")
        for engine in [self.fio_engine] if self.fio_engine else ["io_uring", "libaio"]:
            words = [fio, "--name=bench", "--filename=" + path, "--rw=" + mode, "--bs=1M",
                     "--iodepth=8", "--direct=1", "--ioengine=" + engine, f"--size={self.size}",
                     "--thread", "--output-format=json"]
            words += ["--readonly"] if mode == "read" else ["--end_fsync=1", "--fallocate=native"]
            done = subprocess.run(words, capture_output=True, check=False, timeout=600, cwd=self.base,
                                  env=environment)
            if done.returncode == 0:
                self.fio_engine = engine
                break
        else:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise TrialError(f"fio ended with {done.returncode}: {said[-1] if said else ''}")
        output = done.stdout.decode(errors="replace")
        job = machine.json_of(output[output.index("{"):], "fio")["jobs"][0]
        if job["error"] or job[mode]["io_bytes"] != self.size:
            raise TrialError(f"fio moved {job[mode]['io_bytes']} bytes, error {job['error']}")
        seconds = max(job[mode]["runtime"], 1) / 1000
        cpu = (job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds / (self.size / 1e9)
        side = "sender_cpu" if mode == "read" else "receiver_cpu"
        return {"seconds": seconds, "rate": self.size / 1e9 / seconds, side: cpu, "cpu": cpu,
                "note": engine}

    def fio_read(self, huge_pages):
        machine.cool(self.cold)
        return self.fio("read", self.cold, huge_pages)

    def fio_write(self, huge_pages):
        target = os.path.join(self.base, "fio")
        machine.sync_file_system(self.base)
        try:
            return self.fio("write", target, huge_pages)
        finally:
            remove(target)

    # ------------------------------------------------------------------ whole commands

    def to_disk(self, peer, sync):
        return transfer.run(peer, self.source, self.base, self.accounts, self.cpus, sync)

    def to_memory(self, peer):
        return transfer.run(peer, self.source, self.memory, self.accounts, self.cpus)


def remove(path):
    if os.path.exists(path):
        os.unlink(path)


def cells(scene, rivals):
    """All cells that can be made here: name -> function. rivals: the peers that are there."""
    made = {name: lambda n=name: scene.discard("--strategy=" + n.split()[0]) for name in ZERO_COPIES}
    for name, chunk in zip(COPIES, COPY_CHUNKS):
        made[name] = lambda c=chunk: scene.discard("--strategy=copy", f"--buffer={c}")
    made[COLD] = scene.planned_cold
    made[DURABLE] = scene.planned_durable
    if machine.find_program("fio"):
        for name, huge in FIO_READS.items():
            made[name] = lambda h=huge: scene.fio_read(h)
        for name, huge in FIO_WRITES.items():
            made[name] = lambda h=huge: scene.fio_write(h)
    for name in (FULL, UNVERIFIED):
        us = peers.zerohaul(scene.command, name, ["--streams=1", *OURS[name]])
        made[name] = lambda p=us: scene.to_disk(p, sync=False)
    for peer in rivals:
        made[peer_cell(peer, "disk")] = lambda p=peer: scene.to_disk(p, sync=True)
    if scene.memory:
        us = peers.zerohaul(scene.command, TO_MEMORY, ["--streams=1", *OURS[TO_MEMORY]])
        made[TO_MEMORY] = lambda p=us: scene.to_memory(p)
        for peer in rivals:
            made[peer_cell(peer, "tmpfs")] = lambda p=peer: scene.to_memory(p)
    return made
