#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Help, manual pages and completions say the same, and what they say is well formed.

load helpers

commands=(copy serve verify plan probe bench keygen)

page_of() {
  mandoc -Tascii "$ZH_MAN/$1" | col -bx
}

section_of() {
  page_of "$1" | awk -v name="$2" '/^[A-Z]/ { on = $0 == name; next } on'
}

@test "the options in help and in the manual page are the same" {
  local name
  for name in "${commands[@]}"; do
    section_of "zerohaul-$name.1" OPTIONS |
      grep -oE '^     (-[A-Za-z0-9], )?--[a-z-]+' | grep -oE -- '--[a-z-]+' | sort >"$T/man"
    options_of "$name" | diff - "$T/man" || fail "help and manual of $name differ"
    [[ -s $T/man ]] || fail "no options of $name"
  done
}

@test "the options in help and in the bash completion are the same" {
  local name
  # shellcheck disable=SC1091
  source "$ZH_COMPLETIONS/zerohaul"
  for name in "${commands[@]}"; do
    COMP_WORDS=(zerohaul "$name" --)
    COMP_CWORD=2
    _zerohaul || true
    printf '%s\n' "${COMPREPLY[@]%=}" | sort >"$T/bash"
    options_of "$name" | diff - "$T/bash" || fail "help and completion of $name differ"
  done
  COMP_WORDS=(zerohaul '')
  COMP_CWORD=1
  _zerohaul || true
  [[ " ${COMPREPLY[*]} " == *" copy "*" keygen "* ]] || fail "commands: ${COMPREPLY[*]}"
}

@test "the bash completion knows values" {
  # shellcheck disable=SC1091
  source "$ZH_COMPLETIONS/zerohaul"
  COMP_WORDS=(zerohaul copy --verify "=" '')
  COMP_CWORD=4
  _zerohaul
  is "${COMPREPLY[*]}" "full none"
  COMP_WORDS=(zerohaul copy --verify "=")
  COMP_CWORD=3
  _zerohaul
  is "${COMPREPLY[*]}" "full none"
  COMP_WORDS=(zerohaul copy --receive-strategy dis)
  COMP_CWORD=3
  _zerohaul
  is "${COMPREPLY[*]}" "discard"
}

@test "the options in help and in the zsh and fish completions are the same" {
  local name
  for name in "${commands[@]}"; do
    awk -v name="$name" '$0 == "\t" name ")" { on = 1 } /;;/ { on = 0 } on' "$ZH_COMPLETIONS/_zerohaul" |
      sed -E "s/\[.*//" | grep -oE -- "--[a-z-]+" | sort -u >"$T/zsh"
    options_of "$name" | diff - "$T/zsh" || fail "help and zsh completion of $name differ"
    grep -F "__fish_seen_subcommand_from $name'" "$ZH_COMPLETIONS/zerohaul.fish" |
      grep -oE -- "-l [a-z-]+" | sed 's/-l /--/' | sort >"$T/fish"
    options_of "$name" | diff - "$T/fish" || fail "help and fish completion of $name differ"
  done
}

@test "completions are well formed" {
  bash -n "$ZH_COMPLETIONS/zerohaul"
  if command -v shellcheck >/dev/null; then
    shellcheck -s bash "$ZH_COMPLETIONS/zerohaul"
  fi
  if command -v zsh >/dev/null; then
    zsh -n "$ZH_COMPLETIONS/_zerohaul"
  fi
  if command -v fish >/dev/null; then
    fish -n "$ZH_COMPLETIONS/zerohaul.fish"
  fi
}

@test "manual pages are clean" {
  command -v mandoc >/dev/null || skip "no mandoc"
  local page
  for page in "$ZH_MAN"/*.[1-9]; do
    # Our own pages are not installed while they are tested.
    mandoc -Tlint -Wstyle "$page" 2>&1 | grep -vE 'referenced manual not found|outdated mandoc.db' \
      >"$T/lint" || true
    [[ ! -s $T/lint ]] || fail "$(cat "$T/lint")"
    if command -v man >/dev/null; then
      LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$page" 2>"$T/lint" >/dev/null
      [[ ! -s $T/lint ]] || fail "$page: $(cat "$T/lint")"
    fi
    ! grep -nE '@[A-Z]+@' "$page" || fail "$page has a part that was not filled"
  done
}

@test "manual pages have their sections" {
  local page section
  for page in zerohaul.1 zerohaul-{copy,serve,verify,plan,probe,bench,keygen}.1 libzerohaul.3 \
    zerohaul-strategies.7; do
    for section in NAME SYNOPSIS DESCRIPTION OPTIONS 'EXIT STATUS' EXAMPLES 'SEE ALSO'; do
      [[ -n $(section_of "$page" "$section") ]] || fail "$page has no $section"
    done
  done
}

@test "the manual of the strategies has those of the program" {
  succeeds probe --json
  json '"\n".join(sorted("%s (%s)" % (s["name"], s["side"]) for s in o["strategies"]))' >"$T/probe"
  section_of zerohaul-strategies.7 STRATEGIES |
    grep -oE '^   [a-z-]+ \((send|receive)\)$' | sed 's/^ *//' | LC_ALL=C sort >"$T/man"
  LC_ALL=C sort "$T/probe" | diff - "$T/man" || fail "they differ"
  [[ $(wc -l <"$T/man") -ge 8 ]] || fail "less than eight strategies"
}

@test "every page lists the exit statuses" {
  local name
  for name in "" "${commands[@]/#/-}"; do
    section_of "zerohaul$name.1" 'EXIT STATUS' >"$T/exit"
    grep -qE '^ +0 +OK: ' "$T/exit" || fail "no status 0 in zerohaul$name.1"
    grep -qE '^ +31 +NOSPACE: ' "$T/exit" || fail "no status 31 in zerohaul$name.1"
    grep -qE '^ +70 +INTERNAL: ' "$T/exit" || fail "no status 70 in zerohaul$name.1"
    is "$(grep -cE '^ +[0-9]+ +[A-Z_]+: ' "$T/exit")" 24
  done
}

@test "the examples in libzerohaul(3) compile" {
  command -v "${CC%% *}" >/dev/null || skip "no compiler"
  awk -v base="$T/example" '
    /^\.Bd -literal/ { n++; on = 1; next }
    /^\.Ed/ { on = 0 }
    on { gsub(/\\e/, "\\"); print > (base n ".c") }' "$ZH_MAN/libzerohaul.3"
  [[ -s $T/example1.c && -s $T/example2.c ]] || fail "there are no examples"
  local file
  for file in "$T"/example*.c; do
    $CC -std=gnu17 -Wall -Wextra -Wno-missing-prototypes -Werror -fsyntax-only \
      -I"$ZH_INCLUDE" "$file" || fail "$file"
  done
}

@test "the quickstart script is clean" {
  command -v shellcheck >/dev/null || skip "no shellcheck"
  shellcheck "$ZH_SOURCE/tools/quickstart"
  [[ -x $ZH_SOURCE/tools/quickstart ]] || fail "it cannot be run"
}
