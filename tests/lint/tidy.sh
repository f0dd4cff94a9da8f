#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tidy.sh GENERATED_DIR FILE: clang-tidy on one file; what it passed once, with all that the file
# includes, it is not shown again.
set -u
generated=$1
file=$2
flags=(-std=c++20 -I. -Iuser -Iuser/client/include -isystem "$generated" -DPROCGUARD_VERSION='"lint"')
case $file in
  user/python/*) flags+=(-isystem "$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')") ;;
esac
mkdir -p "$generated/tidy"
includes=$(g++ "${flags[@]}" -MM -MG "$file" 2>/dev/null | tr -s ' \\\\\n' '\n' |
  grep -E '^(user|bpf|tests)/.*\.h(pp)?$' | sort -u)
# shellcheck disable=SC2086 # a list of our own file names
stamp=$generated/tidy/$(cat .clang-tidy "$file" $includes 2>/dev/null | sha256sum | cut -c1-40)
[ -e "$stamp" ] && exit 0
clang-tidy --quiet "$file" -- "${flags[@]}" 2> >(grep -vE 'warnings? generated|^$' >&2) || exit 1
touch "$stamp"
