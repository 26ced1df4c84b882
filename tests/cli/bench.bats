#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Trials against a server that throws away what it gets: what is recorded, and what is refused. How
# fast anything is, is not judged.

load helpers

serve_bench() {
  start_server bench --bench --key "$T/key"
  TMPDIR=$T/local
  export TMPDIR
}

bench() {
  zh bench --key "$T/key" "$@"
}

benches() {
  bench "$@"
  [[ $status -eq 0 ]] || fail "exit status $status from: bench $*"
}

# records FILE EXPRESSION: of the records `r` in a file.
records() {
  python3 -B -c 'import json, sys
r = [json.loads(line) for line in open(sys.argv[1])]
print(eval(sys.argv[2]))' "$1" "$2"
}

# records_are_valid FILE: by the schema, and with the names that bench/run gives to cells.
records_are_valid() {
  python3 -B - "$BATS_TEST_DIRNAME" "$ZH_SOURCE/bench" "$1" <<'END' || fail "invalid records"
import json
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2] + "/lib"]
import check_schema
import sweep
with open(sys.argv[2] + "/schema/trial.json", encoding="utf-8") as file:
    schema = json.load(file)
with open(sys.argv[3], encoding="ascii") as file:
    records = [json.loads(line, object_pairs_hook=check_schema.unique) for line in file]
for record in records:
    checker = check_schema.Checker(schema)
    checker.check(schema, record, "")
    assert not checker.problems, checker.problems
    levels = {name: level for name, level in record["cell"].items() if name != "id"}
    made = sweep.make_cell(levels)["id"]
    assert made == record["cell"]["id"], (made, record["cell"]["id"])
assert records, "there are none"
END
}

@test "each trial is a record, each cell is there once in each round" {
  serve_bench
  benches --strategies=copy,sendfile --chunks=64K,262144 --nagle=auto,nodelay --size=2M --rounds=3 \
    --seed=7 --sndbuf=1M --output "$T/records" "$url/"
  [[ ! -s $T/err ]] || fail "something on stderr"
  records_are_valid "$T/records"
  is "$(records "$T/records" 'len(r), len({t["cell"]["id"] for t in r}), {t["status"] for t in r}')" \
    "(24, 8, {'ok'})"
  is "$(records "$T/records" '[len({t["cell"]["id"] for t in r if t["round"] == n}) for n in (1, 2, 3)]')" \
    "[8, 8, 8]"
  is "$(records "$T/records" '[t["order"] for t in r] == 3 * list(range(8))')" True
  is "$(records "$T/records" '{(t["bytes"], t["cell"]["sndbuf"], t["seed"]) for t in r}')" \
    "{(2097152, 1048576, 7)}"
  nothing_in "$T/local"
  nothing_in "$T/root"
}

@test "a record has what both ends did" {
  local what
  serve_bench
  benches --strategies=copy --chunks=64K --nagle=nodelay --size=4M --rounds=1 --json "$url/"
  mv "$T/out" "$T/records"
  records_are_valid "$T/records"
  for what in 't["tx"]["cpu_ns"] > 0 and t["rx"]["cpu_ns"] > 0' \
    't["tx"]["syscalls"]["pread"] == 64 <= t["tx"]["syscalls"]["send"]' \
    't["rx"]["syscalls"]["recv"] > 0 and "pwrite" not in t["rx"]["syscalls"]' \
    't["effective"]["strategy"] == "copy" and t["effective"]["receive"] == "discard"' \
    't["effective"]["chunk"] == 65536 and t["effective"]["nodelay"] == 1' \
    't["effective"]["resident_pct"] > 99' \
    't["tcp"]["segments_out"] > 0 and t["remote"]["rx_tcp"]["mss"] > 0' \
    '0 < t["time"]["acked_s"] < t["remote"]["elapsed_s"]' \
    'abs(t["throughput_Bps"] - t["bytes"] / t["time"]["acked_s"]) < 1' \
    't["remote"]["limited_by"] != "" and t["quality"] is None'; do
    is "$(records "$T/records" "[$what for t in r]")" "[True]"
  done
}

@test "the kernel's own Nagle mode is one that sendfile is not corked in" {
  serve_bench
  benches --strategies=sendfile --chunks=64K --nagle=auto,default --size=2M --rounds=1 --json "$url/"
  mv "$T/out" "$T/records"
  records_are_valid "$T/records"
  is "$(records "$T/records" '({t["cell"]["nagle"]: "setsockopt" in t["tx"]["syscalls"] for t in r} ==
    {"auto": True, "default": False})')" True
}

