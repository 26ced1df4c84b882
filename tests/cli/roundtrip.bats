#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is pushed and pulled arrives, byte for byte and under the right name.

load helpers

@test "files of all awkward sizes come back as they were" {
  local size
  serve
  for size in 0 1 4095 4097 1048577 16777233; do
    random_file "$T/local/f$size" "$size"
    copies "$T/local/f$size" "$url/"
    same "$T/local/f$size" "$T/root/f$size"
    mkdir "$T/local/back"
    copies "$url/f$size" "$T/local/back"
    same "$T/local/f$size" "$T/local/back/f$size"
    rm -r "$T/local/back"
  done
}

@test "every pair of strategies moves a small file both ways" {
  local send receive pairs=0
  serve
  random_file "$T/local/f" 300001
  for send in copy sendfile splice uring-copy; do
    for receive in copy splice uring-direct; do
      copies --strategy "$send" --receive-strategy "$receive" "$T/local/f" "$url/pushed"
      same "$T/local/f" "$T/root/pushed"
      copies --strategy "$send" --receive-strategy "$receive" "$url/pushed" "$T/local/pulled"
      same "$T/local/f" "$T/local/pulled"
      rm "$T/root/pushed" "$T/local/pulled"
      pairs=$((pairs + 1))
    done
  done
  is "$pairs" 12
}

@test "a receiver that discards makes no file and promises none" {
  serve
  random_file "$T/local/f" 300001
  copy --receive-strategy discard "$T/local/f" "$url/"
  failed 1 "--receive-strategy=discard stores nothing"
  copy --receive-strategy discard --verify none "$T/local/f" "$url/"
  failed 1 "--receive-strategy=discard stores nothing"
  copies --receive-strategy discard --verify none --durability none "$T/local/f" "$url/"
  tr '\n' ' ' <"$T/out" | grep -qF 'Nothing was stored' || fail "the summary promises something"
  copies --json --strategy copy --chunk 64K --receive-strategy discard --verify none --durability none \
    "$T/local/f" "$url/"
  is "$(json 'o["report"]["sender"]["stats"]["chunk_bytes"], o["report"]["receiver"]["stats"]["chunk_bytes"]')" \
    "(65536, 1048576)"
  nothing_in "$T/root"
}

@test "a large file is calibrated where it is sent, when that is asked for" {
  local said
  serve
  random_file "$T/local/f" $((256 * 1048576 + 5))
  cat "$T/local/f" >/dev/null # so that most of it is in memory
  copies --json --calibrate "$T/local/f" "$url/"
  json_is_valid
  said=$(json 'o["report"]["sender"]["stats"]["calibration"]')
  [[ $said =~ ^[a-z-]+\ [0-9.]+,\ [a-z-]+\ [0-9.]+\ (CPU\ )?s/GB:\ [a-z-]+$ ]] || fail "calibration: '$said'"
  is "$(json 'o["report"]["sender"]["stats"]["strategy"]')" "${said##* }"
  cmp "$T/local/f" "$T/root/f"
  copies --calibrate "$T/local/f" "$url/again"
  tr '\n' ' ' <"$T/out" | grep -qF '(calibrated: ' || fail "the summary says nothing of it"
  copies --json "$T/local/f" "$url/plain"
  is "$(json 'o["report"]["sender"]["stats"]["calibration"]')" ''
  copy --calibrate "$url/f" "$T/local/"
  failed 1 "--calibrate is for what this host sends"
}

# cached SIDE: MiB of the file in the page cache of a side after the move, from the report
cached() {
  json "o['report']['$1']['cached_after_bytes'] >> 20"
}

@test "the page cache keeps what was asked for" {
  local strategy
  [[ $(stat -f -c %T "$T") != tmpfs ]] || skip "TMPDIR is no disk: nothing there can leave memory"
  serve
  random_file "$T/local/f" $((80 * 1048576))
  for strategy in sendfile copy; do
    sync "$T/local/f"
    copies --json --cache=drop --strategy=$strategy "$T/local/f" "$url/"
    (($(cached sender) <= 16 && $(cached receiver) <= 16)) || fail "drop: more than 16 MiB are left"
    rm "$T/root/f" # what is there is not sent
    copies --json --strategy=$strategy "$T/local/f" "$url/"
    (($(cached sender) <= 16)) || fail "auto: a source from the disk has filled the page cache"
    rm "$T/root/f"
    copies --json --cache=keep --strategy=$strategy "$T/local/f" "$url/"
    (($(cached sender) >= 75 && $(cached receiver) >= 75)) || fail "keep: it was dropped"
    cmp "$T/local/f" "$T/root/f"
    rm "$T/root/f"
  done
}

