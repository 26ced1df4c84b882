#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Each bad input: exactly one line, the right exit status, and nothing left behind.

load helpers

@test "a missing source is 22, on either side" {
  serve
  copy "$T/local/none" "$url/"
  failed 22 "none"
  nothing_in "$T/root"
  copy "$url/none" "$T/local/"
  failed 22 "none"
  nothing_in "$T/local"
}

@test "a directory is no source" {
  serve
  mkdir "$T/local/dir" "$T/root/dir"
  copy "$T/local/dir" "$url/new"
  failed 1 "is a directory"
  [[ ! -e $T/root/new ]] || fail "something was made"
  copy "$url/dir" "$T/local/new"
  failed 1 "is a directory"
  [[ ! -e $T/local/new ]] || fail "something was made"
}

@test "FIFOs and devices are no sources, and nobody waits for them" {
  serve
  mkfifo "$T/local/fifo" "$T/root/fifo"
  ZH_TIMEOUT=10
  copy "$T/local/fifo" "$url/new"
  failed 1 "not a regular file"
  copy /dev/zero "$url/new"
  failed 1 "not a regular file"
  copy "$url/fifo" "$T/local/new"
  failed 1 "special file"
  [[ ! -e $T/root/new && ! -e $T/local/new ]] || fail "something was made"
}

@test "a symbolic link is not followed as a source" {
  serve
  random_file "$T/local/f" 100
  ln -s f "$T/local/link"
  ln -s "$T/canary/precious" "$T/root/link"
  copy "$T/local/link" "$url/new"
  failed 1 "symbolic link"
  copy "$url/link" "$T/local/new"
  failed 1 "link"
  [[ ! -e $T/root/new && ! -e $T/local/new ]] || fail "something was made"
}

@test "an unreadable source is 21" {
  start_server open --root "$T/root" --insecure
  random_file "$T/local/f" 100
  chmod 000 "$T/local/f"
  zh_as_user copy --insecure "$T/local/f" "$url/"
  failed 21 "Permission denied"
  nothing_in "$T/root"
}

@test "a wrong key is 10" {
  serve
  random_file "$T/local/f" 100
  succeeds keygen --output "$T/other"
  zh copy --key "$T/other" "$T/local/f" "$url/"
  failed 10 "[AUTH"
  nothing_in "$T/root"
  zh copy --key "$T/other" "$url/f" "$T/local/g"
  failed 10 "[AUTH"
  [[ ! -e $T/local/g ]] || fail "something was made"
  zh copy --insecure "$T/local/f" "$url/"
  [[ $status -ne 0 ]] || fail "a server with a key let a client without one in"
  one_line_on_stderr
  nothing_in "$T/root"
}

@test "a key file that others can read, a short one and a missing one are 2" {
  random_file "$T/local/f" 100
  serve
  cp "$T/key" "$T/shared"
  chmod 640 "$T/shared"
  zh copy --key "$T/shared" "$T/local/f" "$url/"
  failed 2 "[CONFIG"
  (umask 077 && printf 'short\n' >"$T/short")
  zh copy --key "$T/short" "$T/local/f" "$url/"
  failed 2 "[CONFIG"
  zh copy --key "$T/nowhere" "$T/local/f" "$url/"
  failed 2 "[CONFIG"
  nothing_in "$T/root"
}

@test "no server is 40" {
  random_file "$T/local/f" 100
  serve
  kill -TERM "$server"
  wait "$server" || true
  copy "$T/local/f" "$url/"
  failed 40 "[NET"
  copy "$url/f" "$T/local/g"
  failed 40 "[NET"
  [[ ! -e $T/local/g ]] || fail "something was made"
  copy "$T/local/f" zh://host.invalid/
  failed 40 "[NET"
}

@test "bad locations are 1" {
  local bad
  random_file "$T/local/f" 100
  for bad in zh:// zh:/// zh://host zh://:1/ zh://host:0/ zh://host:65536/ zh://host:x/ zh://host:/ \
    'zh://[::1/' 'zh://[::1]x/' 'zh://[host]/' zh://me@host/ zh://-host/ 'zh://ho st/'; do
    copy "$T/local/f" "$bad"
    failed 1 "not a location"
    copy "$bad" "$T/local/g"
    failed 1 "not a location"
  done
  copy "$T/local/f" "$T/local/g"
  failed 1 "both local"
  copy "$T/local/f" http://host/g
  failed 1 "both local"
  copy zh://host/f zh://host/g
  failed 1 "cannot be remote"
  copy zh://one/f zh://two/f "$T/local/"
  failed 1 "same HOST:PORT"
  [[ ! -e $T/local/g ]] || fail "something was made"
}

