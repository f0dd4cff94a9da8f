#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The arrows of the house: contract <- core <- sys <- kernel <- engine <- agent, cli, client;
# sys <- proto <- agent, cli, client; client <- python. A layer includes itself and those before it; libbpf
# is for user/kernel alone; what the library installs knows nothing of the house. Prints each wrong
# include.
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
check proto "$contract" 'core/.*' 'sys/.*' 'proto/.*'
check agent "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'engine/.*' 'proto/.*' 'agent/.*'
# The command line starts the agent: its one way in.
check cli "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'engine/.*' 'proto/.*' 'cli/.*' 'agent/agent_main\.h'
check client "$contract" 'core/.*' 'sys/.*' 'kernel/.*' 'engine/.*' 'proto/.*' 'client/.*' 'procguard/[a-z_]+\.hp*'
check python 'procguard/procguard\.h' 'python/native/.*'

# Public headers: the standard library (names without a slash), threads and each other, in <>.
if grep -nHE '^ *# *include' -r user/client/include |
  grep -vE 'include <(procguard/[a-z_]+\.hp*|[a-z_]+|(pthread|std(def|int|bool))\.h)>$'; then
  echo "lint: public headers include only the standard library, threads and <procguard/...>"
  wrong=1
fi
if grep -nHE '#include <(bpf|linux/bpf)' -r user --include='*.h' --include='*.cpp' | grep -v '^user/kernel/'; then
  echo "lint: libbpf is included outside user/kernel"
  wrong=1
fi
if grep -nHE '#include <(sys/|unistd|fcntl|signal\.h|sched)' -r user/core; then
  echo "lint: user/core makes no system calls"
  wrong=1
fi
exit "$wrong"
