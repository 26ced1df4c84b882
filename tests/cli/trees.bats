#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# copy -r: whole directories arrive as they were, and a second time only what has changed is sent.

load helpers
load trees

@test "a tree comes back as it was: modes, times to the nanosecond, empty directories and files" {
  serve
  make_tree "$T/local/tree"
  both "$T/local/tree"
  is "$(count files_done) $(count directories) $(count files_failed)" "7 6 0"
  is "$(count bytes)" 3605015
}

@test "without -r a directory is refused and the file beside it arrives" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/f" 100
  copy "$T/local/tree" "$T/local/f" "$url/"
  failed 3 "directory"
  same "$T/local/f" "$T/root/f"
  [[ ! -e $T/root/tree ]] || fail "the directory was made"
  cp -r "$T/local/tree" "$T/root/tree"
  copy "$url/tree" "$url/f" "$T/local/"
  failed 3 "directory"
}

@test "names: blanks, UTF-8, marks and 255 bytes are kept" {
  local name long
  serve
  long=$(printf 'x%.0s' {1..255})
  mkdir "$T/local/tree"
  for name in 'a b' ' ' '-r' '100%' '*' \\ "'" '"' $'gr\xc3\xbcn' $'\xe2\x98\x83' "$long" '.hidden' '...'; do
    random_file "$T/local/tree/$name" 100
    mkdir "$T/local/tree/d${name:0:254}"
    random_file "$T/local/tree/d${name:0:254}/$name" 300000
  done
  both "$T/local/tree"
}

@test "names that cannot be shown are refused one by one, the others arrive" {
  local name
  serve
  mkdir "$T/local/tree"
  random_file "$T/local/tree/good" 100
  random_file "$T/local/tree/large" 300000
  cp -r "$T/local/tree" "$T/expected"
  for name in $'a\nb' $'esc\e' $'\xff\xfe' $'\xe2\x80\xae'; do
    random_file "$T/local/tree/$name" 100
    random_file "$T/local/tree/large$name" 300000
    mkdir "$T/local/tree/dir$name"
    random_file "$T/local/tree/dir$name/in" 100
  done
  copy -r --json "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  diff -r "$T/expected" "$T/root/tree" || fail "not just the good ones"
  # what is in a directory that is refused fails by itself, for want of a place
  is "$(json '[f["outcome"] for f in o["failures"]].count("UNSAFE_NAME")') $(count files_failed)" "12 16"
  is "$(json 'sum(f["file"].startswith("tree/") for f in o["failures"])')" 16
  mkdir "$T/back"
  cp -r "$T/local/tree" "$T/root/bad"
  copy -r --json "$url/bad" "$T/back"
  is "$status" 3
  diff -r "$T/expected" "$T/back/bad" || fail "not just the good ones"
  is "$(json '[f["outcome"] for f in o["failures"]].count("UNSAFE_NAME")') $(count files_failed)" "12 16"
}

@test "a tree of a hundred levels, and one of many directories" {
  local path=$T/local/tree number
  serve
  for number in {1..100}; do
    path+=/level$number
  done
  mkdir -p "$path" "$T/local/wide"
  random_file "$path/bottom" 300000
  random_file "$path/small" 3
  for number in {1..700}; do
    mkdir -p "$T/local/wide/$number"
    echo "$number" >"$T/local/wide/$number/f"
  done
  both "$T/local/tree"
  both "$T/local/wide"
  is "$(count files_done)" 700
}

@test "files of sizes around the limits of packs and leaves" {
  local size
  serve
  mkdir "$T/local/tree"
  for size in 262143 262144 262145 1048575 1048576 1048577 8388607 8388608 8388609; do
    random_file "$T/local/tree/$size" "$size"
  done
  both "$T/local/tree"
  both "$T/local/tree" --streams 4
  copies -r --json --verify=none --durability=none --streams 4 "$T/local/tree" "$url/again"
  same_tree "$T/local/tree" "$T/root/again"
}

@test "links are left out and counted, or carried as they are; never followed" {
  serve
  make_links "$T/local/tree"
  copies -r --json "$T/local/tree" "$url/"
  is "$(count links_skipped) $(count files_done)" "7 1"
  is "$(find "$T/root/tree" -type l)" ""
  is "$(find "$T/root/tree" -type f -printf '%P')" sub/f
  rm -r "$T/root/tree"
  both "$T/local/tree" --links
  is "$(count links_skipped) $(count files_done)" "0 8"
  copies -r --json "$url/tree" "$T/local/without"
  is "$(find "$T/local/without" -type l) $(count files_done)" " 1"
  is "$(count links_skipped)" 7
}

@test "again with links nothing fails, and one that points elsewhere is replaced" {
  serve
  make_links "$T/local/tree"
  copies -r -l "$T/local/tree" "$url/"
  copies -r -l --json "$T/local/tree" "$url/"
  same_tree "$T/local/tree" "$T/root/tree"
  ln -sfn elsewhere "$T/local/tree/dangling"
  copies -r -l --json "$T/local/tree" "$url/"
  is "$(readlink "$T/root/tree/dangling")" elsewhere
}

@test "a link at the destination is not followed" {
  serve
  make_tree "$T/local/tree"
  mkdir "$T/root/tree"
  ln -s "$T/canary" "$T/root/tree/sub"
  ln -s "$T/canary/precious" "$T/root/tree/one"
  ln -s "$T/canary/new" "$T/root/tree/nothing"
  ln -s "$T/canary/new" "$T/root/tree/modes"
  copy -r --json "$T/local/tree" "$url/"
  is "$status" 3
  [[ -L $T/root/tree/sub && -L $T/root/tree/modes ]] || fail "a link was replaced by a directory"
  [[ -d $T/root/tree/empty ]] || fail "what could arrive did not"
  is "$(json 'sorted(f["file"] for f in o["failures"] if f["outcome"] == "EXISTS")')" \
    "['tree/modes', 'tree/nothing', 'tree/one', 'tree/sub']"
}

@test "a source that is a link itself is a link's target only when it is named" {
  serve
  make_tree "$T/local/tree"
  ln -s tree "$T/local/link"
  copy -r "$T/local/link" "$url/"
  if [[ $status -eq 0 ]]; then
    same_tree "$T/local/tree" "$T/root/link"
  else
    nothing_in "$T/root"
  fi
}

