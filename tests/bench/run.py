# SPDX-License-Identifier: Apache-2.0
"""
bench/run as it is called: what it writes is as the schemas have it, an interrupted run goes on, the sweeps
make sense. What a trial finds is not judged.   Environment: ZH_BUILD
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(TOP, "bench", "lib"), os.path.join(TOP, "tests", "cli")]

import check_schema  # noqa: E402
import noise  # noqa: E402
import runner  # noqa: E402
import sweep  # noqa: E402

SWEEP = {
    "title": "small enough for a test", "for_inference": False,
    "blocks": [
        {"name": "A", "title": "bulk", "rounds": 2,
         "factors": {"strategy": ["copy", "sendfile"], "buffer": [65536, 262144], "sink": ["discard", "tmpfs"],
                     "file_bytes": [1 << 20]}},
        {"name": "C", "title": "requests", "rounds": 1, "cap_ms": 50,
         "factors": {"kind": ["requests"], "framing": ["send,send"], "nagle": ["default", "nodelay"],
                     "window": [1], "files": [None], "file_bytes": [1000], "sink": ["recv"]}},
        {"name": "X", "title": "cannot be had", "rounds": 1,
         "factors": {"strategy": ["sendfile"], "nagle": ["msg_more"], "file_bytes": [1 << 20]}},
    ],
    "families": [], "hypotheses": [],
}
PLACES = {("A", 1): 8 + 3, ("A", 2): 8 + 3, ("C", 1): 2 + 3, ("X", 1): 1 + 3}


def command(*words):
    return [sys.executable, "-B", os.path.join(TOP, "bench", "run"), "--build", os.environ["ZH_BUILD"],
            "--dir", DIRECTORY, *words]


def run(*words, status=0):
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == status, done
    return done


def write_sweep():
    path = os.path.join(DIRECTORY, "tiny.json")
    with open(path, "w", encoding="ascii") as file:
        json.dump(SWEEP, file)
    return path


def lines(directory, name="trials.jsonl"):
    with open(os.path.join(directory, name), encoding="ascii") as file:
        return [json.loads(line, object_pairs_hook=check_schema.unique) for line in file]


def check(schema, document):
    with open(os.path.join(TOP, "bench", "schema", schema + ".json"), encoding="ascii") as file:
        checker = check_schema.Checker(json.load(file))
    checker.check(checker.root, document, "")
    assert not checker.problems, checker.problems[:5]


def places(trials):
    """Who was where: what a run has to have exactly once, however often it was interrupted."""
    return sorted((line["block"], line["round"], line["order"], line["cell"]["id"]) for line in trials
                  if line["attempt"] == 1 and line["role"] != "check")


def a_run_is_as_its_schemas_have_it():
    run(write_sweep(), "--seed", "7", "--out", WHOLE)
    trials = lines(WHOLE)
    for name in ("plan", "machine"):
        with open(os.path.join(WHOLE, name + ".json"), encoding="utf-8") as file:
            check(name, json.load(file))
    for line in trials:
        check("trial", line)
    for line in lines(WHOLE, "canaries.jsonl"):
        check("canary", line)
    assert sorted(os.listdir(DIRECTORY)) == ["tiny.json", "whole"], os.listdir(DIRECTORY)


def a_schema_can_refuse():
    line = lines(WHOLE)[0]
    for change in ({"status": "fine"}, {"bytes": -1}, {"more": 1}, {"cell": None}):
        try:
            check("trial", {**line, **change})
        except AssertionError:
            continue
        raise AssertionError(f"{change} is not refused")


def every_cell_is_there_once_in_each_round_and_the_anchor_three_times():
    trials = lines(WHOLE)
    found = {}
    for block, number, _, _ in places(trials):
        found[block, number] = found.get((block, number), 0) + 1
    assert found == PLACES, found
    anchors = [line["order"] for line in trials
               if (line["block"], line["round"], line["attempt"]) == ("A", 1, 1) and line["role"] == "anchor"]
    assert anchors == [0, 5, 10], anchors
    orders = [[line["cell"]["id"] for line in trials if (line["block"], line["round"]) == ("A", number) and
               line["attempt"] == 1] for number in (1, 2)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]), orders


def what_was_stored_was_compared():
    stored = [line for line in lines(WHOLE) if line["cell"]["sink"] == "tmpfs" and line["status"] == "ok"]
    assert stored and all(line["hash"]["equal"] for line in stored), stored
    assert any(line["role"] == "check" for line in stored), stored


def what_cannot_be_had_is_a_line_without_a_number():
    invalid = [line for line in lines(WHOLE) if line["status"] == "invalid"]
    assert {line["block"] for line in invalid} == {"X"}, invalid
    assert all(line["error"] and line["throughput_Bps"] is None for line in invalid), invalid


def a_killed_run_goes_on_to_the_same_cells():
    killed = os.path.join(DIRECTORY, "killed")
    process = subprocess.Popen(command(write_sweep(), "--seed", "7", "--out", killed),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trials = os.path.join(killed, "trials.jsonl")
    while process.poll() is None:
        if os.path.exists(trials) and len(lines(killed)) >= 8:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 8 <= len(lines(killed)) < len(places(lines(WHOLE))), len(lines(killed))
    with open(trials, "ab") as file:
        file.write(b'{"schema":"zerohaul.tri')  # as a crash leaves it
    run("--resume", killed)
    assert places(lines(killed)) == places(lines(WHOLE)), places(lines(killed))
    assert sorted(os.listdir(DIRECTORY)) == ["killed", "tiny.json", "whole"], os.listdir(DIRECTORY)


def an_interrupted_run_leaves_nothing_behind():
    interrupted = os.path.join(DIRECTORY, "interrupted")
    process = subprocess.Popen(command(write_sweep(), "--out", interrupted), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    trials = os.path.join(interrupted, "trials.jsonl")
    while process.poll() is None and not (os.path.exists(trials) and len(lines(interrupted)) >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130, process.returncode
    alive = subprocess.run(["ps", "-o", "pid=,args=", "-s", str(process.pid)], capture_output=True,
                           check=False).stdout
    assert not alive.strip(), alive
    assert not [name for name in os.listdir(DIRECTORY) if name.startswith("zerohaul-bench.")]


def a_directory_that_holds_a_run_is_not_written_over():
    done = run(write_sweep(), "--out", WHOLE, status=1)
    assert "--resume" in done.stderr, done


def selected(cells, where):
    return [cell for cell in cells if sweep.matches(cell, where)]


def alike(cell, other, factor):
    may_differ = {"id", factor} | ({"rcvbuf"} if factor == "sndbuf" else set())
    return all(cell[name] == other[name] for name in cell if name not in may_differ)


def comparisons(block, family):
    """The sizes of a family's parts: how many comparisons Holm's correction has to pay for."""
    sizes = {}
    cells = selected(block["cells"], family["where"])
    bases = [cell for cell in cells if cell[family["factor"]] == family["base"]]
    for cell in cells:
        if cell not in bases:
            assert any(alike(cell, base, family["factor"]) for base in bases), (family["name"], cell["id"])
            part = tuple(cell[factor] for factor in family["split"])
            sizes[part] = sizes.get(part, 0) + 1
    return sizes


def the_sweeps_make_sense():
    for name in sweep.names():
        plan = sweep.make_plan(sweep.load(name), name, 1, "2026-01-01T00:00:00Z", None, False)
        check("plan", plan)
        blocks = {block["name"]: block for block in plan["blocks"]}
        for block in plan["blocks"]:
            ids = [cell["id"] for cell in block["cells"]]
            assert len(ids) == len(set(ids)), ids
        for family in plan["families"]:
            block = blocks[family["block"]]
            sizes = comparisons(block, family)
            assert sizes, family
            if plan["for_inference"]:  # with more, nothing could pass; one round may be against the others
                most = 0.05 * 2 ** (block["rounds"] - 2)
                assert max(sizes.values()) <= most, (family["name"], sizes, most)
        for hypothesis in plan["hypotheses"]:
            for test in hypothesis["tests"]:
                cells = blocks[test["block"]]["cells"]
                assert selected(cells, test["a"]), (hypothesis["id"], test["a"])
                assert test["b"] is None or selected(cells, test["b"]), (hypothesis["id"], test["b"])


def the_full_set_is_planned_within_three_hours():
    plan = sweep.make_plan(sweep.load("full"), "full", 1, "", None, False)
    assert plan["estimate_s"] < 3 * 3600, plan["estimate_s"]
    quick = sweep.make_plan(sweep.load("quick"), "quick", 1, "", None, False)
    assert quick["estimate_s"] < 150 and not quick["for_inference"], quick["estimate_s"]
    assert "full" in run("--list").stdout


def an_order_follows_from_the_seed():
    def order(seed, number):
        plan = sweep.make_plan(sweep.load("quick"), "quick", seed, "", None, False)
        return [place.cell["id"] for place in runner.places(plan, plan["blocks"][0], number)]

    assert order(1, 1) == order(1, 1) and order(1, 1) != order(1, 2) and order(1, 1) != order(2, 1)


def a_factor_that_does_not_exist_is_refused():
    try:
        sweep.make_cell({"colour": "red"})
    except sweep.SweepError as error:
        assert "colour" in str(error)
    else:
        raise AssertionError("it was taken")
    assert run("no-such-sweep", status=1).stderr.startswith("bench/run: ")


def others_are_noticed():
    quiet = {"others_pct": 1.0, "steal_pct": 0.1}
    assert noise.flags_of(quiet) == []
    assert noise.flags_of({**quiet, "others_pct": 20.0}) == ["others-cpu"]
    assert noise.flags_of({**quiet, "steal_pct": 5.0}) == ["steal"]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        assert "others-cpu" in noise.flags_of(noise.sample(0.5))
    finally:
        busy.kill()
        busy.wait()


def main():
    return tap.run([
        a_run_is_as_its_schemas_have_it, a_schema_can_refuse,
        every_cell_is_there_once_in_each_round_and_the_anchor_three_times, what_was_stored_was_compared,
        what_cannot_be_had_is_a_line_without_a_number, a_killed_run_goes_on_to_the_same_cells,
        an_interrupted_run_leaves_nothing_behind, a_directory_that_holds_a_run_is_not_written_over,
        the_sweeps_make_sense, the_full_set_is_planned_within_three_hours, an_order_follows_from_the_seed,
        a_factor_that_does_not_exist_is_refused, others_are_noticed,
    ])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as DIRECTORY:
        WHOLE = os.path.join(DIRECTORY, "whole")
        sys.exit(main())
