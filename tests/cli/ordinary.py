#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What an ordinary user gets: each strategy moves files without a fallback under a limit of 8 MiB of locked
memory, as many systems have it, though both ends are this user's and share it. Run by root the test
starts the command as a user that nobody else is, because the kernel adds up what all processes of a user
have locked.
"""

import json
import os
import pwd
import random
import resource
import subprocess
import sys

from matrix import strategies
from scene import COMMAND, MIB, OK, Skip, check, run_tests, same, scene_of, seed, write_random

MEMLOCK = 8 * MIB
SIZES = [MIB, 64 * MIB + 3]
NOTHING_STORED = ["--verify=none", "--durability=none"]


def ordinary_user():
    """A number that no user has; None: this process belongs to an ordinary user already."""
    if os.geteuid() != 0:
        return None
    user = 30000 + os.getpid() % 30000
    while any(one.pw_uid == user for one in pwd.getpwall()):
        user += 1
    return user


def limit_locked_memory():
    """For what is started from here. Returns why that cannot be, or None."""
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard != resource.RLIM_INFINITY and hard < MEMLOCK:
        return f"only {hard} bytes may be locked here"
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (MEMLOCK, MEMLOCK))
    return None


def covering(sends, receives):
    """Pairs in which each strategy is at least once, and each two that both lock memory for a ring."""
    count = max(len(sends), len(receives))
    pairs = [(sends[at % len(sends)], receives[at % len(receives)]) for at in range(count)]
    rings = [(send, receive) for send in sends if send.startswith("uring")
             for receive in receives if receive.startswith("uring")]
    return list(dict.fromkeys(pairs + rings))


def refusals(scene, side, source):
    """The strategies of a side that a plan refuses for a peer on this host, with the reason."""
    options = ["--receive"] if side == "receive" else []
    text = subprocess.run([COMMAND, "plan", "--json", *options, source], check=True,
                          capture_output=True, **scene.identity).stdout
    return {one["strategy"]: one["reason"] for one in json.loads(text)["plan"]["verdicts"]
            if not one["admitted"]}


def promise_of_refusal(name, why):
    def test():
        check("registered" not in why, f"{name}: {why}")
        raise Skip(why)

    test.__name__ = name
    return test


def promise(scene, pair, sources):
    send, receive = pair

    def test():
        options = NOTHING_STORED if receive == "discard" else []
        done = scene.copy("--no-fallback", "--strategy", send, "--receive-strategy", receive,
                          *options, *sources, scene.url()).has(OK)
        for side, name in (("sender", send), ("receiver", receive)):
            used = done.json["report"][side]["stats"]["strategy"]
            check(used == name, f"the {side} used {used}")
        for source in sources if receive != "discard" else []:
            arrived = os.path.join(scene.root, os.path.basename(source))
            check(same(source, arrived), f"{arrived} differs")
            os.unlink(arrived)
        scene.no_session()

    test.__name__ = f"{send} to {receive}"
    return test


def promises(scene, sources):
    refused, left = {}, []
    for side in ("send", "receive"):
        why = refusals(scene, side, sources[0])
        refused.update({f"{side} by {name}": reason for name, reason in why.items()})
        left.append([name for name in strategies(side) if name not in why])
    return [promise(scene, pair, sources) for pair in covering(*left)] + \
        [promise_of_refusal(name, why) for name, why in refused.items()]


def main():
    user, why = ordinary_user(), limit_locked_memory()
    if not why and subprocess.run(["test", "-x", COMMAND], user=user, group=user,
                                  extra_groups=None if user is None else []).returncode != 0:
        why = "an ordinary user cannot reach the command"
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    generator = random.Random(seed())
    with scene_of(user=user) as scene:
        sources = []
        for size in SIZES:
            sources.append(os.path.join(scene.local, f"file-{size}"))
            write_random(sources[-1], size, generator)
            if user is not None:
                os.chown(sources[-1], user, user)
        return run_tests(promises(scene, sources))


if __name__ == "__main__":
    sys.exit(main())
