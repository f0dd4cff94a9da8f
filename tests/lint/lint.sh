#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lint.sh GENERATED_DIR FILE...: format, include arrows, SPDX lines, sizes, shellcheck, clang-tidy.
# Ends with status 1 and says what and where if anything is wrong.
set -u
here=$(dirname "$0")
generated=$1
shift
wrong=0
note() {
  echo "lint: $1"
  wrong=1
}

clang-format --dry-run -Werror "$@" || note "not formatted: run make format"

"$here/arrows.sh" || wrong=1

mapfile -t scripts < <(git ls-files -co --exclude-standard '*.sh' .ci/run)
for file in "$@" "${scripts[@]}"; do
  head -n 2 "$file" | grep -q 'SPDX-License-Identifier:' || note "$file: no SPDX line"
done
shellcheck "${scripts[@]}" || note "shellcheck has findings"

while read -r lines file; do
  [ "$file" = total ] || [ "$lines" -le 450 ] || note "$file: $lines lines, a concept is missing"
done < <(wc -l "$@")

# clang-tidy is most of the time, so tests are shown to it only with TIDY_TESTS=1 (make test-full).
folders='user'
[ -z "${TIDY_TESTS:-}" ] || folders='user|tests'
printf '%s\n' "$@" | grep -E "^($folders)/.*\.cpp$" |
  xargs -P "$(nproc)" -I{} "$here/tidy.sh" "$generated" {} || note "clang-tidy has findings"
exit "$wrong"
