#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The checks of one kernel, run inside it. Each leaves one line in /results/checks:
# "ok NAME", "failed NAME: why" or "skipped NAME: why"; the last line is "finished".
# No timing is judged here: the emulated machine is 11 to 22 times slower than a real one.
set -u

ok() { echo "ok $1" >>/results/checks; }
failed() { echo "failed $1: $2" >>/results/checks; }

# expect STATUS NAME COMMAND...: the command's exit status. A hang is status 143.
expect() {
  wanted=$1 name=$2
  shift 2
  echo "== $name: $*"
  timeout 60 "$@"
  status=$?
  if [ "$status" -eq "$wanted" ]; then
    ok "$name"
  else
    failed "$name" "status $status, expected $wanted: $*"
  fi
}

# holds NAME COMMAND...: the command succeeds.
holds() {
  name=$1
  shift
  expect 0 "$name" "$@"
}

holds "memory controller" test -f /sys/fs/cgroup/job/memory.current
holds "kernel BTF" test -s /sys/kernel/btf/vmlinux
holds "tracefs" test -e /sys/kernel/tracing/trace_pipe
holds "bpffs" mkdir /sys/fs/bpf/probe
rmdir /sys/fs/bpf/probe
expect 3 "exit codes come back" sh -c "exit 3"

echo finished >>/results/checks
