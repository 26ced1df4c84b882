# SPDX-License-Identifier: Apache-2.0
"""
A whole transfer by one peer: starts the listener, has the transfer timed, compares what arrived with what
was sent, and leaves nothing behind.

Time begins when the client is started, the listener being ready, and ends when the program that
receives says that it is done, or the file system has been synced after it. CPU time is that of both sides.
"""

import os
import shutil
import time

import machine
import peers
from peers import Command


class Transfer:
    """What is timed: the processes and the place of one transfer. clean_up() ends it, whatever happened."""

    def __init__(self, peer, source, directory, accounts, cpus=None, sync=False):
        self.peer, self.directory, self.accounts, self.sync = peer, directory, accounts, sync
        self.cpus = cpus or {}
        self.files = machine.files_of(source)
        self.size = sum(os.path.getsize(os.path.join(source, name) if name else source)
                        for name in self.files)
        self.patience = 60 + self.size / 20e6 + len(self.files) / 100
        self.scratch = os.path.join(directory, "scratch")
        self.inside = os.path.join(directory, "in")
        self.place = peers.Place(source, os.path.join(self.inside, os.path.basename(source)), self.scratch,
                                 machine.free_port())
        self.listener_side, self.client_side = ("sender", "receiver") if peer.listener_sends else \
            ("receiver", "sender")
        # Held by the listener, so that others can wait for its end.
        self.lock = os.path.join(self.scratch, "lock")
        self.listener = None
        self.listener_start = 0.0
        self.before_listener = {}
        self.running = []

    def start(self, command, side, log):
        process = machine.Process(command.argv, side, self.accounts, self.cpus.get(side), command.stdin,
                                  command.stdout, os.path.join(self.scratch, log))
        self.running.append(process)
        return process

    def listen(self):
        """Makes the place, and has everything ready for the client."""
        for path, mode in ((self.scratch, 0o755), (self.inside, 0o777)):
            os.mkdir(path)
            os.chmod(path, mode)
        begun = time.monotonic()
        self.before_listener = {side: self.accounts.used(side) for side in machine.SIDES}
        if self.peer.listener:
            command = self.peer.listener(self.place)
            name, command.argv = command.argv[0], ["flock", "--no-fork", self.lock, *command.argv]
            self.listener = self.start(command, self.listener_side, "listener.log")
            self.listener.name = os.path.basename(name)
            machine.wait_for_listener(self.listener, self.place.port)
        self.listener_start = time.monotonic() - begun
        for name in self.files:
            machine.warm(os.path.join(self.place.source, name) if name else self.place.source)

    def used_before(self):
        """
        CPU seconds of each side before the client. Without counters a side has only the processes that
        were waited for, so a listener counts from its start.
        """
        return {side: self.accounts.used(side) for side in machine.SIDES} if self.accounts.counter else \
            self.before_listener

    def end(self):
        """After the timed part: the listener's orderly end, as far as it is part of the transfer."""
        if self.peer.ends_before_done:
            self.listener.succeed(30)
        if not self.accounts.counter:
            self.stop()

    def stop(self):
        for process in reversed(self.running):
            process.stop()
        if not self.accounts.counter:
            self.accounts.end_orphans(self.listener_side)

    def clean_up(self):
        self.stop()
        for side in machine.SIDES:
            self.accounts.end_all(side)
        for path in (self.inside, self.scratch):
            shutil.rmtree(path, ignore_errors=True)


def by_stopwatch(transfer):
    """Times the transfer by starting its programs; returns (seconds, CPU seconds of each side before it)."""
    peer, place = transfer.peer, transfer.place
    client = peer.client(place)
    machine.sync_file_system(transfer.directory)
    before = transfer.used_before()
    begun = time.monotonic()
    transfer.start(client, transfer.client_side, "client.log").succeed(transfer.patience)
    if peer.listener_ends:
        transfer.listener.succeed(transfer.patience)
    if transfer.sync:
        transfer.start(Command(["sync", "-f", place.target]), "receiver", "sync.log").succeed(
            transfer.patience)
    return time.monotonic() - begun, before


def run(peer, source, directory, accounts, cpus=None, sync=False, timed=by_stopwatch):
    """
    One transfer of source into directory, which exists and is emptied afterwards. cpus: side -> CPU, or
    None. sync: the file system is synced inside of the timed part. Returns figures; TrialError if there are
    none, also when what arrived is something else.
    """
    transfer = Transfer(peer, source, directory, accounts, cpus, sync)
    try:
        transfer.listen()
        seconds, before = timed(transfer)
        transfer.end()
        used = {side: accounts.used(side) - before[side] for side in machine.SIDES}
        transfer.stop()
        if not machine.same(source, transfer.place.target):
            raise machine.WrongFile("WRONG FILE: what arrived is not what was sent")
        gigabytes = transfer.size / 1e9
        record = {"seconds": seconds, "rate": gigabytes / seconds, "bytes": transfer.size,
                  "seconds_per_file": seconds / len(transfer.files),
                  "listener_start_s": transfer.listener_start,
                  "sender_cpu": used["sender"] / gigabytes,
                  "receiver_cpu": used["receiver"] / gigabytes,
                  "cpu": sum(used.values()) / gigabytes,
                  "verified": peer.verified,
                  "durable": peer.durable + (", then sync -f" if sync else "")}
        if not peer.listener:
            record.update(sender_cpu=record["cpu"], receiver_cpu=None)
        if peer.report:
            peer.report(transfer.place, record)
        return record
    finally:
        transfer.clean_up()
