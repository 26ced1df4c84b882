#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What is taken, and what is only shown: lists of names, and dry runs.

load helpers
load trees

# listed OPTION...: copies what $T/list names below $T/local/tree into the root
listed() {
  copy -q --files-from "$T/list" "$@" "$T/local/tree" "$url/"
}

@test "--files-from takes what is named, below DEST, with the directories that it is in" {
  serve
  make_tree "$T/local/tree"
  chmod 751 "$T/local/tree/sub"
  printf '%s\n' sub/deep/deeper/large ./one sub//small '' one sub/small nothing >"$T/list"
  listed
  is "$status" 0
  is "$(find "$T/root" -name .zerohaul-staging -prune -o -type f -printf '%P\n' | sort | xargs)" \
    "nothing one sub/deep/deeper/large sub/small"
  is "$(cd "$T/root" && find sub -type d -printf '%p:%m:%T@ ')" \
    "$(cd "$T/local/tree" && find sub -type d -printf '%p:%m:%T@ ')"
  for name in nothing one sub/deep/deeper/large sub/small; do
    same "$T/local/tree/$name" "$T/root/$name"
    is "$(stat -c '%a %y' "$T/root/$name")" "$(stat -c '%a %y' "$T/local/tree/$name")"
  done
  copies --json --files-from "$T/list" "$T/local/tree" "$url/"
  json_is_valid
  is "$(count files_done) $(count files_skipped) $(count files_failed)" "0 4 0"
  copies --json --files-from - "$T/local/tree" "$url/new" <"$T/list"
  is "$(count files_done) $(count directories)" "4 4"
  same "$T/local/tree/sub/small" "$T/root/new/sub/small"
}

@test "--files-from: no names are nothing to copy, and what is named and left out is not copied" {
  serve
  make_tree "$T/local/tree"
  : >"$T/list"
  listed
  is "$status" 0
  nothing_in "$T/root"
  mkfifo "$T/local/tree/fifo"
  ln -s one "$T/local/tree/link"
  printf '%s\n' fifo link one sub/small sub/deep/medium >"$T/list"
  copies --json --files-from "$T/list" --exclude small --exclude deep/ "$T/local/tree" "$url/"
  is "$(count special_skipped) $(count links_skipped) $(count files_done)" "1 1 1"
  is "$(find "$T/root" -type f)" "$T/root/one"
}

@test "--files-from: a name that is not there fails, the others arrive" {
  serve
  make_tree "$T/local/tree"
  ln -s sub "$T/local/tree/link"
  printf '%s\n' absent one/in absent/in link/small one sub/absent sub/small >"$T/list"
  copy --json --files-from "$T/list" "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted(f["file"] for f in o["failures"])')" \
    "['absent', 'absent/in', 'link/small', 'one/in', 'sub/absent']"
  is "$(json 'set(f["outcome"] for f in o["failures"])')" "{'SRC_GONE'}"
  same "$T/local/tree/one" "$T/root/one"
  same "$T/local/tree/sub/small" "$T/root/sub/small"
  is "$(find "$T/root" -type f | wc -l)" 2
  echo absent >"$T/list"
  listed
  failed 22 absent
}

@test "--files-from: directories are for -r, and what is named in one of them comes once" {
  serve
  make_tree "$T/local/tree"
  printf '%s\n' sub/small sub sub/deep one >"$T/list"
  copy --json --files-from "$T/list" "$T/local/tree" "$url/"
  is "$status" 3
  is "$(json 'sorted((f["file"], f["outcome"]) for f in o["failures"])')" \
    "[('sub', 'USAGE'), ('sub/deep', 'USAGE')]"
  is "$(find "$T/root" -type f | wc -l)" 2
  copies -r --json --files-from "$T/list" "$T/local/tree" "$url/2"
  is "$(count files_done) $(count files_failed)" "4 0"
  same_tree "$T/local/tree/sub" "$T/root/2/sub"
  [[ ! -e $T/root/2/empty ]] || fail "more than was named"
  echo . >"$T/list"
  listed -r --quiet
  is "$status" 0
  diff -r -x 2 "$T/local/tree" "$T/root"
  (cd "$T/local/tree" && find . -print) >"$T/list"
  copies -r --files-from "$T/list" "$T/local/tree" "$url/3"
  same_tree "$T/local/tree" "$T/root/3"
}

