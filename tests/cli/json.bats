#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# --json: one object, always of the documented shape.

load helpers

@test "a success is described in full" {
  serve
  random_file "$T/local/f" 5000000
  copies --json --strategy copy --receive-strategy copy --congestion reno "$T/local/f" "$url/"
  json_is_valid
  is "$(json 'o["outcome"], o["exit_status"], o["error"], o["failures"]')" "('OK', 0, None, [])"
  is "$(json 'o["direction"], o["destination"] == "'"$url/"'"')" "('push', True)"
  is "$(json 'o["report"]["bytes"], o["report"]["files_done"]')" "(5000000, 1)"
  is "$(json '0 < o["report"]["moving_ns"] < o["report"]["elapsed_ns"]')" True
  is "$(json 'o["report"]["verified"], o["report"]["durability"]')" "(True, 'full')"
  is "$(json 'o["report"]["sender"]["stats"]["strategy"]')" copy
  is "$(json 'o["report"]["receiver"]["stats"]["strategy"]')" copy
  is "$(json 'o["report"]["sender"]["stats"]["bytes"] >= 5000000')" True
  is "$(json 'o["report"]["sender"]["stats"]["tcp"]["congestion"]')" reno
  is "$(json 'len(o["report"]["sender"]["stats"]["calls"]) > 0')" True
  is "$(json 'o["report"]["send_plan"]["side"]')" send
  [[ ! -s $T/err ]] || fail "something on stderr"
  copies --json --verify none --durability none "$url/f" "$T/local/g"
  json_is_valid
  is "$(json 'o["direction"], o["report"]["verified"], o["report"]["durability"]')" \
    "('pull', False, 'none')"
  is "$(json 'o["report"]["receive_plan"]["side"]')" receive
}

@test "failures are described in the same shape" {
  random_file "$T/local/f" 5000
  copy --json "$T/local/f" zh://127.0.0.1:1/
  failed 40 "[NET"
  json_is_valid
  is "$(json 'o["outcome"], o["exit_status"], o["error"]["outcome"]')" "('NET', 40, 'NET')"

  copy --json "$T/local/f" zh://bad
  failed 1 "not a location"
  json_is_valid
  is "$(json 'o["outcome"], o["exit_status"], o["report"]')" "('USAGE', 1, None)"

  zh copy --json "$T/local/f" zh://127.0.0.1:1/
  failed 1 "a key is needed"
  json_is_valid

  serve
  copy --json "$T/local/f" "$T/local/none" "$url/"
  failed 3 "none"
  json_is_valid
  is "$(json 'o["outcome"], o["report"]["files_failed"], len(o["failures"])')" "('PARTIAL', 1, 1)"
  is "$(json 'o["error"]["outcome"], o["error"]["exit_status"]')" "('SRC_GONE', 22)"
  is "$(json 'o["failures"][0]["outcome"], o["failures"][0]["exit_status"]')" "('SRC_GONE', 22)"

  copy --json $'nowhere\e\n' "$url/"
  failed 22 '\x1b\x0a'
  json_is_valid
}

# names SIDE: the strategies of a side as a list of Python, from the object of probe
names() {
  json "sorted(s['name'] for s in o['strategies'] if s['side'] == '$1')"
}

@test "plan and probe print one object each" {
  local sending receiving
  random_file "$T/local/f" 5000000
  succeeds probe --json
  is "$(json 'o["schema"], len(o["features"]) > 0')" "('zerohaul-probe/1', True)"
  sending=$(names send) receiving=$(names receive)
  succeeds plan --json "$T/local/f"
  is "$(json 'o["schema"], o["bytes"], o["plan"]["side"]')" "('zerohaul-plan/1', 5000000, 'send')"
  is "$(json 'o["plan"]["strategy"] in [v["strategy"] for v in o["plan"]["verdicts"] if v["admitted"]]')" True
  is "$(json 'sorted(v["strategy"] for v in o["plan"]["verdicts"])')" \
    "$sending"
  succeeds plan --json --receive "$T/local/f"
  is "$(json 'o["plan"]["side"]')" receive
  is "$(json 'sorted(v["strategy"] for v in o["plan"]["verdicts"])')" \
    "$receiving"
  succeeds plan --json --strategy copy "$T/local/f"
  is "$(json 'o["plan"]["strategy"]')" copy
}

@test "plan and probe in words name every strategy, the choice and its reason" {
  local name before
  random_file "$T/local/f" 5000000
  before=$(sha256sum "$T/local/f")
  serve
  succeeds plan "$T/local/f" "$url/"
  for name in copy sendfile splice uring-copy; do
    grep -qE "^  $name +(admitted(: .+)?|refused: .+)$" "$T/out" || fail "no verdict on $name"
  done
  grep -qE '^  msg-zerocopy +admitted: the peer is on this host, so the kernel will copy$' "$T/out" ||
    fail "nothing is said about a peer on this host"
  grep -qx 'Choice' "$T/out" || fail "no choice"
  grep -qE '^  [a-z-]+: .+' "$T/out" || fail "no reason"
  grep -qE '^  [0-9]+ bytes per call, [0-9]+ in flight' "$T/out" || fail "no figures"
  is "$(sha256sum "$T/local/f")" "$before"
  nothing_in "$T/root"
  succeeds probe
  for name in copy sendfile splice uring-copy; do
    grep -qx "  send     $name" "$T/out" || fail "probe does not list $name"
  done
  for name in copy splice uring-direct discard; do
    grep -qx "  receive  $name" "$T/out" || fail "probe does not list $name"
  done
  grep -qE '^  [^ ]+ +(present|absent) ' "$T/out" || fail "no features"
}
