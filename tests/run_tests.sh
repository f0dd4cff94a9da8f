#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the given GoogleTest binaries and closes with one line: "N passed, N failed, N skipped".
# Under CI a skipped test is a failure: there everything that is tested can be had.
set -u
passed=0 failed=0 skipped=0
count() { sed -nE "s/^\[  $1 \] ([0-9]+) tests?.*/\1/p" "$2" | head -n 1; }
for binary in "$@"; do
  log=$(mktemp)
  "$binary" --gtest_brief=0 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  p=$(count "PASSED " "$log") f=$(count "FAILED " "$log") s=$(count "SKIPPED" "$log")
  rm -f "$log"
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
  if [ "$status" -ne 0 ] && [ "${f:-0}" -eq 0 ]; then
    echo "$binary ended with status $status"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && { [ "$skipped" -eq 0 ] || [ "${CI:-}" != true ]; }
