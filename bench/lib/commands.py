# SPDX-License-Identifier: Apache-2.0
"""
The cells of bench/peers: one whole command that brings one large file, or a directory of small ones, to a
sink. Three blocks: "large" and "small" have every program, "strategies" has the large file by each of
zerohaul's strategies, named and without fallback, so that no figure is one of something else.
"""

import json
import subprocess
from dataclasses import dataclass

import machine
import peers

# What counts as arrived: bytes in memory, in the page cache of a disk, or on the disk.
SINKS = {"tmpfs": "tmpfs", "disk": "disk", "durable": "disk+syncfs"}
BLOCKS = {"large": "one large file, by every program",
          "strategies": "one large file, by each strategy of zerohaul",
          "small": "many small files, by every program that has trees"}
DEFAULT = "zerohaul"
# By default only what says most: what the disk hides is seen in memory, what memory cannot do is on disk.
USUAL_SINKS = {"large": ["tmpfs", "durable"], "strategies": ["durable"], "small": ["durable"]}


@dataclass
class Cell:
    block: str
    peer: peers.Peer
    sink: str          # a key of SINKS

    @property
    def id(self):
        return f"{self.block}: {self.peer.name} > {SINKS[self.sink]}"

    @property
    def small(self):
        return self.block == "small"

    @property
    def durable(self):
        return "no, tmpfs" if self.sink == "tmpfs" else \
            self.peer.durable + (", then sync -f" if self.sync else "")

    @property
    def sync(self):
        """Who does not see to it himself has the file system synced after him."""
        return self.sink == "durable" and self.peer.durable == "no"


@dataclass
class LeftOut:
    block: str
    name: str
    why: str


def zerohaul_peers(command):
    """block -> zerohaul as the programs of that block."""
    plain = ["--strategy=copy", "--receive-strategy=copy", "--no-fallback"]
    whole = [peers.zerohaul(command, DEFAULT),
             peers.zerohaul(command, "zerohaul --verify=none", ["--verify=none"]),
             peers.zerohaul(command, "zerohaul copy > copy", plain)]
    shown = subprocess.run([command, "probe", "--json"], check=True, capture_output=True).stdout
    named = [peers.zerohaul(command, DEFAULT)]
    for row in json.loads(shown)["strategies"]:
        sends = row["side"] == "send"
        if row["name"] == "discard":
            continue
        name = f"zerohaul {row['name']} > planned" if sends else f"zerohaul planned > {row['name']}"
        option = ("--strategy=" if sends else "--receive-strategy=") + row["name"]
        named.append(peers.zerohaul(command, name, [option, "--no-fallback"]))
    return {"large": whole, "small": whole, "strategies": named}


def everybody():
    return peers.PEERS + peers.OTHERS


def cells(command, blocks, sinks, only):
    """
    ([cells], [what is left out]). sinks: keys of SINKS, or none for the usual ones; only: parts of names,
    or none for all. zerohaul's default is in every block: the others are compared with it.
    """
    made, left_out = [], []
    ours = zerohaul_peers(command)
    names = {peer.name for peer in [*everybody(), *(peer for block in blocks for peer in ours[block])]}
    for part in only or []:
        if not any(part in name for name in names):
            raise SystemExit(f"bench/peers: --only {part} is in no name; see --list")
    for block in blocks:
        for peer in ours[block] + (everybody() if block != "strategies" else []):
            if only and peer.name != DEFAULT and not any(part in peer.name for part in only):
                continue
            why = None
            if peer.missing():
                why = f"there is no {' or '.join(peer.missing())}"
            elif block == "small" and isinstance(peer.trees, str):
                why = peer.trees
            if why:
                left_out.append(LeftOut(block, peer.name, why))
                continue
            made += [Cell(block, peer.for_trees() if block == "small" else peer, sink)
                     for sink in sinks or USUAL_SINKS[block]]
    return made, left_out


def packages(blocks, only):
    """The Debian packages of the programs that are missing."""
    if set(blocks) == {"strategies"}:
        return set()
    return {package for peer in everybody() if peer.missing() and
            (not only or any(part in peer.name for part in only)) for package in peer.packages}


def missing_hyperfine():
    return set() if machine.find_program("hyperfine") else {"hyperfine"}