@test "nothing outside of the root can be named" {
  local path
  serve
  random_file "$T/local/f" 100
  mkdir "$T/root/sub"
  ln -s "$T/canary" "$T/root/out"
  for path in ../evil sub/../../evil out/evil; do
    copy "$T/local/f" "$url/$path"
    [[ $status -ne 0 ]] || fail "$path was accepted"
    one_line_on_stderr
  done
  for path in ../canary/precious out/precious; do
    copy "$url/$path" "$T/local/stolen"
    [[ $status -ne 0 ]] || fail "$path was accepted"
    one_line_on_stderr
  done
  [[ ! -e $T/evil && ! -e $T/canary/evil && ! -e $T/local/stolen ]] || fail "something was made"
  copies "$T/local/f" "$url/sub/f"
  same "$T/local/f" "$T/root/sub/f"
}

@test "a name with control bytes is 15 and is shown escaped" {
  local name
  serve
  for name in $'new\nline' $'esc\e[31m' $'bell\a'; do
    random_file "$T/local/$name" 100
    copy "$T/local/$name" "$url/"
    failed 15 '\x'
    nothing_in "$T/root"
  done
}

@test "an existing destination is 30 under --no-clobber and keeps its content" {
  serve
  random_file "$T/local/f" 100000
  random_file "$T/root/f" 300
  cp "$T/root/f" "$T/before"
  copy --no-clobber "$T/local/f" "$url/"
  failed 30 "[EXISTS"
  same "$T/before" "$T/root/f"
  cp "$T/local/f" "$T/before"
  copy --no-clobber "$url/f" "$T/local/f"
  failed 30 "[EXISTS"
  same "$T/before" "$T/local/f"
  copies --no-clobber "$T/local/f" "$url/new"
  same "$T/local/f" "$T/root/new"
}

@test "no space at the destination is 31 and leaves no trace" {
  need_root
  mkdir "$T/small"
  mount -t tmpfs -o size=4m none "$T/small" || skip "cannot mount"
  mounts+=("$T/small")
  local free
  free=$(df --output=avail "$T/small" | tail -1)
  start_server small --root "$T/small" --key "$T/key"
  random_file "$T/local/f" 16777217
  copy "$T/local/f" "$url/"
  failed 31 "[NOSPACE"
  nothing_in "$T/small"
  is "$(df --output=avail "$T/small" | tail -1)" "$free"
  random_file "$T/local/g" 1000000
  copies "$T/local/g" "$url/"
  same "$T/local/g" "$T/small/g"
  kill -TERM "$server"
  wait "$server" || true
}

@test "what can arrive does, the rest is named, and the status is 3" {
  serve
  random_file "$T/local/good" 5000
  copy "$T/local/good" "$T/local/none" "$url/"
  failed 3 "none"
  same "$T/local/good" "$T/root/good"
  tr '\n' ' ' <"$T/out" | grep -q '1 file failed' || fail "the summary hides the failure"
}

@test "a file that cannot be made is 33" {
  serve --read-only
  random_file "$T/local/f" 100
  copy "$T/local/f" "$url/"
  failed 14 "[POLICY"
  nothing_in "$T/root"
  random_file "$T/root/g" 100
  copies "$url/g" "$T/local/"
  same "$T/root/g" "$T/local/g"
  mkdir -m 555 "$T/local/locked"
  start_server open --root "$T/root" --insecure
  zh_as_user copy --insecure "$url/g" "$T/local/locked/"
  failed 33 "[PERM"
  nothing_in "$T/local/locked"
}

@test "keygen makes a private key and replaces nothing" {
  is "$(stat -c %a "$T/key")" 600
  [[ $(stat -c %s "$T/key") -ge 32 ]] || fail "a short key"
  cp "$T/key" "$T/before"
  zh keygen --output "$T/key"
  failed 30 "[EXISTS]"
  same "$T/before" "$T/key"
  zh keygen --output "$T/no/such/directory"
  failed 34 "No such file or directory"
  zh keygen
  failed 1 "--output=FILE is needed"
  succeeds keygen -o "$T/second"
  ! cmp -s "$T/key" "$T/second" || fail "two keys are the same"
}

@test "plan refuses what copy would refuse" {
  mkfifo "$T/local/fifo"
  ln -s "$T/key" "$T/local/link"
  zh plan "$T/local/none"
  failed 22 "none"
  zh plan "$T/local"
  failed 1 "is a directory"
  zh plan --receive "$T/local"
  failed 1 "is a directory"
  zh plan "$T/local/fifo"
  failed 1 "not a regular file"
  zh plan "$T/local/link"
  failed 1 "symbolic link"
  zh plan --strategy sendfile --receive "$T/key"
  failed 1 "'sendfile' is for sending"
  zh plan "$T/key" zh://127.0.0.1:1/
  failed 40 "Connection refused"
}