@test "FIFOs and sockets are left out and counted, several names of one file are counted" {
  serve
  make_tree "$T/local/tree"
  cp -a "$T/local/tree" "$T/expected"
  mkfifo "$T/local/tree/fifo" "$T/local/tree/sub/fifo"
  python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$T/local/tree/sock"
  touch -d @1000000000 "$T/local/tree" "$T/local/tree/sub" "$T/expected" "$T/expected/sub"
  ln "$T/local/tree/one" "$T/local/tree/empty/other"
  ln "$T/local/tree/one" "$T/expected/empty/other" 2>/dev/null || cp -p "$T/local/tree/one" "$T/expected/empty/other"
  touch -d @1000000000 "$T/local/tree/empty" "$T/expected/empty"
  copies -r --json "$T/local/tree" "$url/"
  is "$(count special_skipped) $(count hard_links)" "3 2"
  same_tree "$T/expected" "$T/root/tree"
  copies -r --json "$url/tree" "$T/local/back"
  same_tree "$T/expected" "$T/local/back"
  mkfifo "$T/root/tree/fifo"
  ln -f "$T/root/tree/one" "$T/root/tree/empty/other"
  copies -r --json "$url/tree" "$T/local/again"
  is "$(count special_skipped) $(count hard_links)" "1 2"
}

# Where a file has data, by SEEK_DATA.
data_map() {
  python3 - "$1" <<'PY'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
at, size = 0, os.fstat(fd).st_size
while at < size:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        break
    at = os.lseek(fd, start, os.SEEK_HOLE)
    print(start, at)
PY
}

@test "a sparse file keeps its holes" {
  local name
  serve
  mkdir "$T/local/tree"
  truncate -s 200M "$T/local/tree/hole"
  for name in front back middle; do
    truncate -s 100000003 "$T/local/tree/$name"
  done
  head -c 3000000 /dev/urandom | dd of="$T/local/tree/front" conv=notrunc status=none
  head -c 3000000 /dev/urandom | dd of="$T/local/tree/middle" bs=4096 seek=5001 conv=notrunc status=none
  head -c 5000 /dev/urandom | dd of="$T/local/tree/middle" bs=4096 seek=9001 conv=notrunc status=none
  head -c 4099 /dev/urandom | dd of="$T/local/tree/back" bs=1 seek=99995904 conv=notrunc status=none
  make_old "$T/local/tree"
  [[ $(stat -c %b "$T/local/tree/hole") -lt 1000 ]] || skip "no sparse files here"
  both "$T/local/tree"
  (($(sent) < 12 * 1048576)) || fail "holes were sent: $(sent)"
  for name in hole front back middle; do
    diff <(data_map "$T/local/tree/$name") <(data_map "$T/root/tree/$name") ||
      fail "$name has other holes"
    # where its extents are is in blocks, too
    (($(stat -c %b "$T/root/tree/$name") <= $(stat -c %b "$T/local/tree/$name") + 64)) ||
      fail "$name takes more than its data"
  done
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent)" 0
  for name in hole front back middle; do
    diff <(data_map "$T/local/tree/$name") <(data_map "$T/root/tree/$name") ||
      fail "$name has other holes the second time"
  done
}

@test "how a source is written decides about its name, as with cp" {
  serve
  make_tree "$T/local/tree"
  mkdir "$T/root"/{1,2,3,4}
  copies -r "$T/local/tree" "$url/1"
  same_tree "$T/local/tree" "$T/root/1/tree"
  copies -r "$T/local/tree/" "$url/2"
  same_tree "$T/local/tree" "$T/root/2/tree"
  copies -r "$T/local/tree/." "$url/3"
  diff -r "$T/local/tree" "$T/root/3"
  (cd "$T/local/tree" && copies -r . "$url/4")
  diff -r "$T/local/tree" "$T/root/4"
  mkdir "$T/local"/{1,2,3,4}
  copies -r "$url/1/tree" "$T/local/1"
  same_tree "$T/local/tree" "$T/local/1/tree"
  copies -r "$url/1/tree/" "$T/local/2"
  same_tree "$T/local/tree" "$T/local/2/tree"
  copies -r "$url/1/tree/." "$T/local/3"
  diff -r "$T/local/tree" "$T/local/3"
  copies -r "$url/" "$T/local/4"
  same_tree "$T/local/tree" "$T/local/4/1/tree"
  [[ ! -e $T/local/4/.zerohaul-staging ]] || fail "staging was copied"
}

@test "a destination that is not there is made, and has the name that was given" {
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree" "$url/new"
  same_tree "$T/local/tree" "$T/root/new"
  copies -r "$T/local/tree/." "$url/contents"
  same_tree "$T/local/tree" "$T/root/contents"
  copies -r "$url/new" "$T/local/pulled"
  same_tree "$T/local/tree" "$T/local/pulled"
}

@test "a destination that is a file stays one" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/root/file" 100
  cp "$T/root/file" "$T/local/file"
  copy -r --json "$T/local/tree" "$url/file"
  # that of the one failure, unless more was sent before it was heard of
  [[ $status -eq 3 || $status -eq 30 ]] || fail "exit status $status"
  is "$(json 'sum(f["file"] == "" for f in o["failures"])')" 0
  same "$T/local/file" "$T/root/file"
  cp -r "$T/local/tree" "$T/root/tree"
  copy -r "$url/tree" "$T/local/file"
  [[ $status -eq 3 || $status -eq 30 ]] || fail "exit status $status"
  same "$T/local/file" "$T/root/file"
}

@test "a dot at the end is what is in a directory, pushed or pulled; two dots are nothing" {
  local path
  serve
  make_tree "$T/root/tree"
  random_file "$T/root/f" 300000
  mkdir "$T/local/in" "$T/root/in"
  copies -r "$url/./tree/././" "$T/local/in"
  diff -r "$T/root/tree" "$T/local/in"
  copies -r --json "$url/tree/." "$T/local/in"
  is "$(count files_done) $(count files_skipped)" "0 7"
  copies -r "$url/tree/." "$T/local/new"
  same_tree "$T/root/tree" "$T/local/new"
  copies -r "$T/local/new/." "$url/in/."
  diff -r "$T/root/tree" "$T/root/in"
  copies -r "$url/." "$T/local/whole"
  same_tree "$T/root" "$T/local/whole"
  copies -r "$url/" "$T/local/again"
  same_tree "$T/root" "$T/local/again"
  mkdir "$T/local/both" "$T/local/turned"
  copies -r "$url/tree/." "$url/f" "$T/local/both"
  same "$T/root/f" "$T/local/both/f"
  diff -r -x f "$T/root/tree" "$T/local/both"
  copies -r "$url/f" "$url/tree/." "$T/local/turned"
  diff -r "$T/local/both" "$T/local/turned"
  copies "$url/./f" "$T/local/."
  same "$T/root/f" "$T/local/f"
  copy "$url/tree/." "$T/local/in"
  failed 1 "directory"
  copy -r "$url/f/." "$T/local/in"
  failed 22 "Not a directory"
  copy "$T/local/f" "$url/none/."
  [[ $status -ne 0 && ! -e $T/root/none ]] || fail "something was made"
  for path in .. tree/.. tree/./.. ./.. tree/../f; do
    copy -r "$url/$path" "$T/local/in"
    failed 15 "cannot be said"
  done
}

