# SPDX-License-Identifier: Apache-2.0
"""
Timing by hyperfine: one call with one run for each trial, so that the order is ours. Its results of a
whole run are put together into one file of the form that it exports itself.

Without a shell between (-N) its commands are single programs, so they are scripts of the trial's own. The
preparation ends with a copy of the counters of CPU time: what hyperfine and the preparation took is not in.
"""

import json
import os
import shlex
import statistics

import machine
from machine import TrialError
from peers import Command


def _script(place, name, lines):
    path = place.write(name, "#!/bin/sh\n" + "\n".join(lines) + "\n")
    os.chmod(path, 0o755)
    return path


def _as_shell(command, log):
    words = shlex.join(command.argv)
    if command.stdin:
        words += " <" + shlex.quote(command.stdin)
    return f"{words} >{shlex.quote(command.stdout or '/dev/null')} 2>>{shlex.quote(log)}"


def _timed_lines(transfer, log):
    """The client; with what has to be waited for after it, if there is anything."""
    lines = [_as_shell(transfer.peer.client(transfer.place), log)]
    if transfer.peer.listener_ends:
        lines.append(shlex.join(["flock", transfer.lock, "true"]))
    if transfer.sync:
        lines.append(shlex.join(["sync", "-f", transfer.place.target]))
    return ["set -e", *lines] if len(lines) > 1 else ["exec " + lines[0]]


def _why(peer, error, last_words):
    """hyperfine only says that it failed; the program itself has said why."""
    if peer.refusal and peer.refusal in last_words:
        return machine.NotHere("refused" + last_words)
    return TrialError(peer.name + " failed" + last_words) if last_words else error


def timer(results):
    """For transfer.run: a way of timing that adds what hyperfine exports to the list results."""
    def timed(transfer):
        place, accounts = transfer.place, transfer.accounts
        log, export = (os.path.join(place.scratch, name) for name in ("client.log", "export.json"))
        copies = {side: os.path.join(place.scratch, "before." + side) for side in machine.SIDES}
        snapshot = [shlex.join(["cat", accounts.counter_file(side)]) + " >" + shlex.quote(copies[side])
                    for side in machine.SIDES] if accounts.counter else []
        prepare = _script(place, "prepare", ["set -e", shlex.join(["sync", "-f", transfer.directory]),
                                             *snapshot])
        command = _script(place, "command", _timed_lines(transfer, log))
        process = transfer.start(
            Command([machine.find_program("hyperfine"), "-N", "--runs", "1", "--style", "none",
                     "--prepare", shlex.quote(prepare), "--export-json", export,
                     "--command-name", transfer.peer.name, shlex.quote(command)]),
            transfer.client_side, "hyperfine.log")
        try:
            process.succeed(transfer.patience)
        except TrialError as error:
            raise _why(transfer.peer, error, machine.last_line(log)) from None
        if transfer.peer.listener_ends:
            transfer.listener.succeed(transfer.patience)
        with open(export, encoding="utf-8") as file:
            result = json.load(file)["results"][0]
        results.append(result)
        before = {side: accounts.used(side, copies[side]) for side in machine.SIDES} \
            if accounts.counter else transfer.before_listener
        return result["times"][0], before
    return timed


def merged(trials):
    """
    What hyperfine would have exported of these: (name, result of one run) in, one result for each name
    out. As it does, it has the CPU time only of the command's own processes: no listener's.
    """
    names = dict.fromkeys(name for name, _ in trials)
    results = []
    for name in names:
        runs = [run for other, run in trials if other == name]
        times = [run["times"][0] for run in runs]
        results.append({
            "command": name, "mean": statistics.mean(times),
            "stddev": statistics.stdev(times) if len(times) > 1 else None,
            "median": statistics.median(times),
            "user": statistics.mean(run["user"] for run in runs),
            "system": statistics.mean(run["system"] for run in runs),
            "min": min(times), "max": max(times), "times": times,
            "exit_codes": [run["exit_codes"][0] for run in runs]})
    return {"results": results}
