#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
zerohaul bench between two hosts: network namespaces of their own (bench/lib/veth.py), joined by Ethernet of a
known MTU, with and without a limit of rate. Needs root; nothing is done to the namespace of this host.
usage: two_hosts.py [TEST...]
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile

from scene import COMMAND, MIB, OK, Failure, Skip, check, chosen, run_tests

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[1:1] = [os.path.join(TOP, "bench", "lib"), os.path.join(TOP, "tests", "cli")]

import check_schema  # noqa: E402
import veth  # noqa: E402

GIGABIT = 125e6     # bytes per second
TIMESTAMPS = 12     # of TCP, in each segment
HEADERS = 40        # of IPv4 and TCP


def trial_schema():
    with open(os.path.join(TOP, "bench", "schema", "trial.json"), encoding="utf-8") as file:
        return json.load(file)


class Pair:
    """Benches from one host against a server for measuring on the other, which is at url."""

    def __init__(self, hosts, directory, key, url):
        self.hosts, self.directory, self.key, self.url = hosts, directory, key, url

    def bench(self, *options):
        """The records of a bench in which nothing fails."""
        done = subprocess.run(
            self.hosts.inside("tx", [COMMAND, "bench", "--key", self.key, "--json", *options, self.url]),
            capture_output=True, check=False, timeout=120, env=dict(os.environ, TMPDIR=self.directory))
        err = done.stderr.decode(errors="backslashreplace")
        check(done.returncode == OK and not err, f"status {done.returncode}: {err}")
        found = [json.loads(line, object_pairs_hook=check_schema.unique) for line in done.stdout.splitlines()]
        for record in found:
            checker = check_schema.Checker(trial_schema())
            checker.check(checker.root, record, "")
            check(not checker.problems, "; ".join(checker.problems[:3]))
            check(record["status"] == "ok", f"{record['cell']['id']}: {record['error']}")
        return found


@contextlib.contextmanager
def pair_of(mtu=1500, rate=None):
    with tempfile.TemporaryDirectory(prefix="zerohaul-net.", dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        key = os.path.join(directory, "key")
        subprocess.run([COMMAND, "keygen", "--output", key], check=True, stdout=subprocess.DEVNULL)
        try:
            with veth.two_hosts(mtu) as hosts:
                if rate:
                    hosts.limit(rate)
                with hosts.server(COMMAND, key, log=None) as url:
                    yield Pair(hosts, directory, key, url)
        except veth.NoHosts as error:
            raise Skip(str(error)) from None
        except veth.NoServer as error:
            raise Failure(str(error)) from None
        check(os.listdir(directory) == ["key"], f"left behind: {os.listdir(directory)}")


def mine():
    """Namespaces of this process that are there."""
    done = subprocess.run([veth.program("ip"), "netns", "list"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith(f"zerohaul.{os.getpid()}.")]


def both_hosts_are_in_each_record():
    with pair_of() as pair:
        found = pair.bench("--strategies=copy,sendfile", "--chunks=256K", "--size=32M", "--rounds=2")
    check(len(found) == 4, f"{len(found)} records")
    for record in found:
        for side in ("tx", "rx"):
            check(record[side]["cpu_ns"] > 0 and record[side]["syscalls"], f"nothing about {side}")
        check(record["bytes"] == 32 * MIB and record["cell"]["path"] == "remote", str(record["cell"]))
        check(record["tcp"]["busy_us"] > 0 and record["tcp"]["segments_out"] > 32 * MIB // 65536,
              str(record["tcp"]))
        check(record["remote"]["rx_tcp"]["segments_out"] > 0, "the receiver has sent nothing")
        check(0 < record["time"]["acked_s"] < record["remote"]["elapsed_s"], str(record["time"]))


def segments_are_those_of_the_ethernet():
    for mtu in (1500, 9000):
        with pair_of(mtu) as pair:
            for record in pair.bench("--strategies=sendfile", "--chunks=256K", "--size=8M", "--rounds=1"):
                for mss in (record["effective"]["mss"], record["tcp"]["mss"], record["remote"]["rx_tcp"]["mss"]):
                    check(mss == mtu - HEADERS - TIMESTAMPS, f"MTU {mtu}: {mss}")


def a_gigabit_is_not_exceeded_and_is_named_as_the_limit():
    with pair_of(rate="1gbit") as pair:
        found = pair.bench("--strategies=copy,sendfile", "--chunks=256K", "--size=64M", "--rounds=2")
    for record in found:
        rate, remote = record["throughput_Bps"], record["remote"]
        print(f"# {record['cell']['strategy']}: {rate / 1e6:.1f} MB/s, {record['tcp']['retransmits']} resent, "
              f"{remote['limited_by']}: {remote['limit_evidence']}")
        check(0.3 * GIGABIT < rate < GIGABIT, f"{rate / 1e6:.1f} MB/s")
        check(remote["limited_by"] == "network", f"{remote['limited_by']}: {remote['limit_evidence']}")


def nothing_of_the_hosts_is_left_after_a_failure():
    try:
        with pair_of() as pair:
            check(len(mine()) == 2, f"there are {mine()}")
            pair.bench("--strategies=copy", "--chunks=64K", "--size=1M", "--rounds=1", "--congestion=nowhere")
    except Failure as failure:
        check("nowhere" in str(failure), str(failure))
    else:
        raise Failure("it did not fail")
    check(not mine(), f"there are {mine()}")


TESTS = [
    both_hosts_are_in_each_record,
    segments_are_those_of_the_ethernet,
    a_gigabit_is_not_exceeded_and_is_named_as_the_limit,
    nothing_of_the_hosts_is_left_after_a_failure,
]

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(run_tests(chosen(TESTS)))