@test "--files-from: names of any bytes with --null" {
  serve
  mkdir "$T/local/tree"
  random_file "$T/local/tree/a b" 100
  random_file "$T/local/tree/"$'gr\xc3\xbcn' 100
  random_file "$T/local/tree/"$'new\nline' 100
  printf '%s\0' 'a b' $'gr\xc3\xbcn' $'new\nline' >"$T/list"
  copy --json -0 --files-from "$T/list" "$T/local/tree" "$url/"
  is "$status" 3 # by the receiver, which makes no such name
  is "$(json '[(f["file"], f["outcome"]) for f in o["failures"]]')" "[('new\\\\x0aline', 'UNSAFE_NAME')]"
  same "$T/local/tree/a b" "$T/root/a b"
  same "$T/local/tree/"$'gr\xc3\xbcn' "$T/root/"$'gr\xc3\xbcn'
  listed
  failed 2 "--null may be missing"
}

@test "--files-from: a name that leads elsewhere, and what cannot be a list, move nothing" {
  local name
  serve
  make_tree "$T/local/tree"
  for name in /etc/hostname .. ../tree/one sub/../one sub/.. ./..; do
    printf '%s\n' one "$name" >"$T/list"
    listed
    failed 1 "--files-from"
    nothing_in "$T/root"
  done
  echo one >"$T/list"
  copy --files-from "$T/none" "$T/local/tree" "$url/"
  failed 2 "cannot be read"
  copy --files-from "$T/local" "$T/local/tree" "$url/"
  failed 2 "cannot be read"
  copy --files-from "$T/list" "$T/local/tree" "$T/local" "$url/"
  failed 1 "one SOURCE"
  copy --files-from "$T/list" "$T/local/tree/one" "$url/"
  failed 1 "names are listed"
  copy --null "$T/local/tree/one" "$url/"
  failed 1 "--null is for --files-from"
  nothing_in "$T/root"
  cp -r "$T/local/tree" "$T/root/tree"
  copy --files-from "$T/list" "$url/tree" "$T/local/back"
  failed 1 "what this host sends"
  [[ ! -e $T/local/back ]] || fail "something was made"
}

@test "--files-from: thousands of names in any order, and each directory once" {
  local number
  serve
  mkdir "$T/local/tree"
  for number in {1..30}; do
    mkdir "$T/local/tree/$number"
  done
  for number in {1..3000}; do
    echo "$number" >"$T/local/tree/$((number % 30 + 1))/$number"
  done
  (cd "$T/local/tree" && find . -type f | shuf) >"$T/list"
  copies --json --files-from "$T/list" "$T/local/tree" "$url/in"
  is "$(count files_done) $(count directories)" "3000 31"
  same_tree "$T/local/tree" "$T/root/in"
}

# attribute NAME VALUE FILE...: false where there are none
attribute() {
  python3 -c 'import os, sys
for path in sys.argv[3:]:
    os.setxattr(path, "user." + sys.argv[1], sys.argv[2].encode())' "$@" 2>"$T/err"
}

value_of() {
  python3 -c 'import os, sys
print(os.getxattr(sys.argv[2], "user." + sys.argv[1]).decode())' "$@"
}

@test "--files-from: a directory on the way has its own attributes, and whole names may be absurd" {
  local deep
  serve
  make_tree "$T/local/tree"
  echo sub/deep/medium >"$T/list"
  attribute note sub "$T/local/tree/sub" || skip "no extended attributes here"
  attribute note medium "$T/local/tree/sub/deep/medium"
  listed --xattrs
  is "$status" 0
  is "$(value_of note "$T/root/sub")" sub
  is "$(value_of note "$T/root/sub/deep/medium")" medium
  is "$(stat -c '%a %y' "$T/root/sub")" "$(stat -c '%a %y' "$T/local/tree/sub")"
  deep=$(printf 'sub/%.0s' {1..3000})
  printf '%s\n' one "${deep}x" "$(printf 'n%.0s' {1..5000})" "sub/$(printf './%.0s' {1..3000})small" >"$T/list"
  listed
  is "$status" 3
  is "$(wc -l <"$T/err")" 2
  same "$T/local/tree/sub/small" "$T/root/sub/small"
  same "$T/local/tree/one" "$T/root/one"
}

# with_files MOST OPTION...: copies with so few descriptors at this side
with_files() (
  ulimit -n "$1"
  shift
  copy -r --json "$@"
  exit "$status"
)