@test "several sources, files and directories, and two that would have one name" {
  serve
  make_tree "$T/local/one"
  make_tree "$T/local/two"
  random_file "$T/local/file" 300000
  ln -s file "$T/local/link"
  mkdir "$T/root/in" "$T/local/back"
  copies -r --json "$T/local/one" "$T/local/file" "$T/local/two" "$url/in"
  same_tree "$T/local/one" "$T/root/in/one"
  same_tree "$T/local/two" "$T/root/in/two"
  same "$T/local/file" "$T/root/in/file"
  copies -r "$url/in/one" "$url/in/file" "$url/in/two" "$T/local/back"
  same_tree "$T/root/in" "$T/local/back" || diff -r "$T/root/in" "$T/local/back"
  mkdir "$T/local/x"
  make_tree "$T/local/x/one"
  copy -r "$T/local/one" "$T/local/x/one" "$url/in"
  failed 1 "same name"
  copy -r --json "$T/local/one" "$T/local/absent" "$url/in"
  is "$status" 3
  is "$(json '[f["outcome"] for f in o["failures"]]')" "['SRC_GONE']"
}

@test "a second time nothing is sent, and of one changed file only that" {
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree" "$url/"
  copies -r --json "$T/local/tree" "$url/"
  json_is_valid
  is "$(sent) $(count bytes) $(count files_done) $(count files_skipped)" "0 0 0 7"
  same_tree "$T/local/tree" "$T/root/tree"
  random_file "$T/local/tree/sub/deep/medium" 300005
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent) $(count bytes) $(count files_done) $(count files_skipped)" "300005 300005 1 6"
  same_tree "$T/local/tree" "$T/root/tree"
  random_file "$T/local/tree/one" 77
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent) $(count bytes) $(count files_done) $(count files_skipped)" "77 77 1 6"
  same_tree "$T/local/tree" "$T/root/tree"
  copies -r --json "$url/tree" "$T/local/"
  is "$(sent) $(count bytes) $(count files_done) $(count files_skipped)" "0 0 0 7"
}

@test "another content of equal size and time is found, unless size and time are trusted" {
  local file
  serve
  make_tree "$T/local/tree"
  cp -a "$T/local/tree" "$T/root/"
  for file in one sub/small sub/deep/medium sub/deep/deeper/large; do
    head -c "$(stat -c %s "$T/local/tree/$file")" /dev/zero |
      dd of="$T/root/tree/$file" conv=notrunc status=none
    touch -r "$T/local/tree/$file" "$T/root/tree/$file"
  done
  copies -r --json --existing=trust "$T/local/tree" "$url/"
  is "$(sent) $(count files_done) $(count files_skipped)" "0 0 7"
  cmp -s "$T/local/tree/sub/small" "$T/root/tree/sub/small" && fail "it was not trusted"
  copies -r --json "$T/local/tree" "$url/"
  is "$(count files_done) $(count files_skipped)" "4 3"
  same_tree "$T/local/tree" "$T/root/tree"
}

@test "--existing=digest goes by content, whatever the times" {
  serve
  make_tree "$T/local/tree"
  cp -r "$T/local/tree" "$T/root/"
  copies -r --json --existing=digest "$T/local/tree" "$url/"
  is "$(sent) $(count files_done) $(count files_skipped)" "0 0 7"
  same_tree "$T/local/tree" "$T/root/tree"
  touch -d @1500000000 "$T/root/tree/sub/deep/deeper/large"
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent) $(count files_done) $(count files_skipped)" "3000001 1 6"
  same_tree "$T/local/tree" "$T/root/tree"
}

@test "rules leave out and take" {
  serve
  make_tree "$T/local/tree"
  mkdir "$T/local/tree/.git"
  random_file "$T/local/tree/.git/object" 300000
  random_file "$T/local/tree/sub/x.o" 100
  random_file "$T/local/tree/sub/keep.o" 100
  rm -rf "$T/expected"
  cp -a "$T/local/tree" "$T/expected"
  rm -r "$T/expected/.git" "$T/expected/sub/x.o"
  copies -r --exclude .git/ --include keep.o --exclude '*.o' "$T/local/tree" "$url/"
  diff -r "$T/expected" "$T/root/tree" || fail "the rules were not kept"
  copies -r --exclude .git/ --include keep.o --exclude '*.o' "$T/local/tree" "$url/second"
  diff -r "$T/expected" "$T/root/second"
  cp -a "$T/local/tree" "$T/root/all"
  copies -r --exclude .git/ --include keep.o --exclude '*.o' "$url/all" "$T/local/pulled"
  diff -r "$T/expected" "$T/local/pulled" || fail "the rules of a pull were not kept"
  rm -r "$T/expected/sub"
  copies -r --exclude /sub --exclude .git "$T/local/tree" "$url/third"
  diff -r "$T/expected" "$T/root/third"
  copy -r --exclude '' "$T/local/tree" "$url/fourth"
  [[ $status -eq 1 ]] || fail "an empty pattern is taken"
}

@test "--no-clobber replaces nothing and brings what is not there" {
  serve
  make_tree "$T/local/tree"
  mkdir -p "$T/root/tree/sub/deep"
  echo old >"$T/root/tree/one"
  echo old >"$T/root/tree/sub/deep/medium"
  copy -r --json --no-clobber "$T/local/tree" "$url/"
  is "$status" 3
  is "$(json 'sorted(set(f["outcome"] for f in o["failures"]))') $(count files_failed)" "['EXISTS'] 2"
  is "$(cat "$T/root/tree/one" "$T/root/tree/sub/deep/medium")" $'old\nold'
  same "$T/local/tree/sub/small" "$T/root/tree/sub/small"
  same "$T/local/tree/sub/deep/deeper/large" "$T/root/tree/sub/deep/deeper/large"
}

@test "what cannot be read is named, everything else arrives" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/tree/secret" 100
  random_file "$T/local/tree/large-secret" 300000
  mkdir "$T/local/tree/closed"
  random_file "$T/local/tree/closed/f" 100
  cp -a "$T/local/tree" "$T/expected"
  rm -r "$T/expected"/{secret,large-secret,closed/f}
  chmod 000 "$T/local/tree"/{secret,large-secret,closed}
  mkdir "$T/root/tree"
  echo old | tee "$T/root/tree/secret" >"$T/expected/secret"
  cp "$T/key" "$T/key-user"
  chmod 600 "$T/key-user"
  [[ $EUID -ne 0 ]] || chown -R 65534:65534 "$T/local" "$T/key-user"
  zh_as_user copy -r --json --key "$T/key-user" "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted(f["file"] for f in o["failures"])')" \
    "['tree/closed', 'tree/large-secret', 'tree/secret']"
  rmdir "$T/root/tree/closed" 2>/dev/null || true
  rmdir "$T/expected/closed"
  diff -r "$T/expected" "$T/root/tree" || fail "something did not arrive"
  chmod 700 "$T/local/tree/closed"
}

