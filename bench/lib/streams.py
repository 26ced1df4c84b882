# SPDX-License-Identifier: Apache-2.0
"""
The cells and the bound of bench/compare about several data connections where one is not enough: between two network
namespaces, each connection limited to 1 Gb/s. The limit is the kernel's own pacing of a socket (SO_MAX_PACING_RATE,
which needs no queueing discipline for TCP): it holds for each connection by itself, whatever others do, and drops
nothing, so it is a policed path at its kindest. Nothing is stored, and the time is from the first piece of the
file to its acknowledgement.
"""

import os
import subprocess

import machine
import veth
from figures import Bound
from machine import MIB, TrialError, say

BYTES = 512 * MIB
GIGABIT = "125MB"  # a second, as --pacing has it
ONE, FOUR = (f"zerohaul --streams={count}, each 1 Gb/s > veth" for count in (1, 4))
CELLS = {ONE, FOUR}


def bounds():
    return [Bound("streams-veth", "rate by 4 streams against 1 where each connection has 1 Gb/s", 3.50, "rate",
                  [FOUR], [ONE], at_least=True)]


class Streams:
    """scene: of trials.py"""

    def __init__(self, scene):
        self.scene = scene
        self.source, self.key = (os.path.join(scene.base, name) for name in ("paced", "paced.key"))

    def prepare(self, generator):
        machine.make_file(self.source, min(BYTES, self.scene.size), generator)
        subprocess.run([self.scene.command, "keygen", "--output", self.key], check=True,
                       stdout=subprocess.DEVNULL)

    def move(self, count):
        words = [self.scene.command, "copy", "--json", "--key", self.key, f"--streams={count}",
                 "--pacing=" + GIGABIT, "--congestion=" + self.scene.congestion, "--receive-strategy=discard",
                 "--verify=none", "--durability=none", self.source]
        machine.warm(self.source)
        try:
            with veth.two_hosts() as hosts, hosts.server(self.scene.command, self.key) as url:
                done = subprocess.run(hosts.inside("tx", [*words, url]), capture_output=True, check=False,
                                      timeout=300)
        except (veth.NoHosts, veth.NoServer) as error:
            raise TrialError(str(error)) from None
        said = machine.json_of(done.stdout, "zerohaul copy")
        if done.returncode != 0:
            raise TrialError(said["error"]["text"] if said["error"] else f"status {done.returncode}")
        report = said["report"]
        gigabytes, seconds = report["bytes"] / 1e9, report["moving_ns"] / 1e9
        sender, receiver = report["sender"]["cpu_s_per_gb"], report["receiver"]["cpu_s_per_gb"]
        return {"seconds": seconds, "rate": gigabytes / seconds, "sender_cpu": sender, "receiver_cpu": receiver,
                "cpu": sender + receiver, "note": report["sender"]["stats"]["strategy"] + " > discard"}

    def cells(self):
        """All that can be made here: name -> function."""
        try:
            with veth.two_hosts():
                pass
        except veth.NoHosts as error:
            say(f"left out: two hosts on this one: {error}")
            return {}
        return {name: lambda c=count: self.move(c) for name, count in ((ONE, 1), (FOUR, 4))}
