# SPDX-License-Identifier: Apache-2.0
"""
What the harness can see: two names of the same code are alike, and code that is 10 % slower on purpose is
found to be. Minutes, and it needs a quiet machine: suite long.   Environment: ZH_BUILD
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROUNDS = 15
BUFFERS = [65536, 262144, 1048576]
SWEEP = {
    "title": "the same and the slower", "for_inference": True,
    "blocks": [{"name": "S", "title": "copy, copy-dup, copy-slow", "rounds": ROUNDS, "factors": {
        "strategy": ["copy", "copy-dup", "copy-slow"], "buffer": BUFFERS, "file_bytes": [1 << 29]}}],
    "families": [], "hypotheses": [],
}
# With 15 rounds the 4th and the 12th of the sorted ratios hold the median with 96.5 %.
LOW, HIGH = 3, 11


def make_rounds():
    with open(os.path.join(DIRECTORY, "sees.json"), "w", encoding="ascii") as file:
        json.dump(SWEEP, file)
    out = os.path.join(DIRECTORY, "out")
    subprocess.run([sys.executable, "-B", os.path.join(TOP, "bench", "run"), "--build",
                    os.environ["ZH_BUILD"], "--dir", DIRECTORY, "--out", out, file.name],
                   check=True, stdout=subprocess.DEVNULL)
    found = {}
    with open(os.path.join(out, "trials.jsonl"), encoding="ascii") as file:
        trials = [json.loads(line) for line in file]
        for line in trials:
            if line["role"] == "cell":  # the last attempt counts
                key = line["cell"]["strategy"], line["cell"]["buffer"]
                found.setdefault(key, {})[line["round"]] = line["throughput_Bps"]
                assert (line["flags"].count("injected") == 1) == (key[0] == "copy-slow"), line
    noisy = sum(line["quality"] == "noisy" for line in trials)
    return found, f"{noisy} of {len(trials)} trials were disturbed" if noisy > len(trials) / 5 else None


def ratios(strategy, buffer):
    one, plain = FOUND[strategy, buffer], FOUND["copy", buffer]
    return sorted(one[number] / plain[number] for number in range(1, ROUNDS + 1))


def the_same_code_twice_is_alike():
    if NOISE:  # then nothing is alike, and that is no fault of the harness
        raise tap.Skip(NOISE)
    outside = 0
    for buffer in BUFFERS:
        found = ratios("copy-dup", buffer)
        assert abs(statistics.median(found) - 1) <= 0.03, (buffer, found)
        outside += not found[LOW] <= 1 <= found[HIGH]
    assert outside <= 1, outside


def ten_percent_are_found():
    for buffer in BUFFERS:
        found = ratios("copy-slow", buffer)
        assert 0.85 < statistics.median(found) < 0.96 and found[HIGH] < 1, (buffer, found)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as DIRECTORY:
        FOUND, NOISE = make_rounds()
        sys.exit(tap.run([the_same_code_twice_is_alike, ten_percent_are_found]))