@test "the order follows from the seed" {
  local run
  serve_bench
  for run in 7 7 8; do
    benches --strategies=copy,sendfile,splice --chunks=16K,64K,256K --size=100K --rounds=2 --seed=$run \
      --json "$url/"
    records "$T/out" '[t["cell"]["id"] for t in r]' >>"$T/orders"
  done
  is "$(sort "$T/orders" | uniq | wc -l)" 2
  is "$(sed -n 1p "$T/orders")" "$(sed -n 2p "$T/orders")"
}

@test "the table has a line for each cell and names the fastest and the cheapest" {
  serve_bench
  benches --strategies=copy,sendfile --chunks=64K --streams=1,2 --size=1M --rounds=3 --seed=5 "$url/"
  grep -qx '12 trials of 1M, 3 rounds, seed 5\.' "$T/out" || fail "no head"
  is "$(grep -cE '^(copy|sendfile) +64K +auto +[12] +[0-9.]+ +[0-9.]+\.\.[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9]+  [a-z]' \
    "$T/out")" 4
  tr '\n' ' ' <"$T/out" | grep -qE 'was the fastest \(.*cheapest.* their ranges of GB/s (do not )?overlap' ||
    fail "no verdict"
  benches --strategies=copy --chunks=64K --size=1M --rounds=1 "$url/"
  ! grep -q fastest "$T/out" || fail "one cell was compared with itself"
}

@test "a list that is none is told in one line" {
  local bad
  for bad in --strategies= '--strategies=copy,' --strategies=,copy --strategies=copy,,sendfile --chunks=0 \
    --chunks=2G --chunks=64K,x --nagle=corked --streams=0 '--streams=1,' --congestion=a/b \
    --congestion=much-too-long-for-it; do
    bench "$bad" zh://127.0.0.1:1/
    failed 1 "${bad%%=*}: "
  done
  bench --chunks=64K,65536 zh://127.0.0.1:1/
  failed 1 "--chunks: '65536' is there twice"
  bench --strategies=copy,teleport zh://127.0.0.1:1/
  failed 1 "--strategies: 'teleport' is not a strategy that sends"
  bench --strategies=discard zh://127.0.0.1:1/
  failed 1 "--strategies: 'discard' is not a strategy that sends"
  bench --streams=65 zh://127.0.0.1:1/
  failed 1 "--streams: '65' is not a number from 1 to 64"
  bench --streams=1,01 zh://127.0.0.1:1/
  failed 1 "--streams: '01' is there twice"
  bench --nagle=msg_more zh://127.0.0.1:1/
  failed 1 "--nagle: 'msg_more' is not one of auto, default, nodelay and cork"
  bench --chunks "$(seq -s, 1 64)" --streams "$(seq -s, 1 64)" zh://127.0.0.1:1/
  failed 1 "combinations, at most 1000 are measured"
  bench --chunks "$(seq -s, 1 65)" zh://127.0.0.1:1/
  failed 1 "--chunks: more than 64 levels"
  [[ ! -s $T/out ]] || fail "something on stdout"
}

@test "a command line that cannot be is told in one line" {
  random_file "$T/local/f" 1000
  bench
  failed 1 "one location is needed"
  bench zh://127.0.0.1:1/ zh://127.0.0.1:1/
  failed 1 "one location is needed"
  bench zh://127.0.0.1:1/path
  failed 1 "nothing is stored, so it has no path"
  bench "$T/local/f"
  failed 1 "is not a location"
  bench --source "$T/local/f" --size=1M zh://127.0.0.1:1/
  failed 1 "either --source or --size"
  zh bench zh://127.0.0.1:1/
  failed 1 "a key is needed"
  bench --source "$T/local/none" zh://127.0.0.1:1/
  failed 22 "none"
  bench --source "$T/local" zh://127.0.0.1:1/
  failed 1 "is a directory"
  : >"$T/local/empty"
  bench --source "$T/local/empty" zh://127.0.0.1:1/
  failed 1 "is empty"
  cp "$T/local/f" "$T/local/g"
  bench --source "$T/local/f" --output "$T/local/g" zh://127.0.0.1:1/
  failed 30 "File exists"
  same "$T/local/f" "$T/local/g"
}

@test "what cannot be had is told once, and the others are measured" {
  serve_bench
  benches --strategies=copy --chunks=64K --congestion=reno,nowhere --size=1M --rounds=2 --output "$T/records" \
    "$url/"
  one_line_on_stderr
  grep -qF "nowhere/path=remote cannot be had: the kernel refuses congestion control 'nowhere'" "$T/err" ||
    fail "not the reason"
  records_are_valid "$T/records"
  is "$(records "$T/records" 'sorted((t["status"], t["round"], t["cell"]["cc"]) for t in r)')" \
    "[('invalid', 0, 'nowhere'), ('ok', 1, 'reno'), ('ok', 2, 'reno')]"
  is "$(records "$T/records" '[t["throughput_Bps"] for t in r if t["status"] == "invalid"]')" "[None]"
  bench --strategies=copy --chunks=64K --congestion=nowhere --size=1M "$url/"
  failed 2 "[CONFIG"
  [[ ! -s $T/out ]] || fail "a table of nothing"
}

