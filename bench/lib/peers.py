# SPDX-License-Identifier: Apache-2.0
"""
Programs that bring a file, or a directory with all that is in it, from one place to another, and one way
of running each of them on loopback: a listener that is freshly started, and a client. zerohaul is one of
them; cp is the reference without a network. What a transfer costs is measured by transfer.py.
"""

import dataclasses
import functools
import json
import os
import pwd
import shlex
import subprocess
from dataclasses import dataclass

import machine
from machine import MIB

NOBODY = "nobody"


@dataclass
class Place:
    """Where a trial happens."""
    source: str        # the file, or the directory
    target: str        # what is to come to be, in a directory of its own
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
    listener: object    # Place -> Command; None: there is none
    client: object      # Place -> Command
    listener_sends: bool = False  # the client fetches
    listener_ends: bool = False   # after one transfer; the file is complete when it has ended
    ends_before_done: bool = False  # it ends by itself, but the client's word counts
    verified: str = "no"  # what was compared when it says that it is done
    durable: str = "no"   # what was on stable storage then
    report: object = None  # (place, record): adds figures that the peer itself printed
    refusal: str = None   # in its last words: what was asked for cannot be had here
    trees: object = "knows no directories"  # (listener, client) for a directory, or why there are none

    def for_trees(self):
        """The same program for directories; only for one that has trees."""
        listener, client = self.trees
        return dataclasses.replace(self, listener=listener, client=client)

    def missing(self):
        return [name for name in self.programs if not os.path.isabs(name) and
                not machine.find_program(name)]


def _program(name):
    return machine.find_program(name) or name


# ---------------------------------------------------------------------- one function for each side


def _rsync_listener(place):
    # outside of a chroot it rewrites what symbolic links say
    as_root = "use chroot = yes\nnumeric ids = yes\nuid = 0\ngid = 0\n"
    manner = as_root if machine.is_root() else "use chroot = no\n"
    config = place.write("rsync.conf", "munge symlinks = no\nreverse lookup = no\n" + manner +
                         f"[in]\npath = {os.path.dirname(place.target)}\nread only = no\n")
    return Command([_program("rsync"), "--daemon", "--no-detach", "--config=" + config,
                    "--address=127.0.0.1", f"--port={place.port}"])


def _rsync_client(place):
    return Command([_program("rsync"), "-W", "--inplace", place.source,
                    f"rsync://{place.url}/in/{os.path.basename(place.target)}"])


def _rsync_tree_client(place):
    return Command([_program("rsync"), "-r", "-W", place.source, f"rsync://{place.url}/in/"])


def _rsync_archive_client(place):
    return Command([_program("rsync"), "-a", place.source, f"rsync://{place.url}/in/"])


def _tar_to(place, sender):
    """A client that is given what tar packs."""
    return Command(["sh", "-c", shlex.join(["tar", "-C", os.path.dirname(place.source), "-cf", "-",
                                            os.path.basename(place.source)]) +
                    " | " + shlex.join(sender)])


def _tar_from(place, receiver):
    """A listener that gives what it gets to tar."""
    return Command(["sh", "-c", shlex.join(receiver) + " | " +
                    shlex.join(["tar", "-C", os.path.dirname(place.target), "-xf", "-"])])


def _nc_listener(place):
    return Command([_program("nc"), "-l", "127.0.0.1", str(place.port)], stdout=place.target)


def _nc_client(place):
    return Command([_program("nc"), "-N", "127.0.0.1", str(place.port)], stdin=place.source)


_NC_TREES = (lambda place: _tar_from(place, _nc_listener(place).argv),
             lambda place: _tar_to(place, _nc_client(place).argv))


def _socat_listener(place):
    return Command([_program("socat"), "-u", "-b", str(MIB),
                    f"TCP-LISTEN:{place.port},bind=127.0.0.1,reuseaddr", "CREATE:" + place.target])


def _socat_client(place):
    return Command([_program("socat"), "-u", "-b", str(MIB), f"OPEN:{place.source},rdonly",
                    "TCP:" + place.url])


_SOCAT_TREES = (
    lambda place: _tar_from(place, [_program("socat"), "-u", "-b", str(MIB),
                                    f"TCP-LISTEN:{place.port},bind=127.0.0.1,reuseaddr", "STDOUT"]),
    lambda place: _tar_to(place, [_program("socat"), "-u", "-b", str(MIB), "STDIN", "TCP:" + place.url]))


def _mbuffer_listener(place):
    return Command([_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-I", place.url,
                    "-o", place.target])


def _mbuffer_client(place):
    return Command([_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-i", place.source,
                    "-O", place.url])


