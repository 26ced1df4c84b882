# SPDX-License-Identifier: Apache-2.0
"""
Programs that bring a file from one place to another over TCP, and one way of running each of them on
loopback: a listener that is freshly started, one connection for the data, one file. zerohaul is one of
them. run() measures a whole transfer and compares the result.

Time begins when the client is started, the listener being ready, and ends when the program that
receives says that it is done, or the file system has been synced after it. CPU time is that of both sides.
"""

import json
import os
import pwd
import shutil
import subprocess
import time
from dataclasses import dataclass

import machine
from machine import MIB, TrialError

NOBODY = "nobody"


@dataclass
class Place:
    """Where a trial happens."""
    source: str        # the file
    target: str        # the file that is to come to be, in a directory of its own
    scratch: str       # an empty directory for configuration and logs
    port: int

    @property
    def url(self):
        return f"127.0.0.1:{self.port}"

    def write(self, name, text):
        path = os.path.join(self.scratch, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def directory(self, name):
        """One that a daemon which does not stay root can write to."""
        path = os.path.join(self.scratch, name)
        os.mkdir(path)
        if machine.is_root():
            os.chown(path, pwd.getpwnam(NOBODY).pw_uid, -1)
        return path


@dataclass
class Command:
    argv: list
    stdin: str = None
    stdout: str = None


@dataclass
class Peer:
    name: str
    programs: list      # what has to be there
    packages: list      # the Debian packages that bring it
    listener: object    # Place -> Command
    client: object      # Place -> Command
    listener_sends: bool = False  # the client fetches
    listener_ends: bool = False   # after one transfer; the file is complete when it has ended
    ends_before_done: bool = False  # it ends by itself, but the client's word counts
    verified: str = "no"  # what was compared when it says that it is done
    durable: str = "no"   # what was on stable storage then
    report: object = None  # (place, record): adds figures that the peer itself printed

    def missing(self):
        return [name for name in self.programs if not os.path.isabs(name) and
                not machine.find_program(name)]


def _program(name):
    return machine.find_program(name) or name


# ---------------------------------------------------------------------- one function for each side


def _rsync_listener(place):
    identity = "uid = 0\ngid = 0\n" if machine.is_root() else ""
    config = place.write("rsync.conf", "use chroot = no\nreverse lookup = no\n" + identity +
                         f"[in]\npath = {os.path.dirname(place.target)}\nread only = no\n")
    return Command([_program("rsync"), "--daemon", "--no-detach", "--config=" + config,
                    "--address=127.0.0.1", f"--port={place.port}"])


def _rsync_client(place):
    return Command([_program("rsync"), "-W", "--inplace", place.source,
                    f"rsync://{place.url}/in/{os.path.basename(place.target)}"])


def _nc_listener(place):
    return Command([_program("nc"), "-l", "127.0.0.1", str(place.port)], stdout=place.target)


def _nc_client(place):
    return Command([_program("nc"), "-N", "127.0.0.1", str(place.port)], stdin=place.source)


def _socat_listener(place):
    return Command([_program("socat"), "-u", "-b", str(MIB),
                    f"TCP-LISTEN:{place.port},bind=127.0.0.1,reuseaddr", "CREATE:" + place.target])


def _socat_client(place):
    return Command([_program("socat"), "-u", "-b", str(MIB), f"OPEN:{place.source},rdonly",
                    "TCP:" + place.url])


def _mbuffer_listener(place):
    return Command([_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-I", place.url,
                    "-o", place.target])


def _mbuffer_client(place):
    return Command([_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-i", place.source,
                    "-O", place.url])


def _gridftp_listener(place):
    # It does not serve anonymous users as root.
    identity = ["-anonymous-user", NOBODY] if machine.is_root() else []
    return Command([_program("globus-gridftp-server"), "-no-detach", "-aa", *identity,
                    "-p", str(place.port), "-control-interface", "127.0.0.1",
                    "-data-interface", "127.0.0.1"])


def _gridftp_client(place):
    return Command([_program("globus-url-copy"), "-p", "1", "-bs", str(MIB),
                    "file://" + place.source, f"ftp://{place.url}{place.target}"])


def _nginx_listener(place):
    temporary = "".join(f"{name}_temp_path {place.scratch}/{name};\n" for name in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;\n" if machine.is_root() else ""
    config = place.write("nginx.conf", (
        f"{user}worker_processes 1;\npid {place.scratch}/nginx.pid;\n"
        f"error_log {place.scratch}/nginx.log;\ndaemon off;\nevents {{}}\nhttp {{\n{temporary}"
        f"access_log off;\nsendfile on;\nsendfile_max_chunk 2m;\ntcp_nopush on;\n"
        f"server {{ listen {place.url}; root {os.path.dirname(place.source)}; }}\n}}\n"))
    return Command([_program("nginx"), "-c", config, "-p", place.scratch, "-e",
                    os.path.join(place.scratch, "nginx.log")])


def _curl_client(place):
    return Command([_program("curl"), "-s", "-S", "-f", "--noproxy", "*", "-o", place.target,
                    f"http://{place.url}/{os.path.basename(place.source)}"])


def _xrootd_listener(place):
    own = place.directory("xrootd")
    config = place.write("xrootd.conf", (
        f"xrd.port {place.port}\nxrd.network nodnr\nall.export {os.path.dirname(place.source)}\n"
        f"all.adminpath {own}\nall.pidpath {own}\n"))
    identity = ["-R", NOBODY] if machine.is_root() else []
    return Command([_program("xrootd"), *identity, "-c", config, "-l", os.path.join(own, "log")])


def _xrdcp_client(place):
    return Command([_program("xrdcp"), "-f", "-s", f"root://{place.url}/{place.source}", place.target])


PEERS = [
    Peer("rsync", ["rsync"], ["rsync"], _rsync_listener, _rsync_client,
         verified="digest of the file as sent against as received"),
    Peer("nc", ["nc"], ["netcat-openbsd"], _nc_listener, _nc_client, listener_ends=True),
    Peer("socat", ["socat"], ["socat"], _socat_listener, _socat_client, listener_ends=True),
    Peer("mbuffer", ["mbuffer"], ["mbuffer"], _mbuffer_listener, _mbuffer_client,
         listener_ends=True),
    Peer("globus-url-copy", ["globus-gridftp-server", "globus-url-copy"],
         ["globus-gridftp-server-progs", "globus-gass-copy-progs"], _gridftp_listener,
         _gridftp_client),
    Peer("nginx+curl", ["nginx", "curl"], ["nginx-light", "curl"], _nginx_listener, _curl_client,
         listener_sends=True),
    Peer("xrdcp", ["xrootd", "xrdcp"], ["xrootd-server", "xrootd-client"], _xrootd_listener,
         _xrdcp_client, listener_sends=True),
]


def zerohaul(command, name="zerohaul", options=()):
    """The whole command as a peer, with a key of its own for each trial."""

    def listener(place):
        key = os.path.join(place.scratch, "key")
        subprocess.run([command, "keygen", "--output=" + key], check=True, capture_output=True)
        return Command([command, "serve", "--root=" + os.path.dirname(place.target), "--key=" + key,
                        "--listen=" + place.url, "--once"])

    def client(place):
        return Command([command, "copy", "--json", "--streams=1", *options,
                        "--key=" + os.path.join(place.scratch, "key"), place.source,
                        f"zh://{place.url}/{os.path.basename(place.target)}"],
                       stdout=os.path.join(place.scratch, "report"))

    def report(place, record):
        with open(os.path.join(place.scratch, "report"), encoding="utf-8") as file:
            said = json.load(file)["report"]
        for side in machine.SIDES:
            record[f"reported_{side}_cpu"] = said[side]["cpu_s_per_gb"]
            record[f"{side}_rss"] = said[side]["max_rss_bytes"] / MIB
        record["rss"] = max(record["sender_rss"], record["receiver_rss"])
        record["note"] = " > ".join(said[side]["stats"]["strategy"] for side in machine.SIDES)
        record["limited_by"] = said["limited_by"]
        if any(said[side]["stats"]["demotions"] for side in machine.SIDES):
            record["note"] += " (demoted)"

    return Peer(name, [command], [], listener, client, ends_before_done=True,
                verified="no" if "--verify=none" in options else "digest of each MiB, both sides",
                durable="no" if "--durability=none" in options else "data and name", report=report)


# ---------------------------------------------------------------------- a whole transfer


def run(peer, source, directory, accounts, cpus=None, sync=False):
    """
    One transfer of source into directory, which exists and is emptied afterwards. cpus: side -> CPU, or
    None. sync: the file system is synced inside of the timed part. Returns figures; TrialError if there are
    none, also when the file that arrived is another one.
    """
    size = os.path.getsize(source)
    patience = 60 + size / 20e6
    scratch = os.path.join(directory, "scratch")
    inside = os.path.join(directory, "in")
    for path, mode in ((scratch, 0o755), (inside, 0o777)):
        os.mkdir(path)
        os.chmod(path, mode)
    cpus = cpus or {}
    place = Place(source, os.path.join(inside, "big"), scratch, machine.free_port())
    listener_side, client_side = ("sender", "receiver") if peer.listener_sends else \
        ("receiver", "sender")
    running = []

    def start(command, side, log):
        process = machine.Process(command.argv, side, accounts, cpus.get(side), command.stdin,
                                  command.stdout, os.path.join(scratch, log))
        running.append(process)
        return process

    try:
        begun = time.monotonic()
        before_listener = {side: accounts.used(side) for side in machine.SIDES}
        listener = start(peer.listener(place), listener_side, "listener.log")
        machine.wait_for_listener(listener, place.port)
        ready = time.monotonic() - begun
        machine.sync_file_system(directory)
        machine.warm(source)
        before = {side: accounts.used(side) for side in machine.SIDES} if accounts.counter else \
            before_listener
        begun = time.monotonic()
        start(peer.client(place), client_side, "client.log").succeed(patience)
        if peer.listener_ends:
            listener.succeed(patience)
        if sync:
            start(Command(["sync", "-f", place.target]), "receiver", "sync.log").succeed(patience)
        seconds = time.monotonic() - begun
        if peer.ends_before_done:
            listener.succeed(30)
        if not accounts.counter:
            listener.stop()
            accounts.end_orphans(listener_side)
        used = {side: accounts.used(side) - before[side] for side in machine.SIDES}
        listener.stop()
        if not machine.same(source, place.target):
            raise machine.WrongFile("WRONG FILE: what arrived is not what was sent")
        gigabytes = size / 1e9
        record = {"seconds": seconds, "rate": gigabytes / seconds, "listener_start_s": ready,
                  "sender_cpu": used["sender"] / gigabytes,
                  "receiver_cpu": used["receiver"] / gigabytes,
                  "cpu": sum(used.values()) / gigabytes,
                  "verified": peer.verified,
                  "durable": peer.durable + (", then sync -f" if sync else "")}
        if peer.report:
            peer.report(place, record)
        return record
    finally:
        for process in reversed(running):
            process.stop()
        if not accounts.counter:
            accounts.end_orphans(listener_side)
        for side in machine.SIDES:
            accounts.end_all(side)
        for path in (inside, scratch):
            shutil.rmtree(path, ignore_errors=True)