@test "what concerns all cells ends it in one line" {
  serve_bench
  "$ZEROHAUL" keygen --output "$T/other" >/dev/null
  zh bench --key "$T/other" --size=1M "$url/"
  failed 10 "[AUTH"
  bench --size=1M zh://127.0.0.1:1/
  failed 40 "[NET"
  nothing_in "$T/local"
}

@test "a server with a root is as good, and stores nothing of it" {
  serve
  random_file "$T/local/f" 300001
  benches --source "$T/local/f" --chunks=64K --rounds=1 --output "$T/records" "$url/"
  records_are_valid "$T/records"
  is "$(records "$T/records" '{t["bytes"] for t in r if t["status"] == "ok"}')" "{300001}"
  nothing_in "$T/root"
  copies "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}

@test "a server for measuring takes what is discarded, and refuses the rest" {
  serve_bench
  random_file "$T/local/f" 300001
  mkdir -p "$T/tree/in"
  cp "$T/local/f" "$T/tree/in/f"
  copy "$T/local/f" "$url/"
  failed 14 "this server is for measuring"
  copy --receive-strategy=copy "$T/local/f" "$url/f"
  failed 14 "this server is for measuring"
  copy "$url/f" "$T/local/g"
  failed 14 "this server is for measuring"
  copy -r "$url/" "$T/local/"
  failed 14 "this server is for measuring"
  copies --receive-strategy=discard --verify=none --durability=none "$T/local/f" "$url/any/where"
  copies -r --links --json --receive-strategy=discard --verify=none --durability=none "$T/tree" "$url/"
  is "$(json 'o["report"]["files_done"], o["report"]["bytes"]')" "(1, 300001)"
  nothing_in "$T/root"
  is "$(find "$T/local" -mindepth 1 -printf '%P')" f
  zh serve --bench --root "$T/root" --key "$T/key"
  failed 1 "--bench stores nothing"
  zh serve --bench --read-only --key "$T/key"
  failed 1 "--bench stores nothing"
  zh serve --bench
  failed 1 "a key is needed"
}

# start_bench OPTION...: in the background, until a trial is recorded.
start_bench() {
  env --default-signal=INT "$ZEROHAUL" bench --key "$T/key" --strategies=copy --chunks=64K --size=32M \
    --output "$T/records" "$@" "$url/" >"$T/out" 2>"$T/err" 3>&- &
  client=$!
  wait_for 30 test -s "$T/records" || fail "nothing is recorded"
}

finish_bench() {
  status=0
  wait "$client" || status=$?
}

@test "a server that is killed is an error and no number" {
  local pid
  serve_bench
  start_bench --rounds=200
  for pid in $(our_processes); do
    [[ $pid == "$client" ]] || kill -KILL "$pid" || true # a session ends by itself, too
  done
  finish_bench
  is "$status" 3
  records_are_valid "$T/records"
  is "$(records "$T/records" 'len(r), r[0]["status"], r[-1]["status"]')" "(200, 'ok', 'error')"
  is "$(records "$T/records" 'all(t["error"] and t["throughput_Bps"] is t["time"] is t["tx"] is None
    for t in r if t["status"] == "error")')" True
  is "$(grep -c "^zerohaul: copy/64K/.*, round [0-9]*: .*\[" "$T/err")" \
    "$(records "$T/records" 'sum(t["status"] == "error" for t in r)')"
  nothing_in "$T/local"
}

@test "SIGINT ends it with the table of what was done" {
  serve_bench
  start_bench --rounds=1000
  kill -INT "$client"
  finish_bench
  failed 130 "stopped after"
  records_are_valid "$T/records"
  is "$(records "$T/records" '{t["status"] for t in r}')" "{'ok'}"
  grep -qE '^copy +64K +auto ' "$T/out" || fail "no table"
  nothing_in "$T/local"
}

@test "progress says which trial it is" {
  command -v script >/dev/null || skip "no script(1)"
  serve_bench
  TERM=xterm script -qec "stty cols 100; exec '$ZEROHAUL' bench --key '$T/key' --strategies=copy \
    --chunks=512 --size=128M --rounds=1 --progress=always '$url/'" /dev/null >"$T/tty" 3>&- </dev/null
  grep -qaE '/ 134 MB .* trial 1/1' "$T/tty" || fail "not in: $(cat -v "$T/tty")"
}
