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

# clang-tidy is most of the time: what it passed once, with all it includes, it is not shown again,
# and tests are shown to it only with TIDY_TESTS=1 (make test-full).
cache=$generated/tidy
mkdir -p "$cache"
export cache generated
tidy() {
  local file=$1 stamp
  stamp=$cache/$( (cat .clang-tidy "$file"; g++ -std=c++20 -I. -Iuser -I"$generated" -MM -MG "$file" 2>/dev/null |
    tr -d '\\' | tr ' ' '\n' | grep -E '^(user|bpf|tests)/.*\.h$' | sort -u | xargs -r cat) | sha256sum | cut -c1-40)
  [ -e "$stamp" ] && return 0
  clang-tidy --quiet "$file" -- -std=c++20 -I. -Iuser -isystem "$generated" -DPROCGUARD_VERSION='"lint"' \
    2> >(grep -vE 'warnings? generated|^$' >&2) && touch "$stamp"
}
export -f tidy
folders='user'
[ -z "${TIDY_TESTS:-}" ] || folders='user|tests'
printf '%s\n' "$@" | grep -E "^($folders)/.*\.cpp$" |
  xargs -P "$(nproc)" -I{} bash -c 'tidy {}' || note "clang-tidy has findings"
exit "$wrong"
