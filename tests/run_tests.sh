#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs what it is given, GoogleTest binaries and directories of pytest's, and closes with one line:
# "N passed, N failed, N skipped". Under CI a skipped test is a failure: there everything that is
# tested can be had.
set -u
passed=0 failed=0 skipped=0
google() { sed -nE "s/^\[  $1 \] ([0-9]+) tests?.*/\1/p" "$2" | head -n 1; }
pytest() { tail -n 1 "$2" | sed -nE "s/.*\b([0-9]+) $1\b.*/\1/p"; }
for tests in "$@"; do
  log=$(mktemp)
  if [ -d "$tests" ]; then
    "${PYTHON:-/usr/bin/python3}" -B -m pytest -p no:cacheprovider -q --color=no -rs --durations=5 \
      "$tests" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    p=$(pytest passed "$log") f=$(pytest failed "$log") s=$(pytest skipped "$log")
    e=$(pytest 'errors?' "$log")
    f=$((${f:-0} + ${e:-0}))
  else
    "$tests" --gtest_brief=0 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    p=$(google "PASSED " "$log") f=$(google "FAILED " "$log") s=$(google "SKIPPED" "$log")
  fi
  rm -f "$log"
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
  if [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ]; then
    echo "$tests ended with status $status"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && { [ "$skipped" -eq 0 ] || [ "${CI:-}" != true ]; }
