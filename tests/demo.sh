#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What procguard does, on real commands, in its own words: a job that hangs, one that leaks, a tree
# that tries to get away, and one that behaves. Ends with 1 if something is not as it should be.
#   tests/demo.sh BUILD_DIR
set -u
build=${1:?usage: tests/demo.sh BUILD_DIR}
procguard=$build/procguard
programs=$build/programs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Every process of a job carries this in its environment, wherever it has gone.
PROCGUARD_DEMO=$work
export PROCGUARD_DEMO
failures=0

# The value of the first KEY in the report.
value() { sed -nE "s/^ *\"$1\": *(.*[^,]),?$/\1/p" "$work/report.json" | head -n 1; }

bytes() { awk -v n="$1" 'BEGIN { printf "%.2f MiB", n / 1048576 }'; }

milliseconds() { awk -v n="$1" 'BEGIN { printf "%.0f ms", n / 1000000 }'; }

# Live processes of the job.
survivors() {
  local found=0 file
  for file in /proc/[0-9]*/environ; do
    if [ "$file" != "/proc/$$/environ" ] && [ "$file" != "/proc/self/environ" ] &&
      grep -qzxF "PROCGUARD_DEMO=$work" "$file" 2>/dev/null; then
      found=$((found + 1))
    fi
  done
  echo "$found"
}

# job TITLE OPTION... -- COMMAND...
job() {
  local title=$1
  shift
  printf '\n== %s\n$ procguard run' "$title"
  printf ' %q' "${@/#"$programs/"/}"
  printf '\n'
  "$procguard" run --report "$work/report.json" "$@" </dev/null
  status=$?
  left=$(survivors)
  printf 'exit status %s; the command ran %s; peak RSS %s, CPU %s; processes left: %s\n' "$status" \
    "$(milliseconds "$(value wall_ns)")" "$(bytes "$(value peak_rss_bytes)")" \
    "$(milliseconds "$(value cpu_ns)")" "$left"
  printf 'steps:%s\n' "$(sed -n '/"steps":/,/"steps_omitted":/p' "$work/report.json" |
    sed -nE 's/^ *"signal": "(SIG[A-Z0-9+-]+)".*/ \1/p' | tr -d '\n')"
}

# expect WHAT TEST...
expect() {
  local what=$1
  shift
  if "$@"; then
    echo "ok: $what"
  else
    echo "NOT OK: $what"
    failures=$((failures + 1))
  fi
}

job 'a job that hangs, and ignores being asked to stop' \
  -t 1s --kill --step-grace 500ms -- "$programs/sleeper" --ignore INT,TERM
expect 'it was ended by SIGKILL (137)' [ "$status" -eq 137 ]
expect 'nothing is left' [ "$left" -eq 0 ]

job 'a job that leaks memory as fast as it can, 2 GiB of it' \
  -m 64M -- "$programs/touch" 2G
expect 'it was stopped (124)' [ "$status" -eq 124 ]
expect "$(value overshoot_bytes) bytes over the limit, at most 512 KiB" \
  [ "$(value overshoot_bytes)" -le 524288 ]

job 'a tree: a daemon in a session of its own, which ignores all but SIGKILL, and its children' \
  -t 1s --kill --step-grace 500ms -- "$programs/setsid_tree"
expect 'it was ended (124 or 137)' [ "$status" -eq 124 -o "$status" -eq 137 ]
expect 'no member survived' [ "$left" -eq 0 ]

job 'a job that spins' --cpu 500ms -- "$programs/spin" --threads 4
expect 'it was stopped (124)' [ "$status" -eq 124 ]

job 'a job that behaves' -t 10s --cpu 10s -m 256M -- sh -c 'seq 1 200000 | md5sum'
expect 'it was left alone (its own status, 0)' [ "$status" -eq 0 ]
expect 'nothing tripped' [ "$(value trip)" = null ]

echo
if [ "$failures" -ne 0 ]; then
  echo "$failures expectations did not hold"
  exit 1
fi
echo 'all as it should be'
