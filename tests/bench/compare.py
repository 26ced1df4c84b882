# SPDX-License-Identifier: Apache-2.0
"""
bench/compare as it is called: its list, a tiny run, a name that does not exist, nothing left behind.
A tiny run says nothing about the bounds, so either verdict will do.   Environment: ZH_BUILD
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERDICT = re.compile(r"^(held|MISSED) +[0-9.]+ +[0-9.]+\.\.[0-9.]+ +[<>]= [0-9.]+ +([\w-]+): ", re.M)


def compare(*arguments, directory=None):
    environment = dict(os.environ, **({"TMPDIR": directory} if directory else {}))
    return subprocess.run([sys.executable, "-B", os.path.join(TOP, "bench", "compare"), *arguments],
                          capture_output=True, text=True, check=False, timeout=100, env=environment)


def lists_its_bounds():
    done = compare("--list")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(names) == len(set(names)) and {"discard-rate", "memory", "plan-best"} <= set(names), names


def refuses_a_name_that_is_none():
    done = compare("--only", "no-such-bound")
    assert done.returncode == 1 and "matches no bound" in done.stderr, done


def ends_with_a_line_for_each_bound():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        record = os.path.join(directory, "record.json")
        done = compare("--size", "8", "--rounds", "1", "--only", "discard", "--seed", "7", "--json", record,
                       "--build", os.environ["ZH_BUILD"], directory=directory)
        assert done.returncode in (0, 1), done
        found = VERDICT.findall(done.stdout)
        assert [name for _, name in found] == ["discard-rate", "discard-cpu"], done.stdout
        assert done.returncode == ("MISSED" in [state for state, _ in found]), done
        with open(record, encoding="utf-8") as file:
            said = json.load(file)
        assert said["seed"] == 7 and len(said["rounds"]) == 1, said
        assert os.listdir(directory) == ["record.json"], os.listdir(directory)


def trees_are_brought_and_put_away():
    """Tiny ones; what needs root or rsync is not judged where there is none."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        done = compare("--size", "8", "--files", "150", "--rounds", "1", "--only", "trees", "--no-install",
                       "--keep-congestion", "--build", os.environ["ZH_BUILD"], directory=directory)
        assert done.returncode in (0, 1, 2) and "FAILED" not in done.stdout, done
        judged = {name for _, name in VERDICT.findall(done.stdout)}
        expected = {"trees-sparse", "trees-streams"}
        if os.geteuid() == 0:
            expected |= {"trees-cp"} | ({"trees-rsync"} if shutil.which("rsync") else set())
        assert judged == expected, done
        assert not os.listdir(directory), os.listdir(directory)


def streams_have_two_hosts_for_themselves():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        done = compare("--size", "16", "--rounds", "1", "--only", "streams-veth", "--build", os.environ["ZH_BUILD"],
                       directory=directory)
        assert not os.listdir(directory), os.listdir(directory)
        if "left out: two hosts on this one" in done.stderr:
            assert done.returncode == 2, done
            raise tap.Skip(done.stderr.split("left out: ")[1].splitlines()[0])
        assert done.returncode in (0, 1) and "FAILED" not in done.stdout, done
        assert [name for _, name in VERDICT.findall(done.stdout)] == ["streams-veth"], done


def main():
    return tap.run([lists_its_bounds, refuses_a_name_that_is_none, ends_with_a_line_for_each_bound,
                    trees_are_brought_and_put_away, streams_have_two_hosts_for_themselves])


if __name__ == "__main__":
    sys.exit(main())