@test "--max-open: with few descriptors a tree of large files goes through, pushed and pulled" {
  local number
  serve
  mkdir "$T/local/tree"
  random_file "$T/local/tree/0" 300001
  for number in {1..99}; do
    cp "$T/local/tree/0" "$T/local/tree/$number"
  done
  make_old "$T/local/tree"
  if with_files 48 --limit 50MB "$T/local/tree" "$url/"; then
    fail "descriptors were not scarce"
  fi
  rm -rf "$T/root/tree"
  with_files 48 --max-open 2 "$T/local/tree" "$url/" || fail "exit status $?"
  same_tree "$T/local/tree" "$T/root/tree"
  with_files 48 --max-open 2 "$url/tree" "$T/local/back" || fail "exit status $?"
  same_tree "$T/local/tree" "$T/local/back"
}

# Everything below a directory, with what shows any change.
exactly() {
  (cd "$1" && find . -printf '%p %y %m %U %i %s %T@ %C@ %l\n' | LC_ALL=C sort)
}

# dry OPTION...: a dry run, which changes nothing
dry() {
  local before
  before=$(exactly "$T/root" && exactly "$T/local")
  copy --dry-run "$@"
  [[ $(exactly "$T/root" && exactly "$T/local") == "$before" ]] || fail "something was changed"
}

# lacking: the names that the last dry run with --json would send
lacking() {
  json 'sorted(e["name"] for e in o["would_send"])'
}

@test "--dry-run lists what would be sent with its size, and changes nothing" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/tree/"$'gr\xc3\xbcn' 10
  dry -r "$T/local/tree" "$url/"
  is "$status" 0
  (cd "$T/local" && find tree -type f -printf '%14s  %p\n') | LC_ALL=C sed 's/\xc3\xbc/\\xc3\\xbc/' |
    LC_ALL=C sort >"$T/expected"
  grep -E '^ *[0-9]+  tree/' "$T/out" | LC_ALL=C sort | diff "$T/expected" - || fail "another list"
  tr '\n' ' ' <"$T/out" | grep -qF '8 files, 3.61 MB (3605025 bytes), would be sent; 0 files, ' ||
    fail "other totals"
  tr '\n' ' ' <"$T/out" | grep -qF 'Of 6 directories 6 would be made.' || fail "other directories"
  dry -r --json "$T/local/tree" "$url/"
  json_is_valid
  is "$(count files_done) $(count bytes) $(count files_skipped) $(count directories_made)" "8 3605025 0 6"
  is "$(json 'sum(e["bytes"] for e in o["would_send"])') $(sent)" "3605025 0"
  dry -r --quiet "$T/local/tree" "$url/new"
  is "$(grep -c ' new/' "$T/out") $(wc -l <"$T/out")" "8 8"

  copies -r --json "$T/local/tree" "$url/"
  is "$(count directories_made) $(json 'o["would_send"]')" "6 None"
  dry -r "$T/local/tree" "$url/"
  ! grep -q ' tree/' "$T/out" || fail "something would be sent"
  dry -r --json "$url/tree" "$T/local"
  json_is_valid
  is "$(lacking) $(count files_skipped) $(count bytes_skipped) $(count directories_made)" "[] 8 3605025 0"
  dry -r --json "$url/tree" "$T/local/back"
  is "$(count files_done) $(count bytes) $(count directories_made)" "8 3605025 6"
  is "$(json 'sum(e["name"].startswith("back/") for e in o["would_send"])')" 8
  random_file "$T/local/tree/sub/deep/medium" 300005
  random_file "$T/local/tree/one" 77
  dry -r --json "$T/local/tree" "$url/"
  is "$(lacking) $(count bytes) $(count files_skipped)" "['tree/one', 'tree/sub/deep/medium'] 300082 6"
  copies -r --json "$T/local/tree" "$url/"
  is "$(count files_done) $(count bytes) $(sent)" "2 300082 300082"
}

@test "--dry-run tells what --existing finds, and leaves attributes and staging alone" {
  local file
  serve
  make_tree "$T/local/tree"
  cp -a "$T/local/tree" "$T/root/"
  chmod 600 "$T/root/tree/nothing"
  chmod 700 "$T/root/tree/sub"
  mkdir -m 700 "$T/root/.zerohaul-staging" "$T/root/.zerohaul-staging/s.0123456789abcdef"
  : >"$T/root/.zerohaul-staging/s.0123456789abcdef/1"
  for file in one sub/small sub/deep/medium sub/deep/deeper/large; do
    head -c "$(stat -c %s "$T/local/tree/$file")" /dev/zero |
      dd of="$T/root/tree/$file" conv=notrunc status=none
    touch -r "$T/local/tree/$file" "$T/root/tree/$file"
  done
  dry -r --json --existing=trust "$T/local/tree" "$url/"
  is "$(lacking) $(count files_skipped)" "[] 7"
  dry -r --json "$T/local/tree" "$url/"
  is "$(lacking)" "['tree/one', 'tree/sub/deep/deeper/large', 'tree/sub/deep/medium', 'tree/sub/small']"
  is "$(count files_skipped)" 3
  dry -r --json "$url/tree" "$T/local"
  is "$(count files_done) $(count files_skipped)" "4 3"
  cp -rf "$T/local/tree/." "$T/root/tree/"
  dry -r --json "$T/local/tree" "$url/"
  is "$(count files_skipped)" 0
  dry -r --json --existing=digest --streams=3 "$T/local/tree" "$url/"
  is "$(lacking) $(count files_skipped)" "[] 7"
  rm -r "$T/root/.zerohaul-staging"
}

