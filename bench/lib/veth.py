# SPDX-License-Identifier: Apache-2.0
"""
Two hosts on this one: network namespaces that are joined by a pair of virtual Ethernet devices. Devices, addresses,
queueing disciplines and what TCP remembers of a path are theirs and go with them; the namespace of this host
has nothing of it.
"""

import contextlib
import os
import shutil
import subprocess

ADDRESS = {"tx": "192.0.2.1", "rx": "192.0.2.2"}  # of those for documentation: no network has them
DEVICE = "eth0"


class NoHosts(Exception):
    """They cannot be had here; the text says why."""


class NoServer(Exception):
    """The server on one of them does not do what it should; the text says what."""


def program(name):
    """Also where not everybody's PATH leads."""
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    found = shutil.which(name, path=path)
    if not found:
        raise NoHosts(f"there is no {name} (iproute2)")
    return found


def call(*words):
    done = subprocess.run([program(words[0]), *words[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoHosts(f"{' '.join(words)}: {done.stderr.strip()}")


class Hosts:
    """side: "tx" or "rx"."""

    def __init__(self, names):
        self.names = names

    def inside(self, side, argv):
        """The command line that runs argv on that host; it becomes the process of argv."""
        return [program("ip"), "netns", "exec", self.names[side], *argv]

    def limit(self, rate, burst="128kb", latency="5ms"):
        """What leaves the sender is let through by a token bucket; what would wait longer is dropped."""
        call("tc", "-n", self.names["tx"], "qdisc", "replace", "dev", DEVICE, "root", "tbf", "rate", rate,
             "burst", burst, "latency", latency)

    @contextlib.contextmanager
    def server(self, command, key, log=subprocess.DEVNULL):
        """A server for measuring on the receiver, of which this yields the location; log: as stderr of Popen."""
        argv = [command, "serve", "--bench", "--key", key, "--listen", ADDRESS["rx"] + ":0"]
        with subprocess.Popen(self.inside("rx", argv), stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                line = process.stdout.readline().split()
                if line[:1] != ["listening"]:
                    raise NoServer("the server does not listen")
                yield f"zh://{line[1]}/"
            finally:
                process.terminate()
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise NoServer("the server does not end") from None
            if process.returncode != 0:
                raise NoServer(f"the server ended with status {process.returncode}")


@contextlib.contextmanager
def two_hosts(mtu=1500):
    """Yields Hosts; NoHosts if there can be none. Processes on them have to be ended before."""
    if os.geteuid() != 0:
        raise NoHosts("network namespaces need root")
    names = {side: f"zerohaul.{os.getpid()}.{side}" for side in ADDRESS}
    with contextlib.ExitStack() as stack:
        for name in names.values():
            call("ip", "netns", "add", name)
            stack.callback(call, "ip", "netns", "del", name)
        call("ip", "-n", names["tx"], "link", "add", DEVICE, "mtu", str(mtu), "type", "veth",
             "peer", "name", DEVICE, "mtu", str(mtu), "netns", names["rx"])
        for side, name in names.items():
            call("ip", "-n", name, "address", "add", ADDRESS[side] + "/24", "dev", DEVICE)
            for device in ("lo", DEVICE):
                call("ip", "-n", name, "link", "set", device, "up")
        yield Hosts(names)
