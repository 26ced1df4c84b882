#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Transfers that do not get to their end, and the progress line meanwhile.

load helpers

# Slow enough to be interrupted: 64 MiB at 4 MiB a second.
slow=(--pacing 4M --streams 1)
extra=()

is_moving() {
  [[ -n $(find "$T" -path '*/.zerohaul-staging/*' -type f) ]] || [[ $(wc -l <"$T/err") -ge 2 ]]
}

# start_copy OPERAND...: in the background, until bytes move.
start_copy() {
  env --default-signal=INT "$ZEROHAUL" copy --key "$T/key" "${slow[@]}" "${extra[@]}" \
    --progress=always "$@" >"$T/out" 2>"$T/err" 3>&- &
  client=$!
  wait_for 20 is_moving || fail "nothing moves"
  sleep 0.3
}

# Sessions before their listener: one that saw it go would still say good-bye, as no dead host does.
kill_server() {
  local pid sessions=()
  for pid in $(our_processes); do
    [[ $pid == "$client" || $pid == "$server" ]] || sessions+=("$pid")
  done
  [[ ${#sessions[@]} -gt 0 ]] || fail "the server has no session"
  kill -KILL "${sessions[@]}" "$server"
}

# finish_copy: status in $status; the lines of progress are taken out of stderr.
finish_copy() {
  status=0
  wait "$client" || status=$?
  sed -i '/^zerohaul: /!d' "$T/err"
}

@test "a server that dies half-way is 40 on either side" {
  partials_allowed=yes
  serve
  random_file "$T/local/f" 67108864
  start_copy "$T/local/f" "$url/"
  kill_server
  finish_copy
  failed 40 "[NET"
  nothing_in "$T/root"

  rm -rf "$T/root/.zerohaul-staging"
  mv "$T/local/f" "$T/root/f"
  start_server second --root "$T/root" --key "$T/key"
  start_copy "$url/f" "$T/local/g"
  kill_server
  finish_copy
  failed 40 "[NET"
  nothing_in "$T/local"
}

@test "a client that dies half-way leaves no visible file and a server that works" {
  partials_allowed=yes
  serve
  random_file "$T/local/f" 67108864
  start_copy "$T/local/f" "$url/"
  kill -KILL "$client"
  wait "$client" || true
  nothing_in "$T/root"
  random_file "$T/local/g" 100000
  copies "$T/local/g" "$url/"
  same "$T/local/g" "$T/root/g"
}

@test "SIGINT cancels with 130, SIGTERM with 143" {
  partials_allowed=yes
  extra=(--json)
  serve
  random_file "$T/local/f" 67108864
  start_copy "$T/local/f" "$url/"
  kill -INT "$client"
  finish_copy
  failed 130 "[CANCELLED"
  json_is_valid
  is "$(json 'o["outcome"], o["exit_status"]')" "('CANCELLED', 130)"
  nothing_in "$T/root"
  start_copy "$T/local/f" "$url/"
  kill -TERM "$client"
  finish_copy
  failed 143 "[CANCELLED"
  nothing_in "$T/root"
}

@test "progress without a terminal is one plain line a second" {
  serve
  random_file "$T/local/f" 10000000
  copies --pacing 4M --progress=always --quiet "$T/local/f" "$url/"
  local lines
  lines=$(wc -l <"$T/err")
  [[ $lines -ge 1 && $lines -le 5 ]] || fail "$lines lines"
  ! grep -vE '^[0-9.]+ [kKMG]?B / 10 MB +[0-9]+%  .*/s' "$T/err" || fail "a line is no progress"
  [[ ! -s $T/out ]] || fail "--quiet printed a summary"
  copies --pacing 8M "$T/local/f" "$url/"
  [[ ! -s $T/err ]] || fail "progress without a terminal nobody asked for"
}

@test "progress on a terminal fits it, is not too frequent and is cleared" {
  command -v script >/dev/null || skip "no script(1)"
  serve
  random_file "$T/local/f" 10000000
  TERM=xterm script -qec "stty cols 30; exec '$ZEROHAUL' copy --quiet --progress=always \
    --key '$T/key' --pacing 4M '$T/local/f' '$url/'" /dev/null >"$T/tty" 3>&- </dev/null
  python3 - "$T/tty" <<'END' || fail "see above: $(cat -v "$T/tty")"
import sys
shown = open(sys.argv[1], "rb").read().decode("ascii")
assert shown.endswith("\r\x1b[K"), "the line is not cleared"
updates = shown.split("\r")[1:]
lines = [u.removesuffix("\x1b[K") for u in updates]
assert all(u.endswith("\x1b[K") for u in updates), "an update keeps rests of the one before"
assert max(map(len, lines)) <= 29, "wider than the terminal"
assert 3 <= len(lines) <= 60, f"{len(lines)} updates in about 2.5 s"
assert "%" in lines[len(lines) // 2], "no percentage"
END
  same "$T/local/f" "$T/root/f"
}