@test "several files are pushed into a directory and pulled out of it" {
  local name
  serve
  mkdir "$T/root/in" "$T/local/back"
  for name in a b c; do
    random_file "$T/local/$name" 70000
  done
  copies "$T"/local/{a,b,c} "$url/in"
  grep -q '^3 files' "$T/out" || fail "the summary does not say three files"
  copies "$url/in/a" "$url/in/b" "$url/in/c" "$T/local/back"
  for name in a b c; do
    same "$T/local/$name" "$T/root/in/$name"
    same "$T/local/$name" "$T/local/back/$name"
  done
}

@test "a single file can be given a new name" {
  serve
  random_file "$T/local/f" 5000
  copies "$T/local/f" "$url/renamed"
  same "$T/local/f" "$T/root/renamed"
  copies "$url/renamed" "$T/local/again"
  same "$T/local/f" "$T/local/again"
}

@test "names with percent signs, blanks and marks are taken as they are" {
  local name
  serve
  mkdir "$T/local/back"
  for name in '100%' '%41' 'a b' 'c?d#e' 'f:g@h' $'gr\xc3\xbcn'; do
    random_file "$T/local/$name" 100
    copies "$T/local/$name" "$url/"
    same "$T/local/$name" "$T/root/$name"
    copies "$url/$name" "$T/local/back/"
    same "$T/local/$name" "$T/local/back/$name"
  done
}

@test "an existing file is replaced as a whole" {
  serve
  random_file "$T/local/f" 100000
  random_file "$T/root/f" 200000
  copies "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}

@test "sparse and zero-length files arrive as what they read as" {
  serve
  truncate -s 5M "$T/local/hole"
  printf 'x' | dd of="$T/local/hole" bs=1 seek=3000000 conv=notrunc status=none
  truncate -s 3M "$T/local/nothing"
  : >"$T/local/empty"
  copies "$T"/local/{hole,nothing,empty} "$url/"
  same "$T/local/hole" "$T/root/hole"
  same "$T/local/nothing" "$T/root/nothing"
  [[ -f $T/root/empty && ! -s $T/root/empty ]] || fail "the empty file is not there"
}

@test "several streams move one file" {
  serve
  random_file "$T/local/f" 16777233
  copies --streams 4 --json "$T/local/f" "$url/"
  json_is_valid
  is "$(json 'o["report"]["streams"]')" 4
  same "$T/local/f" "$T/root/f"
}

@test "loopback needs no key when both sides say so" {
  start_server open --root "$T/root" --insecure
  random_file "$T/local/f" 5000
  succeeds copy --insecure "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}

@test "an IPv6 address stands in brackets" {
  [[ -e /proc/net/if_inet6 ]] && grep -q '^0\{31\}1 ' /proc/net/if_inet6 || skip "no IPv6"
  start_server six --root "$T/root" --key "$T/key" --listen '[::1]:0'
  [[ $address == '[::1]:'* ]] || fail "listening on '$address'"
  random_file "$T/local/f" 5000
  copies "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}

@test "the summary says what was moved, how, and what limited it" {
  serve
  random_file "$T/local/f" 5000000
  copies --strategy sendfile --durability file "$T/local/f" "$url/"
  tr '\n' ' ' <"$T/out" >"$T/summary"
  grep -qF '1 file, 5 MB (5000000 bytes) in ' "$T/summary" || fail "no size"
  grep -qE '[0-9.]+ GB/s over [0-9]+ data connection' "$T/summary" || fail "no rate"
  grep -qE 'Sender: sendfile, [0-9.]+ CPU s/GB' "$T/summary" || fail "no sender"
  grep -qE 'receiver: [a-z-]+, [0-9.]+ CPU s/GB' "$T/summary" || fail "no receiver"
  grep -qF ' Verified.' "$T/summary" || fail "not called verified"
  grep -qF '(file)' "$T/summary" || fail "no durability"
  grep -qE 'Limited by the [a-zA-Z ]+: .+\. *$' "$T/summary" || fail "no limiting stage"
  ! grep -qE '.{81}' "$T/out" || fail "wider than 80 columns"
  copies --verify none "$T/local/f" "$url/"
  tr '\n' ' ' <"$T/out" | grep -qF 'Not verified.' || fail "not called unverified"
}
