#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The server: how it starts, what it refuses, how it ends.

load helpers

ended() {
  ! kill -0 "$1" 2>/dev/null
}

# ends_with STATUS PID: within ten seconds.
ends_with() {
  wait_for 10 ended "$2" || fail "the server still runs"
  local server_status=0
  wait "$2" || server_status=$?
  is "$server_status" "$1"
}

@test "the first line says where it listens" {
  serve
  grep -qxE 'listening 127\.0\.0\.1:[1-9][0-9]*' "$T/server.listen" || fail "no address"
  is "$(wc -l <"$T/server.listen")" 1
}

@test "SIGTERM and SIGINT end it with 0" {
  serve
  kill -TERM "$server"
  ends_with 0 "$server"
  # A shell starts background jobs with SIGINT ignored, which the server would respect.
  env --default-signal=INT "$ZEROHAUL" serve --root "$T/root" --key "$T/key" \
    --listen 127.0.0.1:0 >"$T/int.listen" 2>"$T/int.log" 3>&- &
  server=$!
  servers+=("$server")
  wait_for 10 has_listened "$T/int.listen" "$server"
  kill -INT "$server"
  ends_with 0 "$server"
}

@test "SIGTERM lets no new client in and does not wait for nobody" {
  serve
  random_file "$T/local/f" 100
  copies "$T/local/f" "$url/"
  local before=$SECONDS
  kill -TERM "$server"
  ends_with 0 "$server"
  ((SECONDS - before <= 3)) || fail "it took $((SECONDS - before)) s with nobody connected"
  copy "$T/local/f" "$url/g"
  failed 40 "[NET"
}

@test "--once ends after one session with its outcome" {
  random_file "$T/local/f" 100
  serve --once
  copies "$T/local/f" "$url/"
  ends_with 0 "$server"
  same "$T/local/f" "$T/root/f"
  start_server again --root "$T/root" --key "$T/key" --once --read-only
  # Who does not hold the key has no session that could be the one.
  "$ZEROHAUL" keygen --output "$T/other" >/dev/null
  zh copy --key "$T/other" "$T/local/f" "$url/g"
  failed 10 "[AUTH"
  copy "$T/local/f" "$url/g"
  failed 14 "[POLICY"
  ends_with 14 "$server"
}

@test "--limits prints a table and exits" {
  succeeds serve --limits
  [[ $(wc -l <"$T/out") -ge 2 ]] || fail "no table"
  ! grep -vE '^[^ ]+ +[0-9]+ +[^ ]+ +[^ ]' "$T/out" || fail "a line is no row"
  [[ ! -s $T/err ]] || fail "something on stderr"
}

@test "a port in use is 2" {
  serve
  zh serve --root "$T/root" --key "$T/key" --listen "$address"
  failed 2 "[CONFIG"
  [[ ! -s $T/out ]] || fail "it said that it listens"
}

@test "a root that is missing or no directory is 2" {
  zh serve --root "$T/nowhere" --key "$T/key" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
  zh serve --root "$T/key" --key "$T/key" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
  zh serve --key "$T/key"
  failed 1 "--root=DIR is needed"
}

@test "--insecure is for loopback only" {
  local where
  for where in 0.0.0.0:0 '[::]:0' 192.0.2.1:0; do
    zh serve --root "$T/root" --insecure --listen "$where"
    failed 14 "[POLICY"
    [[ ! -s $T/out ]] || fail "it said that it listens"
  done
  zh serve --root "$T/root"
  failed 1 "a key is needed"
  zh serve --root "$T/root" --insecure --key "$T/key"
  failed 1 "exclude each other"
}

@test "key files that others can read, that are short, empty or missing are 2" {
  cp "$T/key" "$T/bad"
  chmod 640 "$T/bad"
  zh serve --root "$T/root" --key "$T/bad" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
  (umask 077 && printf 'short\n' >"$T/short" && : >"$T/empty")
  zh serve --root "$T/root" --key "$T/short" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
  zh serve --root "$T/root" --key "$T/empty" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
  zh serve --root "$T/root" --key "$T/nowhere" --listen 127.0.0.1:0
  failed 2 "[CONFIG"
}

@test "a bad address is 2" {
  local bad
  for bad in 300.0.0.1:0 127.0.0.1:99999 127.0.0.1:x '[::1:0'; do
    zh serve --root "$T/root" --key "$T/key" --listen "$bad"
    failed 2 "[CONFIG"
  done
}

@test "strangers do not harm a server" {
  serve
  local host=${address%:*} port=${address##*:} i
  for i in 1 2 3; do
    head -c 10000 /dev/urandom >"/dev/tcp/$host/$port" || true
    printf 'GET / HTTP/1.0\r\n\r\n' >"/dev/tcp/$host/$port" || true
    : >"/dev/tcp/$host/$port" || true
  done 2>/dev/null
  random_file "$T/local/f" 100000
  copies "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}