@test "--dry-run tells what would fail, as links, sparse files and single files are" {
  serve
  make_tree "$T/local/tree"
  mkdir -p "$T/root/tree/one" "$T/root/tree/sub/deep/medium"
  echo file >"$T/root/tree/modes"
  dry -r --json "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted(f["file"] for f in o["failures"] if f["outcome"] == "EXISTS")')" \
    "['tree/modes', 'tree/one', 'tree/sub/deep/medium']"
  is "$(lacking)" "['tree/nothing', 'tree/sub/deep/deeper/large', 'tree/sub/small']"
  dry "$T/local/none" "$url/"
  failed 22 none
  dry "$T/local/tree/one" "$url/tree"
  failed 30 EXISTS
  dry --json --no-clobber "$T/local/tree/modes/run" "$url/tree/modes"
  is "$status" 30
  dry --json "$T/local/tree/modes/run" "$url/tree/modes"
  is "$(lacking) $(count bytes)" "['modes'] 300002"
  make_links "$T/local/links"
  truncate -s 5M "$T/local/links/sparse"
  dry -r -l --json "$T/local/links" "$url/"
  is "$(json 'sorted(e["name"] for e in o["would_send"] if e["kind"] == "link")[-1]')" links/sub/up
  is "$(count files_done)" 9
  is "$(json '[e["bytes"] for e in o["would_send"] if e["name"] == "links/sparse"]')" "[5242880]"
  copies -r -l "$T/local/links" "$url/"
  dry -r -l --json "$T/local/links" "$url/"
  is "$(json '[e["name"] for e in o["would_send"] if e["name"] != "links/sparse"]')" "[]"
  printf '%s\n' sub/small one >"$T/list"
  dry --json --files-from "$T/list" "$T/local/tree" "$url/new"
  is "$(lacking) $(count directories_made)" "['new/one', 'new/sub/small'] 2"
}

@test "--dry-run leaves extended attributes and owners alone, and tells when its list was not written" {
  serve
  make_tree "$T/local/tree"
  cp -a "$T/local/tree" "$T/root/"
  dry -r --owner --json "$T/local/tree" "$url/"
  is "$(lacking) $(count files_skipped)" "[] 7"
  dry -r "$T/local/tree" "$url/new"
  status=0
  timeout 60 "$ZEROHAUL" copy -r --key "$T/key" --dry-run "$T/local/tree" "$url/new" >/dev/full 2>"$T/err" || status=$?
  [[ $status -ne 0 ]] || fail "a list that nobody can read"
  attribute old x "$T/root/tree/sub/deep/medium" || skip "no extended attributes here"
  attribute old x "$T/root/tree/sub" "$T/root/tree/sub/small"
  attribute new x "$T/local/tree/sub/small" "$T/local/tree/sub/deep/deeper/large" "$T/local/tree/empty"
  dry -r --xattrs --owner --json "$T/local/tree" "$url/"
  is "$(lacking) $(count files_skipped)" "[] 7"
  dry -r --xattrs --json "$url/tree" "$T/local"
  is "$(lacking) $(count files_skipped)" "[] 7"
}

has_ended() {
  grep -q 'dry run, not' "$T/server.log"
}

@test "--dry-run goes on while nobody reads its list" {
  local number client pipe
  serve
  mkdir -p "$T/local/tree"
  for number in {1..2000}; do
    : >"$T/local/tree/$number-of-many-files-that-have-names-of-some-length-so-that-they-fill-a-pipe"
  done
  mkfifo "$T/pipe"
  exec {pipe}<>"$T/pipe" # open at both ends, so nobody waits for the other
  "$ZEROHAUL" copy -r --key "$T/key" --dry-run --quiet "$T/local/tree" "$url/" >"$T/pipe" 2>"$T/err" 3>&- {pipe}>&- &
  client=$!
  wait_for 20 has_ended || fail "the session waits for the reader"
  kill -0 "$client" || fail "the pipe was not full"
  cat <"$T/pipe" >"$T/list" 3>&- {pipe}>&- &
  exec {pipe}>&-
  wait "$client" || fail "exit status $?"
  wait "$!"
  is "$(wc -l <"$T/list") $(sort "$T/list" | uniq -d | wc -l)" "2000 0"
}

