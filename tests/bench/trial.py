# SPDX-License-Identifier: Apache-2.0
"""
One trial at a time: that the program `trial` measures what it says, and says when it could not. Nothing
here is about how fast anything is.   Environment: ZH_BUILD
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import tap

BUILD = os.environ["ZH_BUILD"]
TRIAL = os.path.join(BUILD, "bench", "trial")
GBENCH = os.path.join(BUILD, "bench", "gbench")
MIB = 1 << 20
SIZE = 8 * MIB + 1


def trial(*words, status=0):
    done = subprocess.run([TRIAL, "--congestion=cubic", *words], capture_output=True, check=False, timeout=60)
    assert done.returncode == status, done
    return json.loads(done.stdout)


def moved(*words):
    return trial("--strategy=copy", "--cache=warm", "--warm-up", *words, SOURCE)


def requests(framing, nagle):
    return trial("--framing=" + framing, "--nagle=" + nagle, "--file-bytes=4096", "--files=0", "--cap-ms=300",
                 "--cache=warm", "--warm-up", SOURCE)["latency_us"]


def the_calls_of_copy_are_its_arithmetic():
    for buffer in (4096, 65536, 3 * MIB):
        record = moved(f"--buffer={buffer}")
        calls, tx = record["tx"]["syscalls"], record["tx"]
        assert record["bytes"] == SIZE, record
        assert calls["pread"] == -(-SIZE // buffer), calls
        assert calls["send"] == calls["pread"] + tx["shorts"] + tx["agains"], tx


def copy_dup_is_copy():
    one, other = moved("--buffer=65536"), trial("--strategy=copy-dup", "--cache=warm", "--warm-up",
                                                "--buffer=65536", SOURCE)
    assert other["effective"]["strategy"] == "copy", other
    assert one["tx"]["syscalls"]["pread"] == other["tx"]["syscalls"]["pread"]


def both_sides_have_an_account():
    record = moved("--buffer=65536")
    for side in ("tx", "rx"):
        assert record[side]["cpu_ns"] > 0 and record[side]["maxrss_bytes"] > 0, record
    assert record["rx"]["syscalls"]["recv"] > 0 and "pread" not in record["rx"]["syscalls"], record
    assert 0 < record["time"]["send_return_s"] <= record["time"]["acked_s"], record
    assert record["tcp"]["data_segments_out"] >= SIZE / 65536, record


def the_stall_of_40_ms_appears():
    latency = requests("send,sendfile", "default")
    assert latency["p50"] > 30000 and latency["stalls_30ms"] >= 3, latency


def the_stall_is_gone_with_each_remedy():
    for framing, nagle in (("send,sendfile", "nodelay"), ("send,sendfile", "cork"),
                           ("more,sendfile", "default"), ("writev", "default"), ("send,send", "msg_more")):
        latency = requests(framing, nagle)
        assert latency["p50"] < 20000 and latency["files"] > 10, (framing, nagle, latency)


def a_window_of_files_is_answered_too():
    record = trial("--framing=send,send", "--nagle=nodelay", "--window=8", "--file-bytes=1000", "--files=50",
                   SOURCE)
    assert record["bytes"] == 50000 and record["latency_us"]["files"] == 50, record


def zero_copy_over_loopback_is_copied():
    record = trial("--strategy=msg-zerocopy", "--buffer=65536", "--cache=warm", "--warm-up", SOURCE)
    assert record["zc"]["copied_pct"] == 100, record
    done = subprocess.run([TRIAL, "--strategy=uring-zc", "--buffer=65536", SOURCE], capture_output=True,
                          check=False, timeout=60)
    record = json.loads(done.stdout)
    if record["status"] == "invalid":
        raise tap.Skip("uring-zc is not admitted here")
    assert record["zc"]["copied_pct"] == 100, record


def what_cannot_be_had_is_invalid_and_has_no_number():
    for words in (["--strategy=sendfile", "--nagle=msg_more"], ["--strategy=no-such"],
                  ["--receive=no-such"], ["--strategy=copy", "--congestion=no-such"]):
        record = trial(*words, SOURCE, status=1)
        assert record["status"] == "invalid" and record["error"], record
        assert record["throughput_Bps"] is None and record["tx"] is None, record
    assert moved("--nagle=msg_more", "--buffer=65536")["status"] == "ok"


def a_killed_peer_is_an_error_and_no_number():
    process = subprocess.Popen([TRIAL, "--strategy=copy", "--buffer=65536", "--file-bytes=8388608",
                                "--files=1000000", SOURCE], stdout=subprocess.PIPE)
    receiver = None
    for _ in range(200):
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        if children:
            receiver = int(children[0])
            break
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(receiver, signal.SIGKILL)
    text, _ = process.communicate(timeout=30)
    record = json.loads(text)
    assert process.returncode == 1 and record["status"] == "error", record
    assert record["throughput_Bps"] is None and record["time"] is None, record


def nobody_outlives_a_killed_sender():
    process = subprocess.Popen([TRIAL, "--strategy=copy", "--buffer=65536", "--files=1000000", SOURCE],
                               stdout=subprocess.DEVNULL)
    children = []
    for _ in range(200):
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        if children:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    for _ in range(200):
        if not os.path.exists(f"/proc/{children[0]}"):
            return
        time.sleep(0.01)
    raise AssertionError("the receiver is still there")


def wishes_are_met_before_the_connection_is_made():
    record = moved("--mss=1448", "--sndbuf=65536", "--rcvbuf=65536", "--congestion=reno", "--nagle=nodelay")
    effective = record["effective"]
    assert effective["mss"] == 1448 and effective["cc"] == "reno" and effective["nodelay"] == 1, effective
    assert effective["sndbuf"] == 131072 and effective["rcvbuf"] == 131072, effective


def the_page_cache_is_as_it_was_asked_for():
    assert moved()["effective"]["resident_pct"] == 100
    cold = trial("--strategy=copy", "--cache=cold", COLD)
    assert cold["effective"]["resident_pct"] <= 0.1, cold
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(b"x" * MIB)
        file.flush()
        record = trial("--strategy=copy", "--cache=cold", file.name, status=1)
    assert record["status"] == "error" and "page cache" in record["error"], record


def several_streams_share_one_account():
    record = moved("--streams=4")
    assert record["bytes"] == 4 * SIZE, record
    assert record["time"]["first_done_s"] <= record["time"]["acked_s"], record


def what_is_stored_is_what_was_sent():
    target = os.path.join(DIRECTORY, "target")
    record = trial("--strategy=sendfile", "--receive=splice", "--sync=each", "--warm-up", SOURCE, target)
    assert record["time"]["durable_s"] > 0 and record["rx"]["syscalls"]["fdatasync"] == 1, record
    assert subprocess.run(["cmp", SOURCE, target], check=False).returncode == 0


def gbench(*words):
    if not os.path.exists(GBENCH):
        raise tap.Skip("this build has no Google Benchmark")
    done = subprocess.run([GBENCH, "--benchmark_filter=strategy:0/buffer:65536/", "--benchmark_format=json",
                           *words], capture_output=True, check=False, timeout=100)
    assert done.returncode == 0 and b"nan" not in done.stdout.lower(), done
    exported = json.loads(done.stdout)
    assert exported["context"]["host_name"] == "", exported["context"]
    return exported["benchmarks"]


def google_benchmark_has_counters_and_lines_of_its_own():
    trials = os.path.join(DIRECTORY, "gbench.jsonl")
    rows = gbench("--source=" + SOURCE, "--trials=" + trials)
    assert rows[0]["tx_cpu_s_per_GB"] > 0 and rows[0]["syscalls_per_GB"] > 0, rows[0]
    with open(trials, encoding="ascii") as file:
        lines = [json.loads(line) for line in file]
    assert len(lines) == 27 and {line["status"] for line in lines} == {"ok"}, lines[:2]


def google_benchmark_has_no_number_for_a_failure():
    rows = gbench("--source=/")
    assert all(row["error_occurred"] and row["error_message"] for row in rows), rows
    assert not any("bytes_per_second" in row for row in rows), rows


def main():
    cases = [
        the_calls_of_copy_are_its_arithmetic, copy_dup_is_copy, both_sides_have_an_account,
        the_stall_of_40_ms_appears, the_stall_is_gone_with_each_remedy, a_window_of_files_is_answered_too,
        zero_copy_over_loopback_is_copied, what_cannot_be_had_is_invalid_and_has_no_number,
        a_killed_peer_is_an_error_and_no_number, nobody_outlives_a_killed_sender,
        wishes_are_met_before_the_connection_is_made, the_page_cache_is_as_it_was_asked_for,
        several_streams_share_one_account, what_is_stored_is_what_was_sent,
        google_benchmark_has_counters_and_lines_of_its_own, google_benchmark_has_no_number_for_a_failure,
    ]
    return tap.run(cases)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as DIRECTORY:
        SOURCE, COLD = os.path.join(DIRECTORY, "source"), os.path.join(DIRECTORY, "cold")
        for path in (SOURCE, COLD):
            with open(path, "wb") as made:
                made.write(os.urandom(SIZE))
        sys.exit(main())