@test "a directory where a file is, and a file where a directory is: the others arrive" {
  serve
  make_tree "$T/local/tree"
  mkdir -p "$T/root/tree/one" "$T/root/tree/sub/deep/medium"
  echo file >"$T/root/tree/modes"
  copy -r --json "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted(f["file"] for f in o["failures"] if f["outcome"] == "EXISTS")')" \
    "['tree/modes', 'tree/one', 'tree/sub/deep/medium']"
  is "$(count files_failed)" 5
  is "$(cat "$T/root/tree/modes")" file
  [[ -d $T/root/tree/one && -d $T/root/tree/sub/deep/medium ]] || fail "a directory was replaced"
  same "$T/local/tree/sub/small" "$T/root/tree/sub/small"
  same "$T/local/tree/sub/deep/deeper/large" "$T/root/tree/sub/deep/deeper/large"
  [[ -d $T/root/tree/empty ]] || fail "the empty directory is missing"
}

@test "a read-only directory at the destination: named, the others arrive" {
  serve
  make_tree "$T/root/tree"
  mkdir "$T/local/into"
  cp -r "$T/root/tree" "$T/local/into/"
  rm -r "$T/local/into/tree/sub/"*
  chmod 555 "$T/local/into/tree/sub"
  cp "$T/key" "$T/key-user"
  chmod 600 "$T/key-user"
  [[ $EUID -ne 0 ]] || chown -R 65534:65534 "$T/local" "$T/key-user"
  zh_as_user copy -r --json --key "$T/key-user" "$url/tree" "$T/local/into"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted(f["file"] for f in o["failures"] if f["outcome"] == "PERM")')" \
    "['tree/sub/deep', 'tree/sub/small']"
  same "$T/root/tree/one" "$T/local/into/tree/one"
  same "$T/root/tree/modes/run" "$T/local/into/tree/modes/run"
  chmod 755 "$T/local/into/tree/sub"
}

@test "a source directory without write permission is copied with what is in it" {
  serve
  make_tree "$T/local/tree"
  chmod 555 "$T/local/tree/sub" "$T/local/tree/sub/deep"
  both "$T/local/tree"
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent)" 0
  chmod -R u+w "$T/local/tree" "$T/root" "$T/back"
}

@test "every durability, streams and no verification" {
  local option number=0
  serve
  make_tree "$T/local/tree"
  for option in --durability=none --durability=file --verify=none --streams=4 --streams=9 \
    --cache=drop --strategy=copy --strategy=splice --receive-strategy=splice; do
    copies -r --json "$option" "$T/local/tree" "$url/$((++number))"
    json_is_valid
    same_tree "$T/local/tree" "$T/root/$number"
    copies -r --json "$option" "$T/local/tree/." "$url/$number"
    is "$(count files_done) $(count files_skipped)" "0 7"
    mkdir "$T/local/back"
    copies -r --json "$option" "$url/$number" "$T/local/back"
    diff -r "$T/local/tree" "$T/local/back/$number"
    rm -r "$T/local/back"
  done
}

@test "a receiver that discards makes nothing of a tree" {
  serve
  make_tree "$T/local/tree"
  copies -r --json --receive-strategy=discard --verify=none --durability=none "$T/local/tree" "$url/"
  is "$(count files_done) $(count bytes)" "7 3605015"
  nothing_in "$T/root"
}

@test "a read-only server takes no tree and gives one" {
  serve --read-only
  make_tree "$T/root/tree"
  copies -r "$url/tree" "$T/local/"
  same_tree "$T/root/tree" "$T/local/tree"
  copy -r "$T/local/tree" "$url/new"
  failed 14 ""
  [[ ! -e $T/root/new ]] || fail "it was made"
}

@test "a full disk in the middle of a tree: what arrived is complete, and with space it gets through" {
  local name number
  need_root
  mount -t tmpfs -o size=12m none "$T/root" || skip "no tmpfs can be mounted"
  mounts+=("$T/root")
  serve
  mkdir "$T/local/tree"
  for number in {1..4}; do
    random_file "$T/local/tree/large$number" 5000000
  done
  for number in {1..200}; do
    random_file "$T/local/tree/$number" 9000
  done
  copy -r --json "$T/local/tree" "$url/"
  is "$status" 3
  is "$(json 'set(f["outcome"] for f in o["failures"])')" "{'NOSPACE'}"
  cd "$T/local/tree"
  for name in *; do
    [[ ! -e "$T/root/tree/$name" ]] || same "$name" "$T/root/tree/$name"
  done
  mount -o remount,size=100m "$T/root"
  copies -r "$T/local/tree" "$url/"
  same_tree "$T/local/tree" "$T/root/tree"
}

# The extended attributes of everything in a directory that begin with any of the words.
xattrs() {
  python3 - "$@" <<'PY'
import os, sys
top, *words = sys.argv[1:]
for base, dirs, files in os.walk(top):
    dirs[:] = sorted(name for name in dirs if name != ".zerohaul-staging")
    for path in [base] + [os.path.join(base, name) for name in sorted(files)]:
        for name in sorted(os.listxattr(path)):
            if name.startswith(tuple(words)):
                print(os.path.relpath(path, top), ascii(name)[1:-1], os.getxattr(path, name).hex())
PY
}

same_xattrs() {
  diff <(xattrs "$1" user. system. security.capability trusted.) \
    <(xattrs "$2" user. system. security.capability trusted.) || fail "$1 and $2 have other attributes"
}

# set_xattr PATH NAME LENGTH: of random bytes; skips the test where that cannot be.
set_xattr() {
  python3 -c 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2], os.urandom(int(sys.argv[3])))' "$@" \
    2>/dev/null || skip "no $2 here"
}

drop_xattr() {
  python3 -c 'import os, sys; os.removexattr(*sys.argv[1:])' "$@"
}

# Attributes for the tree of make_tree, on something of each kind.
make_xattrs() {
  local number
  set_xattr "$1" user.top 10
  set_xattr "$1/sub" user.of-a-directory 300
  set_xattr "$1/nothing" user.empty 0
  set_xattr "$1/one" "$(printf 'user.%0250d' 1)" 1
  set_xattr "$1/one" $'user.odd \e\xff' 20
  set_xattr "$1/modes/run" user.last 1
  set_xattr "$1/sub/deep/deeper/large" user.large 2000
  for number in {1..20}; do
    set_xattr "$1/sub/small" "user.$number" "$number"
  done
}

