# SPDX-License-Identifier: Apache-2.0
# trees.bash - what tests of whole directories share: trees to copy, and whether they are the same.
# shellcheck shell=bash disable=SC2154

# What a directory holds, with modes, sizes, times and targets; of a directory no size.
state() {
  (cd "$1" && find . -name .zerohaul-staging -prune -o -type d -printf '%P %y %m - %T@\n' \
    -o -printf '%P %y %m %s %T@ %l\n' | LC_ALL=C sort)
}

same_tree() {
  diff <(state "$1") <(state "$2") || fail "$1 and $2 have other entries"
  diff -r --no-dereference -x .zerohaul-staging "$1" "$2" >/dev/null || fail "$1 and $2 differ"
}

# A tree with something of each kind that is carried without any option, all of it old.
make_tree() {
  mkdir -p "$1"/{empty,sub/deep/deeper,modes}
  : >"$1/nothing"
  random_file "$1/one" 1
  random_file "$1/sub/small" 5000
  random_file "$1/sub/deep/medium" 300001
  random_file "$1/sub/deep/deeper/large" 3000001
  random_file "$1/modes/read" 10
  random_file "$1/modes/run" 300002
  chmod 444 "$1/modes/read"
  chmod 751 "$1/modes/run"
  make_old "$1"
  chmod 750 "$1/modes"
}

# Times with nanoseconds, another one for each.
make_old() {
  local number=0 entry
  while IFS= read -r -d '' entry; do
    touch -h -d "@$((1000000000 + number)).$((123456789 + number++))" "$entry"
  done < <(find "$1" -depth -print0)
}

# sent: the bytes of files that went over the data connections of the last copy, by its report
sent() {
  json 'o["report"]["sender"]["stats"]["bytes"]'
}

# count NAME: a number of the report
count() {
  json "o['report']['$1']"
}

# both TREE: pushed to the root, pulled from there; each time it is the same tree.
both() {
  local tree=$1
  shift
  copies -r --json "$@" "$tree" "$url/"
  json_is_valid
  same_tree "$tree" "$T/root/${tree##*/}"
  mkdir -p "$T/back"
  copies -r --json "$@" "$url/${tree##*/}" "$T/back"
  json_is_valid
  same_tree "$tree" "$T/back/${tree##*/}"
}

make_links() {
  mkdir -p "$1/sub"
  random_file "$1/sub/f" 100
  ln -s sub/f "$1/file"
  ln -s sub "$1/directory"
  ln -s nowhere "$1/dangling"
  ln -s "$T/canary/precious" "$1/absolute"
  ln -s "$T/canary" "$1/outside"
  ln -s ../../../canary/private "$1/sub/up"
  ln -s . "$1/self"
  make_old "$1"
}