_MBUFFER_TREES = (
    lambda place: _tar_from(place, [_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-I", place.url]),
    lambda place: _tar_to(place, [_program("mbuffer"), "-q", "-m", "64M", "-s", "1M", "-O", place.url]))


def _gridftp_listener(place):
    # It does not serve anonymous users as root.
    identity = ["-anonymous-user", NOBODY] if machine.is_root() else []
    return Command([_program("globus-gridftp-server"), "-no-detach", "-aa", *identity,
                    "-p", str(place.port), "-control-interface", "127.0.0.1",
                    "-data-interface", "127.0.0.1"])


def _gridftp_client(place):
    return Command([_program("globus-url-copy"), "-p", "1", "-bs", str(MIB),
                    "file://" + place.source, f"ftp://{place.url}{place.target}"])


def _gridftp_tree_client(place):
    return Command([_program("globus-url-copy"), "-p", "1", "-bs", str(MIB), "-r", "-cd",
                    f"file://{place.source}/", f"ftp://{place.url}{place.target}/"])


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


def _aria2_client(place):
    """It would take a proxy, a netrc and a configuration from its environment."""
    return Command([_program("aria2c"), "--no-conf", "--no-netrc", "--all-proxy=", "--quiet",
                    "--file-allocation=none", "--allow-overwrite=true", "--auto-file-renaming=false",
                    "--dir=" + os.path.dirname(place.target), "--out=" + os.path.basename(place.target),
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


def _xrdcp_tree_client(place):
    return Command([_program("xrdcp"), "-f", "-s", "-r", f"root://{place.url}/{place.source}",
                    os.path.dirname(place.target) + "/"])


# sshd wants an empty directory that a service would have made for it. It gets one that nobody else sees.
_SSHD_ALONE = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"'


def _sshd_listener(place):
    """A server of its own, with keys that live as long as the trial: the machine's own is not asked."""
    keys = {}
    for name in ("host", "user"):
        keys[name] = os.path.join(place.scratch, name)
        subprocess.run([_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", name, "-f",
                        keys[name]], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    known = place.write("known", f"[127.0.0.1]:{place.port} " + machine.read_text(keys["host"] + ".pub"))
    config = place.write("sshd.conf", (
        f"Port {place.port}\nListenAddress 127.0.0.1\nHostKey {keys['host']}\n"
        f"AuthorizedKeysFile {keys['user']}.pub\nStrictModes no\nPidFile none\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "PermitUserRC no\nSubsystem sftp internal-sftp\n"))
    place.write("ssh.conf", (
        f"Host peer\nHostName 127.0.0.1\nPort {place.port}\nIdentityFile {keys['user']}\n"
        f"IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {known}\n"
        "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nUpdateHostKeys no\nBatchMode yes\n"
        "LogLevel ERROR\n"))
    server = [_program("sshd"), "-D", "-e", "-f", config]
    alone = machine.is_root() and not os.path.isdir("/run/sshd")
    return Command(["unshare", "--mount", "sh", "-c", _SSHD_ALONE, "sh", *server] if alone else server)


def _ssh_config(place):
    return os.path.join(place.scratch, "ssh.conf")


def _scp_client(place):
    return Command([_program("scp"), "-q", "-F", _ssh_config(place), place.source, "peer:" + place.target])


def _scp_tree_client(place):
    return Command([_program("scp"), "-q", "-r", "-F", _ssh_config(place), place.source,
                    f"peer:{os.path.dirname(place.target)}/"])


def _rsync_ssh(place, *arguments):
    shell = shlex.join([_program("ssh"), "-F", _ssh_config(place)])
    return Command([_program("rsync"), "-W", "-e", shell, *arguments])


def _rsync_ssh_client(place):
    return _rsync_ssh(place, "--inplace", place.source, "peer:" + place.target)


def _rsync_ssh_tree_client(place):
    return _rsync_ssh(place, "-r", place.source, f"peer:{os.path.dirname(place.target)}/")


def _cp_client(place):
    return Command(["cp", place.source, place.target])


def _cp_tree_client(place):
    return Command(["cp", "-r", place.source, os.path.dirname(place.target) + "/"])


_FILE_DIGEST = "digest of the file as sent against as received"

# Those that the bounds of bench/compare are about: over a network, one connection, not encrypted.
PEERS = [
    Peer("rsync", ["rsync"], ["rsync"], _rsync_listener, _rsync_client, verified=_FILE_DIGEST,
         trees=(_rsync_listener, _rsync_tree_client)),
    Peer("nc", ["nc"], ["netcat-openbsd"], _nc_listener, _nc_client, listener_ends=True,
         trees=_NC_TREES),
    Peer("socat", ["socat"], ["socat"], _socat_listener, _socat_client, listener_ends=True,
         trees=_SOCAT_TREES),
    Peer("mbuffer", ["mbuffer"], ["mbuffer"], _mbuffer_listener, _mbuffer_client,
         listener_ends=True, trees=_MBUFFER_TREES),
    Peer("globus-url-copy", ["globus-gridftp-server", "globus-url-copy"],
         ["globus-gridftp-server-progs", "globus-gass-copy-progs"], _gridftp_listener,
         _gridftp_client, trees=(_gridftp_listener, _gridftp_tree_client)),
    Peer("nginx+curl", ["nginx", "curl"], ["nginx-light", "curl"], _nginx_listener, _curl_client,
         listener_sends=True),
    Peer("xrdcp", ["xrootd", "xrdcp"], ["xrootd-server", "xrootd-client"], _xrootd_listener,
         _xrdcp_client, listener_sends=True, trees=(_xrootd_listener, _xrdcp_tree_client)),
]

_SSH = (["ssh", "sshd", "ssh-keygen"], ["openssh-client", "openssh-server"])

# What people use as well.
OTHERS = [
    Peer("rsync over ssh", ["rsync", *_SSH[0]], ["rsync", *_SSH[1]], _sshd_listener, _rsync_ssh_client,
         verified=_FILE_DIGEST + "; encrypted", trees=(_sshd_listener, _rsync_ssh_tree_client)),
    Peer("scp", ["scp", *_SSH[0]], _SSH[1], _sshd_listener, _scp_client,
         verified="each packet on the way; encrypted", trees=(_sshd_listener, _scp_tree_client)),
    Peer("nginx+aria2", ["nginx", "aria2c"], ["nginx-light", "aria2"], _nginx_listener, _aria2_client,
         listener_sends=True,
         trees="knows no directories, and syncs a control file for each file of a list: minutes"),
    Peer("cp", ["cp"], ["coreutils"], None, _cp_client, trees=(None, _cp_tree_client)),
]

# What bench/compare holds a directory against: rsync as it is called by those who want a copy of a tree.
RSYNC_ARCHIVE = Peer("rsync -a", ["rsync"], ["rsync"], _rsync_listener, _rsync_archive_client, verified=_FILE_DIGEST)
CP_TREES = Peer("cp -r", ["cp"], ["coreutils"], None, _cp_tree_client)


@functools.lru_cache
def _takes_trees(command):
    shown = subprocess.run([command, "copy", "--help"], check=True, capture_output=True)
    return "--recursive" in shown.stdout.decode()


def zerohaul(command, name="zerohaul", options=()):
    """The whole command as a peer, with a key of its own for each trial."""

    def listener(place):
        key = os.path.join(place.scratch, "key")
        subprocess.run([command, "keygen", "--output=" + key], check=True, capture_output=True)
        return Command([command, "serve", "--root=" + os.path.dirname(place.target), "--key=" + key,
                        "--listen=" + place.url, "--once"])

    def copy(place, *arguments):
        return Command([command, "copy", "--json", *options, "--key=" + os.path.join(place.scratch, "key"),
                        *arguments], stdout=os.path.join(place.scratch, "report"))

    def client(place):
        return copy(place, place.source, f"zh://{place.url}/{os.path.basename(place.target)}")

    def tree_client(place):
        return copy(place, "--recursive", place.source, f"zh://{place.url}/")

    def report(place, record):
        with open(os.path.join(place.scratch, "report"), encoding="utf-8") as file:
            said = json.load(file)["report"]
        for side in machine.SIDES:
            record[f"reported_{side}_cpu"] = said[side]["cpu_s_per_gb"]
            record[f"{side}_rss"] = said[side]["max_rss_bytes"] / MIB
            record[f"{side}_strategy"] = said[side]["stats"]["strategy"] or None  # small files need none
        record["rss"] = max(record["sender_rss"], record["receiver_rss"])
        record["note"] = " > ".join(record[side + "_strategy"] or "none" for side in machine.SIDES)
        record["limited_by"] = said["limited_by"]
        if any(said[side]["stats"]["demotions"] for side in machine.SIDES):
            record["note"] += " (demoted)"

    return Peer(name, [command], [], listener, client, ends_before_done=True,
                verified="no" if "--verify=none" in options else "digest of each MiB, both sides",
                durable="no" if "--durability=none" in options else "data and name", report=report,
                refusal="strategy cannot be used", trees=(listener, tree_client) if _takes_trees(command) else
                "this zerohaul has no copy --recursive")