@test "--xattrs: attributes come back as they were, and stay behind without it" {
  serve
  make_tree "$T/local/tree"
  make_xattrs "$T/local/tree"
  both "$T/local/tree"
  is "$(xattrs "$T/root/tree" user.)" ""
  rm -r "$T/root/tree" "$T/back"
  both "$T/local/tree" --xattrs
  same_xattrs "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/back/tree"
  is "$(xattrs "$T/root/tree" user. | wc -l)" 27
  is "$(count files_done) $(count directories) $(count files_failed)" "7 6 0"
  copies --xattrs "$T/local/tree/one" "$url/single"
  is "$(xattrs "$T/root" user. | grep -c '^single ')" 2
  copies -r --xattrs --streams 4 --durability=none --verify=none "$T/local/tree" "$url/again"
  same_xattrs "$T/local/tree" "$T/root/again"
}

@test "--xattrs again: what was added, changed or removed is, and no byte is sent" {
  serve
  make_tree "$T/local/tree"
  make_xattrs "$T/local/tree"
  copies -r -x "$T/local/tree" "$url/"
  drop_xattr "$T/local/tree/nothing" user.empty
  drop_xattr "$T/local/tree/modes/run" user.last
  drop_xattr "$T/local/tree/sub" user.of-a-directory
  set_xattr "$T/local/tree/sub/deep/deeper/large" user.large 1999
  set_xattr "$T/local/tree/sub/small" user.1 10
  set_xattr "$T/local/tree/sub/deep/medium" user.new 10
  set_xattr "$T/local/tree/empty" user.new 10
  set_xattr "$T/root/tree/sub/deep/medium" user.foreign 10
  copies -r -x --json "$T/local/tree" "$url/"
  is "$(sent)" 0
  same_tree "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/root/tree"
  # what is not asked for is left alone
  set_xattr "$T/root/tree/sub/deep/medium" user.foreign 10
  copies -r --json "$T/local/tree" "$url/"
  is "$(sent) $(xattrs "$T/root/tree" user.foreign | wc -l)" "0 1"
  copies -r -x --json --existing=trust "$T/local/tree" "$url/"
  is "$(xattrs "$T/root/tree" user.foreign | wc -l)" 1
}

@test "--xattrs: a file that is replaced has those of the new one only" {
  local file
  serve
  make_tree "$T/local/tree"
  make_xattrs "$T/local/tree"
  mkdir -p "$T/root/tree/sub/deep/deeper"
  for file in one nothing sub/deep/deeper/large sub/deep/medium; do
    echo old >"$T/root/tree/$file"
    set_xattr "$T/root/tree/$file" user.old 10
  done
  copies -r --xattrs "$T/local/tree" "$url/"
  same_tree "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/root/tree"
}

@test "--xattrs: an ordinary user's read-only files and directories get theirs, and stay read-only" {
  serve
  make_tree "$T/root/tree"
  set_xattr "$T/root/tree/modes/run" user.a 10
  set_xattr "$T/root/tree/modes" user.a 10
  chmod 444 "$T/root/tree/modes/run"
  chmod 555 "$T/root/tree/modes"
  cp "$T/key" "$T/key-user"
  chmod 600 "$T/key-user"
  [[ $EUID -ne 0 ]] || chown -R 65534:65534 "$T/local" "$T/key-user"
  zh_as_user copy -r -x --json --key "$T/key-user" "$url/tree" "$T/local/"
  is "$status" 0
  chmod u+w "$T/root/tree/modes/run" "$T/root/tree/modes"
  set_xattr "$T/root/tree/modes/run" user.b 10
  drop_xattr "$T/root/tree/modes" user.a
  chmod u-w "$T/root/tree/modes/run" "$T/root/tree/modes"
  zh_as_user copy -r -x --json --key "$T/key-user" "$url/tree" "$T/local/"
  is "$status $(sent)" "0 0"
  same_tree "$T/root/tree" "$T/local/tree"
  same_xattrs "$T/root/tree" "$T/local/tree"
  chmod -R u+w "$T/root/tree" "$T/local/tree"
}

@test "--xattrs: too many or too large ones fail their file, by name" {
  need_root
  mount -t tmpfs none "$T/local" || skip "no tmpfs can be mounted"
  mounts+=("$T/local")
  mount -t tmpfs none "$T/root" || skip "no tmpfs can be mounted"
  mounts+=("$T/root")
  serve
  make_tree "$T/local/tree"
  set_xattr "$T/local/tree/one" user.a 40000
  set_xattr "$T/local/tree/one" user.b 40000
  set_xattr "$T/local/tree/sub" user.a 40000
  set_xattr "$T/local/tree/sub" user.b 40000
  set_xattr "$T/local/tree/sub/small" user.a 60000
  set_xattr "$T/local/tree/sub/deep/deeper/large" user.a 65536
  copy -r --xattrs --json "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(json 'sorted((f["file"], f["outcome"]) for f in o["failures"])')" \
    "[('tree/one', 'LIMIT'), ('tree/sub', 'LIMIT'), ('tree/sub/deep/deeper/large', 'LIMIT')]"
  [[ ! -e $T/root/tree/one && ! -e $T/root/tree/sub/deep/deeper/large ]] || fail "it is there"
  same "$T/local/tree/sub/deep/medium" "$T/root/tree/sub/deep/medium"
  is "$(xattrs "$T/root/tree" user. | cut -d' ' -f1,2)" "sub/small user.a"
  copy --xattrs "$T/local/tree/one" "$url/"
  failed 13 "extended attributes"
}

@test "--xattrs: where the destination has none a file that has some fails, the others arrive" {
  need_root
  make_tree "$T/local/tree"
  set_xattr "$T/local/tree/one" user.a 10
  set_xattr "$T/local/tree/sub" user.a 10
  mount -t ramfs none "$T/root" || skip "no ramfs can be mounted"
  mounts+=("$T/root")
  start_server without --root "$T/root" --key "$T/key"
  copy -r --xattrs --json "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  # the sender has left the directory by then: its name is in the text
  is "$(json 'len(o["failures"]), sum("user.a" in f["text"] for f in o["failures"])')" "(2, 2)"
  is "$(json 'sum(f["file"] == "tree/one" for f in o["failures"])')" 1
  is "$(json 'sum("tree/sub" in f["file"] + f["text"] for f in o["failures"])')" 1
  [[ ! -e $T/root/tree/one ]] || fail "it is there without its attribute"
  same "$T/local/tree/sub/small" "$T/root/tree/sub/small"
  # and a source that has none has nothing to carry
  copies -r --xattrs "$url/tree/sub" "$T/local/back"
  diff -r "$T/root/tree/sub" "$T/local/back"
}

@test "--xattrs: a destination without room for them keeps the old file" {
  need_root
  [[ $(stat -f -c %T "$T/root") == ext* ]] || skip "not on ext4"
  mount -t tmpfs none "$T/local" || skip "no tmpfs can be mounted"
  mounts+=("$T/local")
  serve
  make_tree "$T/local/tree"
  set_xattr "$T/local/tree/one" user.a 20000
  mkdir "$T/root/tree"
  echo old >"$T/root/tree/one"
  copy -r --xattrs --json "$T/local/tree" "$url/"
  [[ $status -ne 0 ]] || skip "ext4 with large attributes"
  is "$status $(json '[(f["file"], f["outcome"]) for f in o["failures"]]')" "3 [('tree/one', 'NOSPACE')]"
  is "$(cat "$T/root/tree/one")" old
  same "$T/local/tree/sub/small" "$T/root/tree/sub/small"
}

