# SPDX-License-Identifier: Apache-2.0
# helpers.bash - what every command test shares: a temp directory of its own with a canary tree that
# must not change, servers on free ports, and the checks after each test.
# shellcheck shell=bash disable=SC2034

: "${ZEROHAUL:?names the built command}"

common_setup() {
  T=$(mktemp -d "${TMPDIR:-/tmp}/zerohaul-cli.XXXXXX")
  chmod 755 "$T"
  mkdir "$T/root" "$T/local" "$T/canary"
  head -c 5000 /dev/urandom >"$T/canary/precious"
  ln -s precious "$T/canary/link"
  mkdir -m 700 "$T/canary/private"
  canary_before=$(canary_state)
  "$ZEROHAUL" keygen --output "$T/key" >/dev/null
  servers=()
  mounts=()
  partials_allowed=
  unset ZEROHAUL_KEY_FILE
}

canary_state() {
  (cd "$T/canary" && find . -printf '%P %y %m %s %T@ %l\n' | sort && sha256sum precious)
}

# What belongs to this test is found by its temp directory on the command line.
our_processes() {
  local entry
  for entry in /proc/[0-9]*; do
    [[ ${entry#/proc/} != "$$" && ${entry#/proc/} != "$BASHPID" ]] || continue
    if tr '\0' '\n' 2>/dev/null <"$entry/cmdline" | grep -qF -- "$T/"; then
      echo "${entry#/proc/}"
    fi
  done
}

# wait_for SECONDS COMMAND...
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

no_process_left() {
  [[ -z $(our_processes) ]]
}

common_teardown() {
  local pid problems=
  for pid in "${servers[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  if ! wait_for 15 no_process_left; then
    problems+="processes left: $(our_processes | tr '\n' ' ')"$'\n'
    for pid in $(our_processes); do
      kill -KILL "$pid" 2>/dev/null || true
    done
  fi
  [[ $(canary_state) == "$canary_before" ]] || problems+="the canary tree changed"$'\n'
  local leftovers
  # a broken session may leave what a later copy of the same file takes up
  leftovers=$(find "$T" -path '*/.zerohaul-staging/*' ${partials_allowed:+! -name '*.part'} \
    2>/dev/null)
  [[ -z $leftovers ]] || problems+="left in staging: $leftovers"$'\n'
  local raw
  raw=$(LC_ALL=C find "$T" -maxdepth 1 -type f \( -name '*.log' -o -name out -o -name err \) \
    -exec grep -lP '[\x00-\x08\x0b-\x1f\x7f-\xff]' {} +) || true
  [[ -z $raw ]] || problems+="raw control bytes in $raw"$'\n'
  local reports
  reports=$(find "$T" -maxdepth 1 -type f \( -name '*.log' -o -name out -o -name err \) \
    -exec grep -lE 'Sanitizer|runtime error' {} +) || true
  [[ -z $reports ]] || problems+="a sanitizer reports in $reports"$'\n'
  for pid in "${mounts[@]}"; do
    umount "$pid" || problems+="cannot unmount $pid"$'\n'
  done
  if [[ -n $problems ]]; then
    printf '%s' "$problems"
    show_output
  fi
  rm -rf "$T"
  [[ -z $problems ]]
}

setup() {
  common_setup
}

teardown() {
  common_teardown
}

show_output() {
  local file
  for file in "$T"/out "$T"/err "$T"/*.log; do
    [[ -e $file ]] && printf -- '--- %s\n%s\n' "${file##*/}" "$(head -n 30 "$file" | cat -v)"
  done
  return 0
}

fail() {
  printf '%s\n' "$*"
  show_output
  return 1
}

# Run the command: status in $status, output in $T/out and $T/err.
zh() {
  status=0
  timeout "${ZH_TIMEOUT:-60}" "$ZEROHAUL" "$@" >"$T/out" 2>"$T/err" 3>&- || status=$?
}

succeeds() {
  zh "$@"
  [[ $status -eq 0 ]] || fail "exit status $status from: $*"
}

has_listened() {
  grep -q '^listening ' "$1" || ! kill -0 "$2" 2>/dev/null
}

# start_server NAME OPTION...: sets $url (no slash at the end), $address and $server.
start_server() {
  local name=$1
  shift
  : >"$T/$name.listen"
  "$ZEROHAUL" serve --listen 127.0.0.1:0 "$@" >"$T/$name.listen" 2>"$T/$name.log" 3>&- &
  server=$!
  servers+=("$server")
  wait_for 10 has_listened "$T/$name.listen" "$server" || fail "the server does not listen"
  read -r _ address <"$T/$name.listen" || fail "the server ended"
  url=zh://$address
}

serve() {
  start_server server --root "$T/root" --key "$T/key" "$@"
}

copy() {
  zh copy --key "$T/key" "$@"
}

copies() {
  copy "$@"
  [[ $status -eq 0 ]] || fail "exit status $status from: copy $*"
}

one_line_on_stderr() {
  [[ $(wc -l <"$T/err") -eq 1 ]] || fail "not exactly one line on stderr"
  [[ $(head -c 10 "$T/err") == "zerohaul: " ]] || fail "stderr does not begin with the name"
}

# failed STATUS TEXT: what the last command must have done.
failed() {
  [[ $status -eq $1 ]] || fail "exit status $status, not $1"
  one_line_on_stderr
  grep -qiF -- "$2" "$T/err" || fail "'$2' is not in the error"
}

nothing_in() {
  local found
  found=$(find "$1" -mindepth 1 -name .zerohaul-staging -prune -o -mindepth 1 -print)
  [[ -z $found ]] || fail "left behind: $found"
}

same() {
  cmp "$1" "$2" || fail "$1 and $2 differ"
}

random_file() {
  head -c "$2" /dev/urandom >"$1"
}

need_root() {
  [[ $EUID -eq 0 ]] || skip "needs root"
}

# Run the command as an ordinary user, whoever runs the tests.
zh_as_user() {
  local as=()
  if [[ $EUID -eq 0 ]]; then
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    "${as[@]}" test -x "$ZEROHAUL" || skip "an ordinary user cannot reach the command"
  fi
  status=0
  timeout 60 "${as[@]}" "$ZEROHAUL" "$@" >"$T/out" 2>"$T/err" 3>&- || status=$?
}

# The long options that a command's help lists.
options_of() {
  "$ZEROHAUL" "$1" --help | grep -oE '^  (-[A-Za-z0-9], |    )--[a-z-]+' | grep -oE -- '--[a-z-]+' | sort
}

# json_is_valid [COMMAND]: by the schema of copy, or of another command
json_is_valid() {
  python3 "$BATS_TEST_DIRNAME/check_schema.py" "${ZH_SCHEMA%/*}/${1:-copy}.schema.json" "$T/out" ||
    fail "invalid JSON"
}

# json EXPRESSION: of the object `o` on stdout.
json() {
  python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' \
    "$T/out" "$1"
}

is() {
  [[ $1 == "$2" ]] || fail "'$1' is not '$2'"
}
