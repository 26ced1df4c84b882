# SPDX-License-Identifier: Apache-2.0
"""
bench/peers as it is called: its list, a quick run with its records, Ctrl-C, nothing left behind. What a quick
run finds is not judged, only that everybody's bytes arrived.   usage: peers.py [--all]   Environment: ZH_BUILD
"""
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "cli"))

import check_schema  # noqa: E402
import tap  # noqa: E402

PEERS = [sys.executable, "-B", os.path.join(TOP, "bench", "peers")]
MARK = "ZH_BENCH_TEST"


def arguments(*more):
    return [*PEERS, "--build", os.environ["ZH_BUILD"], "--no-install", *more]


def peers(*more, **environment):
    return subprocess.run(arguments(*more), capture_output=True, text=True, check=False, timeout=60,
                          env=dict(os.environ, **environment))


def marked(mark):
    """Processes that were started by the run, however far from it they are now."""
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if f"{MARK}={mark}".encode() in file.read().split(b"\0"):
                found.append(path)
    return found


def ssh_files():
    return sorted(glob.glob(os.path.expanduser("~/.ssh/*"))) + sorted(glob.glob("/run/sshd"))


@contextlib.contextmanager
def run(*more):
    """(process, directory of its records) of a quick run; afterwards nothing else may be left of it."""
    if not shutil.which("hyperfine"):
        raise tap.Skip("there is no hyperfine")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        os.chmod(directory, 0o755)  # some peers serve as nobody
        output, before = os.path.join(directory, "out"), ssh_files()
        process = subprocess.Popen(
            arguments("--quick", "--seed", "7", "--output", output, *more), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(os.environ, TMPDIR=directory, **{MARK: directory}))
        try:
            yield process, output
        finally:
            process.kill()
            process.communicate()
        left = [name for name in os.listdir(directory) if name != "out"] + marked(directory)
        left += glob.glob(f"/dev/shm/zerohaul-bench.{process.pid}.*")
        left += glob.glob(f"/sys/fs/cgroup/**/zerohaul-bench.{process.pid}.*", recursive=True)
        with open("/proc/mounts", encoding="utf-8") as file:
            left += [line for line in file if directory in line]
        for path in glob.glob("/sys/block/loop*/loop/backing_file"):
            with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
                left += [path for line in file if directory in line]
        assert not left, left
        assert ssh_files() == before, ssh_files()


def lines_of(path):
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]
    return []


def check_all(name, documents):
    with open(os.path.join(TOP, "bench", "schema", name), encoding="utf-8") as file:
        checker = check_schema.Checker(json.load(file))
    for document in documents:
        checker.check(checker.root, document, "")
    assert not checker.problems, checker.problems


def lists_its_cells():
    done = peers("--list")
    assert done.returncode == 0, done.stderr
    cells = [line for line in done.stdout.splitlines() if " > " in line and not line.startswith("left out")]
    assert len(cells) == len(set(cells)), cells
    assert {"large: zerohaul > tmpfs", "large: zerohaul copy > copy > tmpfs", "large: cp > tmpfs",
            "strategies: zerohaul splice > planned > disk+syncfs", "small: cp > disk+syncfs"} <= set(cells), cells


def says_who_is_left_out_and_why():
    done = peers("--list", PATH="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert "left out of large: rsync: there is no rsync" in done.stdout, done.stdout
    assert "left out of small: nginx+curl: " in done.stdout, done.stdout
    assert "large: rsync >" not in done.stdout, done.stdout


def refuses_a_block_that_is_none():
    done = peers("--block", "no-such-block")
    assert done.returncode == 2 and "no-such-block" in done.stderr, done


def refuses_a_name_that_nobody_has():
    done = peers("--list", "--only", "no-such-program")
    assert done.returncode == 1 and "no-such-program" in done.stderr, done
    done = peers("--list", "--only", "scp", "--block", "large", "--sink", "disk")
    cells = [line for line in done.stdout.splitlines() if not line.startswith("left out")]
    assert done.returncode == 0 and "large: zerohaul > disk" in cells, done
    assert set(cells) <= {"large: zerohaul > disk", "large: scp > disk"}, cells


def a_quick_run_compares_everybody():
    compare()


def a_quick_run_compares_some():
    compare("--block", "large", "--block", "small", "--only", "rsync", "--only", "scp", "--only", "cp",
            "--files", "100")


def compare(*chosen):
    begun = time.monotonic()
    with run(*chosen) as (process, output):
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        with open(os.path.join(output, "plan.json"), encoding="utf-8") as file:
            plan = json.load(file)
        with open(os.path.join(output, "hyperfine.json"), encoding="utf-8") as file:
            exported = json.load(file)["results"]
        trials = lines_of(os.path.join(output, "trials.jsonl"))
        with open(os.path.join(output, "machine.json"), encoding="utf-8") as file:
            check_all("machine.json", [json.load(file)])
        check_all("plan.json", [plan])
        check_all("trial.json", trials)
        planned = [cell["id"] for block in plan["blocks"] for cell in block["cells"]]
        assert sorted(trial["cell"]["id"] for trial in trials) == sorted(planned), planned
        # Only a strategy that was asked for by name may be refused.
        silent = [trial for trial in trials if trial["status"] != "ok" and
                  not (trial["status"] == "invalid" and trial["block"] == "strategies")]
        assert not silent, [(trial["cell"]["id"], trial["error"]) for trial in silent]
        good = [trial for trial in trials if trial["status"] == "ok"]
        assert all(trial["hash"]["equal"] and trial["tx"]["cpu_ns"] > 0 for trial in good), good
        assert sorted(one["command"] for one in exported) == sorted(trial["cell"]["id"] for trial in good)
        for trial in good:
            assert f"\n{trial['cell']['strategy']}  " in said, said
    print(f"# {len(planned)} cells in {time.monotonic() - begun:.0f} s")


def ctrl_c_puts_everything_back():
    with run("--rounds", "50", "--block", "large") as (process, output):
        end = time.monotonic() + 60
        while len(lines_of(os.path.join(output, "trials.jsonl"))) < 5:
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 128 + signal.SIGINT, said
        assert "Traceback" not in said, said


def main():
    if sys.argv[1:] == ["--all"]:
        return tap.run([a_quick_run_compares_everybody])
    return tap.run([
        lists_its_cells, says_who_is_left_out_and_why, refuses_a_block_that_is_none,
        refuses_a_name_that_nobody_has, a_quick_run_compares_some, ctrl_c_puts_everything_back])


if __name__ == "__main__":
    sys.exit(main())