# set_acl PATH access|default: user 1234 may as much as the group.
set_acl() {
  python3 - "$@" <<'PY' 2>/dev/null || skip "no ACLs here"
import os, struct, sys
entries = ((1, 7, -1), (2, 7, 1234), (4, 5, -1), (16, 5, -1), (32, 0, -1))
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr(sys.argv[1], "system.posix_acl_" + sys.argv[2], acl)
PY
}

@test "--xattrs with --owner: access control lists are kept, with numbers" {
  need_root
  serve
  make_tree "$T/local/tree"
  set_acl "$T/local/tree/one" access
  set_acl "$T/local/tree/sub/deep/deeper/large" access
  set_acl "$T/local/tree/sub" default
  copies -r --xattrs "$T/local/tree" "$url/without"
  is "$(xattrs "$T/root/without" system.)" ""
  both "$T/local/tree" --xattrs --owner
  same_xattrs "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/back/tree"
  is "$(xattrs "$T/root/tree" system. | wc -l)" 3
  # what a directory would give to everything that is made in it is not taken for the source's
  set_acl "$T/root" default
  copies -r --xattrs --owner --json "$T/local/tree" "$url/again"
  same_tree "$T/local/tree" "$T/root/again"
  same_xattrs "$T/local/tree" "$T/root/again"
  copies -r --xattrs --owner --json "$T/local/tree/." "$url/again"
  is "$(sent)" 0
  same_xattrs "$T/local/tree" "$T/root/again"
}

