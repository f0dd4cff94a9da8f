#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The arrows of the house: contract <- core <- sys <- kernel <- engine <- cli. A layer includes
# itself and those before it; libbpf is for user/kernel alone. Prints each wrong include.
set -u
wrong=0

# check LAYER ALLOWED...: which project folders a layer's quoted includes may name.
check() {
  local layer=$1 allowed
  shift
  allowed=$(IFS='|' && echo "$*")
  local found
  found=$(grep -nHE '^#include "' -r "user/$layer" --include='*.h' --include='*.cpp' 2>/dev/null |
    grep -vE "#include \"(${allowed})\"")
  if [ -n "$found" ]; then
    echo "lint: user/$layer may include only: $*"
    echo "$found"
    wrong=1
  fi
}

contract='bpf/(contract|account)\.h'
check core "$contract" 'core/.*'
check sys "$contract" 'core/.*' 'sys/.*'
check kernel "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'procguard\.skel\.h'
check engine "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'engine/.*'
check cli "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'engine/.*' 'cli/.*'

if grep -nHE '#include <(bpf|linux/bpf)' -r user --include='*.h' --include='*.cpp' | grep -v '^user/kernel/'; then
  echo "lint: libbpf is included outside user/kernel"
  wrong=1
fi
if grep -nHE '#include <(sys/|unistd|fcntl|signal\.h|sched)' -r user/core; then
  echo "lint: user/core makes no system calls"
  wrong=1
fi
exit "$wrong"