@test "--dry-run is not for --manifest, nor for --retry" {
  serve
  random_file "$T/local/f" 100
  dry --manifest="$T/m" "$T/local/f" "$url/"
  failed 1 manifest
  dry --retry=2 "$T/local/f" "$url/"
  failed 1 "--dry-run"
  [[ ! -e $T/m ]] || fail "a manifest was made"
}

# Four names that no source has, one of them for a rule.
make_extra() {
  mkdir -p "$1/old/deep"
  random_file "$1/old/deep/file" 300000
  random_file "$1/old/top" 10
  random_file "$1/top" 10
}

@test "--files-from and --delete do not go together" {
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree/." "$url/"
  make_extra "$T/root"
  echo sub/small >"$T/list"
  exactly "$T/root" >"$T/before"
  for option in --delete --delete\ -r --delete\ --dry-run; do
    # shellcheck disable=SC2086
    listed $option
    failed 1 "no --delete"
  done
  exactly "$T/root" | diff "$T/before" - || fail "something was changed"
}

@test "--dry-run --delete counts what would go, and nothing goes" {
  local source
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree" "$url/"
  make_extra "$T/root/tree"
  cp -a "$T/root/tree" "$T/local/back"
  cp -a "$T/root/tree" "$T/root/contents"
  cp -a "$T/local/tree" "$T/root/back"
  for source in "$T/local/tree $url/" "$T/local/tree/. $url/contents" "$url/back $T/local" \
    "$url/back/. $T/local/back"; do
    # shellcheck disable=SC2086
    dry -r --json --delete --exclude /top $source
    json_is_valid
    is "$status $(lacking) $(count deleted) $(count files_skipped)" "0 [] 4 7"
    # shellcheck disable=SC2086
    dry -r --delete $source
    tr '\n' ' ' <"$T/out" | grep -qF '5 names would be removed' || fail "the summary does not say it"
  done
  # what is not there has nothing that could go
  dry -r --json --delete "$T/local/tree" "$url/absent"
  is "$status $(count deleted) $(count directories_made)" "0 0 6"
  dry -r --json --delete "$url/tree/." "$T/local/absent"
  is "$status $(count deleted)" "0 0"
  copies -r --json --delete --max-open 1 --exclude /top "$T/local/tree" "$url/"
  is "$(count deleted)" 4
  [[ -e $T/root/tree/top ]] || fail "what is left out is gone"
}

@test "--delete: what is in a source is pulled as it is pushed" {
  local from
  serve
  make_tree "$T/root/tree"
  for from in "$url/tree/." "$url/tree/./"; do
    mkdir -p "$T/local/mirror"
    make_extra "$T/local/mirror"
    random_file "$T/local/beside" 10
    copies -r --json --delete --exclude /top "$from" "$T/local/mirror"
    json_is_valid
    is "$(count deleted)" 4
    diff -r -x top "$T/root/tree" "$T/local/mirror" || fail "no mirror"
    [[ -e $T/local/mirror/top && -e $T/local/beside ]] || fail "more than the mirror was pruned"
    copies -r --json --delete "$from" "$T/local/mirror"
    is "$(count deleted) $(sent)" "1 0"
    rm -r "$T/local/mirror"
  done
  # a name of its own: what is beside it stays
  make_extra "$T/local"
  copies -r --json --delete "$url/tree" "$T/local"
  is "$(count deleted)" 0
  same_tree "$T/root/tree" "$T/local/tree"
  [[ -e $T/local/old/deep/file ]] || fail "what is beside the mirror is gone"
  # what is not there is made
  copies -r --json --delete "$url/tree/." "$T/local/new"
  diff -r "$T/root/tree" "$T/local/new"
  # what is no directory has nothing in it
  random_file "$T/root/file" 10
  copy -r --delete "$url/file/." "$T/local/tree"
  [[ $status -ne 0 ]] || fail "a file is taken for a directory"
  copy -r --delete "$url/absent/." "$T/local/tree"
  [[ $status -ne 0 ]] || fail "what is not there is no failure"
  same_tree "$T/root/tree" "$T/local/tree"
  copy -r --delete "$url/tree/." "$url/file" "$T/local"
  failed 1 "by itself"
}