@test "--privileged-xattrs: only where both sides were told so" {
  need_root
  serve
  make_tree "$T/local/tree"
  set_xattr "$T/local/tree/one" trusted.a 10
  set_xattr "$T/local/tree/sub" trusted.overlay.opaque 1
  python3 - "$T/local/tree/modes/run" <<'PY' 2>/dev/null || skip "no capabilities here"
import os, struct, sys
os.setxattr(sys.argv[1], "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
PY
  copies -r --xattrs --owner "$T/local/tree" "$url/"
  is "$(xattrs "$T/root/tree" trusted. security.capability)" ""
  copy -r --privileged-xattrs "$T/local/tree" "$url/no"
  failed 14 "privileged"
  [[ ! -e $T/root/no ]] || fail "it was made"
  copy -r --privileged-xattrs "$url/tree" "$T/local/no"
  failed 14 "privileged"
  start_server told --root "$T/root" --key "$T/key" --privileged-xattrs
  both "$T/local/tree" --privileged-xattrs --owner
  same_xattrs "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/back/tree"
  is "$(xattrs "$T/root/tree" trusted. security.capability | wc -l)" 3
  # who does not ask for them leaves alone what is there
  copies -r --xattrs "$T/local/tree" "$url/"
  is "$(xattrs "$T/root/tree" trusted. security.capability | wc -l)" 3
}

# Nine names that no source has.
make_extra() {
  mkdir -p "$1/old" "$1/sub/extra/deep"
  random_file "$1/old/file" 10
  random_file "$1/sub/extra/deep/file" 300000
  random_file "$1/.hidden" 10
  random_file "$1/sub/a b" 10
  ln -s "$T/canary" "$1/out"
  mkfifo "$1/sub/pipe"
}

@test "--delete: what the source has not goes, what is beside the mirror stays, and so it is the second time" {
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree" "$url/"
  make_extra "$T/root/tree"
  random_file "$T/root/beside" 10
  copies -r --json "$T/local/tree" "$url/"
  json_is_valid
  is "$(count deleted)" 0
  [[ -e $T/root/tree/old/file ]] || fail "it goes without being asked for"
  copies -r --json --delete "$T/local/tree" "$url/"
  json_is_valid
  is "$(count deleted) $(count files_failed) $(count files_skipped)" "9 0 7"
  same_tree "$T/local/tree" "$T/root/tree"
  [[ -e $T/root/beside ]] || fail "what is beside the mirror is gone"
  copies -r --json --delete "$T/local/tree" "$url/"
  is "$(count deleted) $(sent)" "0 0"
  same_tree "$T/local/tree" "$T/root/tree"
  mkdir "$T/back"
  cp -a "$T/root/tree" "$T/back/"
  make_extra "$T/back/tree"
  random_file "$T/back/beside" 10
  copies -r --json --delete "$url/tree" "$T/back"
  json_is_valid
  is "$(count deleted) $(count files_failed)" "9 0"
  same_tree "$T/local/tree" "$T/back/tree"
  [[ -e $T/back/beside ]] || fail "what is beside the mirror is gone"
  make_extra "$T/root/tree"
  copies -r --delete "$T/local/tree" "$url/"
  grep -q '9 names were removed' <(tr '\n' ' ' <"$T/out") || fail "the summary does not say it"
}

@test "--delete: files that are gone, new and changed at once, over several streams" {
  local number
  serve
  mkdir -p "$T/local/tree"/{1..9}
  for number in {1..200}; do
    random_file "$T/local/tree/$((number % 9 + 1))/$number" "$((number * 100))"
  done
  random_file "$T/local/tree/large" 3000000
  copies -r "$T/local/tree" "$url/"
  rm -r "$T/local/tree"/{3,5/*5}
  mv "$T/local/tree/large" "$T/local/tree/1/moved"
  random_file "$T/local/tree/7/new" 100
  copies -r --delete --streams 4 "$T/local/tree" "$url/"
  same_tree "$T/local/tree" "$T/root/tree"
  copies -r --delete --existing=trust "$T/local/tree/." "$url/tree"
  same_tree "$T/local/tree" "$T/root/tree"
}

@test "--delete: the destination itself is pruned only of what is in one source" {
  serve
  make_tree "$T/local/tree"
  make_tree "$T/local/two"
  mkdir "$T/root/to"
  random_file "$T/root/to/old" 10
  random_file "$T/root/beside" 10
  copies -r --delete "$T/local/tree" "$T/local/two" "$url/to"
  [[ -e $T/root/to/old ]] || fail "a place that several sources are in was pruned"
  copies -r --delete "$T/local/tree" "$url/to"
  [[ -e $T/root/to/old && -d $T/root/to/two ]] || fail "a place that a source is in was pruned"
  copies -r --json --delete "$T/local/tree/." "$url/to"
  diff -r "$T/local/tree" "$T/root/to"
  [[ -e $T/root/beside ]] || fail "more than the place was pruned"
  (cd "$T/local/tree" && copies -r --delete . "$url/")
  diff -r -x .zerohaul-staging "$T/local/tree" "$T/root"
  mkdir "$T/local/mirror"
  random_file "$T/local/mirror/old" 10
  copies -r --delete "$url/" "$T/local/mirror"
  diff -r "$T/local/tree" "$T/local/mirror"
  copies -r --delete "$T/local/tree/." "$url/new"
  diff -r "$T/local/tree" "$T/root/new"
}

@test "--delete is refused where it could mean something else" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/f" 10
  random_file "$T/root/f" 10
  copy --delete "$T/local/f" "$url/"
  failed 1 "--delete needs --recursive"
  copy -r --delete --receive-strategy=discard --verify=none --durability=none "$T/local/tree" "$url/"
  failed 1 "--delete"
  copy -r --delete "$T/local/tree/." "$T/local/f" "$url/"
  failed 1 "by itself"
  copy -r --delete "$url/" "$url/f" "$T/local"
  failed 1 "by itself"
  copy -r --delete "$T/local/tree" "$url/f"
  failed 30 "has to be a directory"
  copy -r --delete "$url/" "$T/local/f"
  failed 34 "has to be a directory"
  [[ -e $T/local/f && -e $T/root/f ]] || fail "something changed"
  kill "$server"
  start_server read-only --root "$T/root" --key "$T/key" --read-only
  copy -r --delete "$T/local/tree/." "$url/"
  failed 14 "read-only"
  [[ -e $T/root/f ]] || fail "a read-only server removes"
}

@test "--delete: what rules leave out stays, at both sides and in what goes" {
  local rules=(--exclude '*.o' --exclude build/ --exclude /top --include keep.c --exclude 'sub/*.c')
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/tree/sub/a.o" 10
  cp -a "$T/local/tree" "$T/mirror"
  rm "$T/mirror/sub/a.o"
  mkdir -p "$T/mirror/build/deep" "$T/mirror/old/build" "$T/mirror/old/deep" "$T/mirror/old/empty"
  random_file "$T/mirror/sub/a.o" 20 # another content than the source
  random_file "$T/mirror/sub/own.o" 10
  random_file "$T/mirror/sub/x.c" 10
  random_file "$T/mirror/build/deep/file" 10
  random_file "$T/mirror/old/build/file" 10
  random_file "$T/mirror/old/deep/x.o" 10
  random_file "$T/mirror/top" 10
  cp -a "$T/mirror" "$T/expected"
  random_file "$T/mirror/gone" 10
  random_file "$T/mirror/old/top" 10
  random_file "$T/mirror/old/file" 10
  random_file "$T/mirror/sub/keep.c" 10
  rmdir "$T/expected/old/empty"
  cp -a "$T/mirror" "$T/root/tree"
  cp -a "$T/mirror" "$T/local/back"
  cp -a "$T/mirror" "$T/root/contents"
  copies -r --json --delete "${rules[@]}" "$T/local/tree" "$url/"
  diff -r "$T/expected" "$T/root/tree" || fail "not what was to stay"
  is "$(count deleted)" 5
  copies -r --delete "${rules[@]}" "$T/local/tree/." "$url/contents"
  diff -r "$T/expected" "$T/root/contents" || fail "not what was to stay in the place"
  rm -r "$T/root/tree"
  cp -a "$T/local/tree" "$T/root/back"
  copies -r --json --delete "${rules[@]}" "$url/back" "$T/local"
  diff -r "$T/expected" "$T/local/back" || fail "not what was to stay in a pull"
  is "$(count deleted)" 5
}

@test "--delete: links and special files of the source that are not carried keep their names" {
  serve
  make_links "$T/local/tree"
  mkfifo "$T/local/tree/fifo"
  cp -a "$T/local/tree" "$T/root/"
  random_file "$T/root/tree/old" 10
  copies -r --json --delete "$T/local/tree" "$url/"
  is "$(count deleted) $(count links_skipped) $(count special_skipped)" "1 7 1"
  diff <(cd "$T/local/tree" && find . | sort) <(cd "$T/root/tree" && find . | sort)
  rm "$T/local/tree/dangling"
  copies -r -l --json --delete "$T/local/tree" "$url/"
  is "$(count deleted)" 1
  diff <(cd "$T/local/tree" && find . | sort) <(cd "$T/root/tree" && find . | sort)
}

@test "--delete: where the source cannot be read nothing is removed" {
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/tree/secret" 100
  random_file "$T/local/tree/large-secret" 300000
  mkdir -p "$T/local/tree/closed/deep"
  random_file "$T/local/tree/closed/deep/f" 100
  cp -a "$T/local/tree" "$T/root/"
  random_file "$T/root/tree/closed/other" 100
  cp -a "$T/root/tree" "$T/expected"
  random_file "$T/root/tree/old" 100
  random_file "$T/root/tree/sub/old" 100
  chmod 000 "$T/local/tree"/{secret,large-secret,closed}
  cp "$T/key" "$T/key-user"
  chmod 600 "$T/key-user"
  [[ $EUID -ne 0 ]] || chown -R 65534:65534 "$T/local" "$T/key-user"
  zh_as_user copy -r --json --delete --key "$T/key-user" "$T/local/tree" "$url/"
  is "$status" 3
  is "$(json 'sorted(f["file"] for f in o["failures"])')" \
    "['tree/closed', 'tree/large-secret', 'tree/secret']"
  is "$(count deleted)" 2
  chmod -R u+rwX "$T/root/tree" # the mode of what is closed came over
  diff -r "$T/expected" "$T/root/tree" || fail "something that the source has is gone"
  chmod 700 "$T/local/tree/closed"
  # the source itself
  chmod 000 "$T/local/tree"
  zh_as_user copy -r --json --delete --key "$T/key-user" "$T/local/tree" "$url/"
  [[ $status -ne 0 ]] || fail "what cannot be read is no failure"
  zh_as_user copy -r --json --delete --key "$T/key-user" "$T/local/gone" "$url/tree"
  [[ $status -ne 0 ]] || fail "what is not there is no failure"
  diff -r "$T/expected" "$T/root/tree" || fail "something was removed for want of a source"
  chmod 700 "$T/local/tree"
}

@test "--delete: what cannot be removed is named, and the rest goes" {
  need_root
  serve
  make_tree "$T/local/tree"
  cp -a "$T/local/tree" "$T/root/"
  make_extra "$T/root/tree"
  mkdir "$T/root/tree/old/mounted"
  mount -t tmpfs -o size=64k none "$T/root/tree/old/mounted" || skip "no tmpfs can be mounted"
  mounts+=("$T/root/tree/old/mounted")
  random_file "$T/root/tree/old/mounted/precious" 10
  copy -r --json --delete "$T/local/tree" "$url/"
  is "$status" 3
  json_is_valid
  is "$(count files_failed) $(count deleted)" "1 8"
  is "$(json 'o["failures"][0]["stage"]')" delete
  [[ $(json 'o["failures"][0]["text"]') == tree/old/mounted:* ]] || fail "it is not named"
  [[ -e $T/root/tree/old/mounted/precious ]] || fail "another file system was emptied"
  rm "$T/root/tree/old/mounted/precious"
  umount "$T/root/tree/old/mounted"
  mounts=()
  copies -r --json --delete "$T/local/tree" "$url/"
  is "$(count deleted)" 2
  same_tree "$T/local/tree" "$T/root/tree"
}

@test "--delete: what has a name of the source stays, whatever it is, and no link is followed" {
  local links
  serve
  mkdir -p "$T/local/tree"/{directory,linked,found} "$T/root/tree"/{file,link,found,old} "$T/outside"
  random_file "$T/local/tree/file" 10
  random_file "$T/local/tree/directory/inside" 10
  random_file "$T/local/tree/linked/inside" 10
  ln -s file "$T/local/tree/link"
  random_file "$T/root/tree/file/precious" 10
  random_file "$T/root/tree/link/precious" 10
  random_file "$T/root/tree/directory" 10
  random_file "$T/outside/precious" 10
  ln -s "$T/outside" "$T/root/tree/linked"
  ln -s "$T/outside" "$T/root/tree/found/old"
  ln -s "$T/outside" "$T/root/tree/old/old"
  cp -a "$T/root/tree" "$T/expected"
  rm -r "$T/expected/old" "$T/expected/found/old"
  for links in '' yes; do
    copy -r --json --delete ${links:+--links} "$T/local/tree" "$url/"
    is "$status" 3
    json_is_valid
    diff -r --no-dereference "$T/expected" "$T/root/tree" || fail "more than what is old is gone"
    [[ -e $T/outside/precious ]] || fail "a link was followed"
  done
  # the mirror itself is a link
  mv "$T/root/tree" "$T/root/real"
  ln -s real "$T/root/tree"
  random_file "$T/root/real/old" 10
  copy -r --delete "$T/local/tree" "$url/"
  [[ $status -ne 0 && -e $T/root/real/old ]] || fail "the mirror was found behind a link"
  copy -r --delete "$T/local/tree/." "$url/tree"
  [[ $status -ne 0 && -e $T/root/real/old ]] || fail "the place was found behind a link"
}

@test "--delete: nothing is removed from what is mounted in the mirror" {
  need_root
  serve
  make_tree "$T/local/tree"
  copies -r "$T/local/tree" "$url/"
  mkdir -p "$T/root/tree/old/bound" "$T/outside/deep"
  random_file "$T/outside/precious" 10
  random_file "$T/outside/deep/precious" 10
  random_file "$T/root/tree/old/file" 10
  mount -t tmpfs -o size=64k none "$T/root/tree/sub" || skip "no tmpfs can be mounted"
  mounts+=("$T/root/tree/sub")
  random_file "$T/root/tree/sub/precious" 10
  mount --bind "$T/outside" "$T/root/tree/old/bound" || skip "nothing can be bound"
  mounts+=("$T/root/tree/old/bound")
  touch "$T/root/tree/file"
  mount --bind "$T/outside/precious" "$T/root/tree/file"
  mounts+=("$T/root/tree/file")
  copy -r --json --delete "$T/local/tree" "$url/"
  is "$status $(count deleted)" "3 1"
  [[ -e $T/root/tree/sub/precious && -e $T/outside/precious && -e $T/outside/deep/precious ]] ||
    fail "something that is mounted was removed"
}

@test "--delete: a manifest in the mirror is not taken for something old" {
  serve
  make_tree "$T/root/tree"
  mkdir "$T/back"
  copies -r --delete --manifest "$T/back/tree.list" "$url/tree" "$T/back"
  random_file "$T/back/tree/old" 10
  copies -r --delete --manifest "$T/back/tree/list" "$url/tree" "$T/back"
  [[ ! -e $T/back/tree/old ]] || fail "what is old is there"
  succeeds verify "$T/back/tree/list" "$T/back"
  copies -r --delete --manifest "$T/back/tree/list" "$url/tree" "$T/back"
  succeeds verify "$T/back/tree/list" "$T/back"
  copies -r --json --delete "$url/tree" "$T/back"
  is "$(count deleted)" 1
}

@test "--delete: killed in the middle, nothing of the source is lost, and the next time it is a mirror" {
  local number
  partials_allowed=1
  serve
  make_tree "$T/local/tree"
  random_file "$T/local/tree/sub/huge" 40000000
  for number in {1..20}; do
    mkdir -p "$T/local/tree/$number"
    random_file "$T/local/tree/$number/f" 400000
  done
  copies -r "$T/local/tree" "$url/"
  cp -a "$T/root/tree" "$T/full"
  for number in 1 2 3 4; do
    make_extra "$T/root/tree"
    random_file "$T/local/tree/sub/huge" 40000000
    "$ZEROHAUL" copy -q -r --delete --pacing 40M --key "$T/key" "$T/local/tree" "$url/" 3>&- &
    sleep "0.$((number * 2))"
    kill -KILL $! 2>/dev/null || true
    wait $! 2>/dev/null || true
    diff <(cd "$T/full" && find . | sort) \
      <(cd "$T/full" && find . -exec test -e "$T/root/tree/{}" \; -print | sort) ||
      fail "something that the source has is gone"
    rm -rf "$T/root/tree/out" "$T/root/tree/sub/pipe"
  done
  copies -r --delete "$T/local/tree" "$url/"
  same_tree "$T/local/tree" "$T/root/tree"
}

@test "--delete with --xattrs: the mirror has the attributes, and the place keeps its own" {
  serve
  make_tree "$T/local/tree"
  make_xattrs "$T/local/tree"
  copies -r --xattrs "$T/local/tree" "$url/"
  make_extra "$T/root/tree"
  set_xattr "$T/root/tree/old/file" user.a 10
  drop_xattr "$T/local/tree/sub" user.of-a-directory
  set_xattr "$T/local/tree/modes" user.new 10
  copies -r --xattrs --delete --json "$T/local/tree" "$url/"
  is "$(count deleted) $(count files_failed) $(sent)" "9 0 0"
  same_tree "$T/local/tree" "$T/root/tree"
  same_xattrs "$T/local/tree" "$T/root/tree"
  make_extra "$T/root/tree"
  set_xattr "$T/root/tree" user.place 10
  chmod 700 "$T/root/tree"
  copies -r --xattrs --delete --json "$T/local/tree/." "$url/tree"
  is "$(count deleted) $(count files_failed) $(stat -c %a "$T/root/tree")" "9 0 700"
  is "$(xattrs "$T/root/tree" user.place user.top | cut -d' ' -f1,2)" $'. user.place\n. user.top'
  is "$(diff -r "$T/local/tree" "$T/root/tree")" ""
}
