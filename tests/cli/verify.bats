#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# verify: what it says of a tree, in words, as JSON, and by its exit status.

load helpers

# A tree of 6 things, 4 of them files, and its manifest.
make_tree() {
  mkdir -p "$T/root/d"
  random_file "$T/root/large" 3000001
  random_file "$T/root/d/small" 5
  random_file "$T/root/d/"$'odd \e\n' 4096
  : >"$T/root/empty"
  ln -s d/small "$T/root/link"
  "$ZH_MAKE_MANIFEST" "$T/m" "$T/root"
}

flip() {
  python3 - "$1" "$2" <<'END'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    byte = file.read(1)[0]
    file.seek(int(sys.argv[2]))
    file.write(bytes([byte ^ 1]))
END
}

verifies() {
  succeeds verify "$@" "$T/m" "$T/root"
  [[ ! -s $T/err ]] || fail "something on stderr"
}

verify() {
  zh verify "$@" "$T/m" "$T/root"
}

@test "a tree that is right is status 0 and one line" {
  make_tree
  verifies
  grep -qE '^6 of 6 right; read 3 MB( \(.* page cache\))? in [0-9.]+ s$' "$T/out" || fail "the summary"
  is "$(wc -l <"$T/out")" 1
  verifies --extra --mtime --mode --threads=1
  verifies --quiet
  [[ ! -s $T/out ]] || fail "--quiet printed a summary"
  succeeds verify --progress=always --quiet "$T/m" "$T/root"
}

@test "one changed bit is status 35 and named" {
  make_tree
  flip "$T/root/large" 2500000
  verify
  failed 35 "'large': its content differs [VERIFY]"
  grep -q '^5 of 6 right, 1 wrong; ' "$T/out" || fail "the summary"
  flip "$T/root/large" 2500000
  verifies
  flip "$T/root/d/"$'odd \e\n' 0
  verify
  failed 35 '\x1b\x0a'
}

@test "what is missing is status 3, what is all missing 22" {
  make_tree
  rm "$T/root/d/small"
  verify
  failed 3 "'d/small': missing [SRC_GONE]"
  rm -r "$T/root"
  mkdir "$T/root"
  verify --quiet
  is "$status" 22
  is "$(wc -l <"$T/err")" 6
}

@test "an ordinary user is told what cannot be read" {
  make_tree
  chmod 0 "$T/root/large"
  zh_as_user verify "$T/m" "$T/root"
  failed 3 "'large': cannot be read: Permission denied [SRC_IO]"
  grep -q '^5 of 6 right, 1 unreadable; ' "$T/out" || fail "the summary"
}

@test "links are not followed" {
  make_tree
  mv "$T/root/large" "$T/local/large"
  ln -s ../local/large "$T/root/large"
  verify
  failed 35 "'large': a link stands in its place"
  rm "$T/root/large"
  mv "$T/local/large" "$T/root/large"
  verifies
  ln -sfn d "$T/root/link"
  verify
  failed 35 "'link': the link points to d ["
}

@test "what is extra counts when it is asked for" {
  make_tree
  : >"$T/root/d/more"
  verifies
  verify --extra
  failed 35 "'d/more': not in the manifest"
  grep -q '^6 of 6 right, 1 extra; ' "$T/out" || fail "the summary"
}

@test "times and modes count when they are asked for" {
  make_tree
  touch -d '2001-02-03' "$T/root/large"
  chmod 700 "$T/root/d"
  verifies
  verify --mtime
  failed 35 "'large': its time of modification differs"
  verify --mode
  failed 35 "'d': its mode is 0700, not 0755"
}

@test "what is no manifest proves nothing" {
  make_tree
  zh verify "$T/none" "$T/root"
  failed 22 "cannot be read: No such file"
  zh verify "$T/root/large" "$T/root"
  failed 2 "line 1: "
  zh verify "$T/root" "$T/root"
  failed 2 "not a regular file"
  zh verify "$T/m" "$T/none"
  failed 2 "the root directory cannot be opened"
  sed -i '/small/d' "$T/m"
  verify
  failed 2 "the last line is not that of the lines before it"
  [[ ! -s $T/out ]] || fail "a summary of nothing"
}

@test "--json is one object, whatever happens" {
  make_tree
  verifies --json
  json_is_valid verify
  is "$(json 'o["outcome"], o["exit_status"], o["error"], o["findings"]')" "('OK', 0, None, [])"
  is "$(json 'o["report"]["right"], o["report"]["bytes"]')" "(6, 3004102)"
  flip "$T/root/large" 1
  rm "$T/root/empty"
  : >"$T/root/more"
  verify --json --extra
  is "$status" 35
  json_is_valid verify
  is "$(json 'sorted((f["kind"], f["file"]) for f in o["findings"])')" \
    "[('extra', 'more'), ('missing', 'empty'), ('wrong', 'large')]"
  is "$(json 'o["outcome"], o["error"]')" "('VERIFY', None)"
  echo nonsense >"$T/m"
  verify --json
  failed 2 "line 1"
  json_is_valid verify
  is "$(json 'o["error"]["outcome"], o["report"]["listed"]')" "('CONFIG', 0)"
}

@test "an interrupted run says so" {
  make_tree
  truncate -s 20G "$T/local/huge" || skip "no room for a sparse file"
  # a digest that does not matter: it never gets to the end
  python3 - "$T/m" <<'END'
import ctypes, ctypes.util, sys
lib = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
lib.XXH3_128bits.restype = Hash
lib.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
size = 20 << 30
text = b"zerohaul-manifest 1\nfile " + b"0" * 32 + b" %d 0.000000000 0644 huge\n" % size
hash = lib.XXH3_128bits(text, len(text))
with open(sys.argv[1], "wb") as file:
    file.write(text + b"end 1 %d %016x%016x\n" % (size, hash.high, hash.low))
END
  "$ZEROHAUL" verify "$T/m" "$T/local" >"$T/out" 2>"$T/err" 3>&- &
  local pid=$!
  sleep 0.5
  kill -TERM "$pid" 2>/dev/null || fail "it has ended already"
  status=0
  wait "$pid" || status=$?
  is "$status" 143
  grep -q 'CANCELLED' "$T/err" || fail "it does not say so"
}
