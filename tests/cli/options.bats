#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Every option of copy does no harm, and numbers are read as they are documented.

load helpers

# A usable value for every option of copy, - where it takes none; an option that is missing here fails the test.
declare -gA value=(
  [--key]='' [--insecure]=- [--strategy]=copy [--receive-strategy]=copy [--chunk]=64K
  [--streams]=2 [--max-open]=1 [--verify]=none [--durability]=file [--no-clobber]=- [--no-fallback]=-
  [--nagle]=nodelay [--sndbuf]=128K [--rcvbuf]=128KiB [--congestion]=reno
  [--notsent-lowat]=16K [--pacing]=100MB [--connect-timeout]=2.5 [--json]=- [--quiet]=-
  [--progress]=never [--cache]=keep [--calibrate]=- [--recursive]=- [--links]=-
  [--owner]=- [--exclude]=x [--include]=x [--files-from]='' [--null]=-
  [--existing]=digest [--dry-run]=- [--manifest]="$BATS_TEST_TMPDIR/m"
  [--limit]=100MB [--nice]=- [--retry]=1 [--help]=- [--xattrs]=- [--privileged-xattrs]=-
  [--delete]=-
)

@test "every option of copy is accepted, in both forms" {
  local option count=0
  serve --privileged-xattrs
  random_file "$T/local/f" 100000
  for option in $(options_of copy); do
    [[ -v value[$option] ]] || fail "$option is not tested"
    [[ ! $option =~ ^--(key|insecure|help|files-from|null|dry-run|delete)$ ]] || continue
    if [[ ${value[$option]} == - ]]; then
      copies "$option" "$T/local/f" "$url/$((++count))"
      same "$T/local/f" "$T/root/$count"
    else
      copies "$option=${value[$option]}" "$T/local/f" "$url/$((++count))"
      same "$T/local/f" "$T/root/$count"
      copies "$option" "${value[$option]}" "$T/local/f" "$url/$((++count))"
      same "$T/local/f" "$T/root/$count"
    fi
    [[ ! -s $T/err ]] || fail "$option writes to stderr"
  done
  is "$count" 55
}

@test "all words of verify, durability, nagle, progress, cache and existing are accepted" {
  local option
  serve
  random_file "$T/local/f" 5000
  for option in --verify={full,none} --durability={full,file,none} --nagle={default,nodelay,cork} \
    --progress={auto,always,never} --cache={auto,keep,drop} --existing={prove,trust,digest}; do
    copies "$option" "$T/local/f" "$url/"
    same "$T/local/f" "$T/root/f"
    rm "$T/root/f"
  done
  copy --verify=some "$T/local/f" "$url/"
  failed 1 "--verify: 'some' is not one of full|none"
  copy --durability '' "$T/local/f" "$url/"
  failed 1 "--durability"
}

@test "options may stand after operands, and -- ends them" {
  serve
  random_file "$T/local/--json" 5000
  (cd "$T/local" && copies -- --json "$url/x")
  same "$T/local/--json" "$T/root/x"
  zh copy "$T/local/--json" "$url/y" --quiet "--key=$T/key"
  is "$status" 0
  [[ ! -s $T/out ]] || fail "--quiet printed a summary"
  same "$T/local/--json" "$T/root/y"
  zh copy "-qk$T/key" "$T/local/--json" "$url/z"
  is "$status" 0
  [[ ! -s $T/out ]] || fail "-q printed a summary"
}

@test "suffixes of sizes mean what they say" {
  local option
  serve
  random_file "$T/local/f" 3000000
  for option in 65536 64K 64k 64KiB; do
    copies --json --strategy copy --chunk "$option" "$T/local/f" "$url/"
    is "$(json 'o["report"]["sender"]["stats"]["chunk_bytes"]')" 65536
    rm "$T/root/f" # what is there is not sent
  done
  copies --json --strategy copy --chunk 64KB "$T/local/f" "$url/"
  is "$(json 'o["report"]["sender"]["stats"]["chunk_bytes"]')" 64000
}

@test "a bad number is told in one line that names the option and the text" {
  local bad
  random_file "$T/local/f" 10
  for bad in 12Q 1.5M -5 +5 0x10 '1 K' K 1KK 1Kib ' 1' 1B; do
    copy "--chunk=$bad" "$T/local/f" zh://127.0.0.1:1/
    failed 1 "--chunk: '$bad' is not a size"
  done
  copy --chunk=2G "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--chunk: '2G' is too large"
  copy --pacing=99999999999999999999 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--pacing: '99999999999999999999' is too large"
  copy --pacing=16777216T "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--pacing: '16777216T' is too large"
  copy --chunk=0 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--chunk: '0' is too small"
  copy --sndbuf=2G "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--sndbuf: '2G' is too large"
  for bad in 2K -1 two; do
    copy "--streams=$bad" "$T/local/f" zh://127.0.0.1:1/
    failed 1 "--streams: '$bad' is not a whole number"
  done
  copy --streams=65 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--streams: '65' is too large, at most 64"
  copy --streams=0 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--streams: '0' is too small"
  copy --max-open=65 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--max-open: '65' is too large, at most 64"
  copy --connect-timeout=soon "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--connect-timeout: 'soon' is not a number of seconds"
  copy --connect-timeout=0.0001 "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--connect-timeout: '0.0001' is too small"
  copy --congestion=much-too-long-for-it "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--congestion: 'much-too-long-for-it'"
  [[ ! -s $T/out ]] || fail "something on stdout"
}

@test "a strategy is one of its side" {
  random_file "$T/local/f" 10
  copy --strategy=teleport "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--strategy: 'teleport' is not one of "
  copy --strategy=discard "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--strategy: 'discard' is not one of "
  copy --receive-strategy=sendfile "$T/local/f" zh://127.0.0.1:1/
  failed 1 "--receive-strategy: 'sendfile' is not one of "
}

@test "a key is named by --key or the environment, never both ways with --insecure" {
  serve
  random_file "$T/local/f" 10
  zh copy "$T/local/f" "$url/"
  failed 1 "a key is needed"
  zh copy --insecure --key "$T/key" "$T/local/f" "$url/"
  failed 1 "exclude each other"
  nothing_in "$T/root"
  export ZEROHAUL_KEY_FILE=$T/key
  succeeds copy "$T/local/f" "$url/"
  same "$T/local/f" "$T/root/f"
}
