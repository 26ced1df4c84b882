#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What --help says and where, and what a wrong command line is told.

load helpers

commands=(copy serve verify plan probe bench keygen help)

@test "help goes to stdout, fits 80 columns and is what was agreed on" {
  local name golden
  for name in '' "${commands[@]}"; do
    succeeds ${name:+"$name"} --help
    [[ ! -s $T/err ]] || fail "help of '$name' writes to stderr"
    ! grep -nE '.{81}' "$T/out" || fail "help of '$name' is wider than 80 columns"
    ! grep -nE '[[:space:]]$' "$T/out" || fail "help of '$name' has blanks at an end of line"
    golden=$BATS_TEST_DIRNAME/golden/${name:-zerohaul}.help
    diff -u "$golden" "$T/out" || fail "help of '$name' is not golden/${name:-zerohaul}.help"
  done
}

@test "help COMMAND, COMMAND --help and COMMAND -h say the same" {
  local name
  for name in "${commands[@]}"; do
    succeeds "$name" --help
    mv "$T/out" "$T/long"
    succeeds "$name" -h
    same "$T/long" "$T/out"
    succeeds help "$name"
    same "$T/long" "$T/out"
  done
  succeeds help
  mv "$T/out" "$T/long"
  succeeds --help
  same "$T/long" "$T/out"
}

@test "the help of the program lists every command" {
  local name
  succeeds --help
  for name in "${commands[@]}"; do
    grep -qE "^  $name  " "$T/out" || fail "$name is not listed"
  done
}

@test "the version is one line" {
  succeeds --version
  grep -qxE 'zerohaul [0-9]+\.[0-9]+\.[0-9]+.*' "$T/out" || fail "not a version"
  is "$(wc -l <"$T/out")" 1
}

@test "no command, an unknown command and an unknown option are told in one line" {
  zh
  failed 1 "which command?"
  zh cpoy
  failed 1 "did you mean 'copy'?"
  zh frobnicate
  failed 1 "no command 'frobnicate'"
  ! grep -q 'did you mean' "$T/err" || fail "a name was guessed out of nothing"
  zh help frobnicate
  failed 1 "no command 'frobnicate'"
  zh --verbose
  failed 1 "no option '--verbose'"
  zh copy --chunck=1 a b
  failed 1 "did you mean '--chunk'?"
  grep -qF "see 'zerohaul copy --help'" "$T/err" || fail "no hint"
  zh copy --dur=none a b
  failed 1 "did you mean '--durability'?"
  zh copy -Z a b
  failed 1 "no option '-Z'"
  [[ ! -s $T/out ]] || fail "an error wrote to stdout"
}

@test "an option without its value, or with one it does not take, is told in one line" {
  zh copy a b --key
  failed 1 "--key needs a value: --key=FILE"
  zh copy a b -k
  failed 1 "-k needs a value"
  zh copy --json=yes a b
  failed 1 "--json takes no value"
  zh copy --key= a b
  failed 1 "--key"
}

@test "control bytes of an argument do not reach the terminal" {
  zh copy $'--evil\e[31m' a b
  failed 1 '\x1b'
  zh $'\e]0;gone\a'
  failed 1 '\x1b'
  zh copy --chunk $'1\n2' a b
  failed 1 '\x0a'
  zh copy --key "$T/key" a $'zh://ho\nst/'
  failed 1 '\x0a'
}

@test "operands that a command does not take are refused" {
  local name
  for name in serve probe keygen; do
    zh "$name" operand
    failed 1 "operand"
  done
  zh copy a
  failed 1 "SOURCE and a DEST"
  zh verify a
  failed 1 "a MANIFEST and a DIR"
  zh verify a b c
  failed 1 "a MANIFEST and a DIR"
  zh plan
  failed 1 "one FILE is needed"
  zh help copy serve
  failed 1 "one command"
}

@test "output that cannot be written is an error" {
  [[ -c /dev/full ]] || skip "no /dev/full"
  status=0
  "$ZEROHAUL" --help >/dev/full 2>"$T/err" || status=$?
  failed 2 "standard output: No space left on device"
  status=0 # of which more is printed than is kept in memory
  "$ZEROHAUL" probe --json >/dev/full 2>"$T/err" || status=$?
  failed 2 "standard output: No space left on device"
  "$ZEROHAUL" probe --json >"$T/out" 2>"$T/err" || fail "a file cannot be written either"
  [[ $(wc -c <"$T/out") -gt 4096 && ! -s $T/err ]] || fail "not as much, or an error"
}

@test "output that nobody reads is an error" {
  status=0
  python3 -c 'import os, subprocess, sys
reader, writer = os.pipe()
os.close(reader)
sys.exit(subprocess.run(sys.argv[1:], stdout=writer).returncode)' \
    "$ZEROHAUL" probe --json 2>"$T/err" || status=$?
  failed 2 "standard output: Broken pipe"
  status=0
  "$ZEROHAUL" probe --json >&- 2>"$T/err" || status=$?
  failed 2 "standard output: Bad file descriptor"
}
