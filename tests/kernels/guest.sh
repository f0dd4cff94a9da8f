#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=dash
# The checks of one kernel, run inside it. Each leaves one line in /results/checks:
# "ok NAME", "failed NAME: why" or "skipped NAME: why"; the last line is "finished".
# No timing is judged here: the emulated machine is 11 to 22 times slower than a real one.
set -u

mib=1048576

ok() { echo "ok $1" >>/results/checks; }
failed() { echo "failed $1: $2" >>/results/checks; }

# expect STATUS NAME COMMAND...: the command's exit status. One that hangs is ended: status 137.
expect() {
  wanted=$1 name=$2
  shift 2
  echo "== $(cut -d " " -f 1 /proc/uptime) s: $name: $*"
  timeout -s KILL 60 "$@"
  status=$?
  if [ "$status" -eq "$wanted" ]; then
    ok "$name"
  else
    failed "$name" "status $status, expected $wanted: $*"
  fi
}

# guarded STATUS NAME ARGUMENTS...: `procguard run` with a report, looked at by the next three.
guarded() {
  wanted=$1 name=$2
  shift 2
  report=/results/$(report_name "$name")
  expect "$wanted" "$name" procguard run --report "$report" "$@"
}

report_name() { echo "$1.json" | tr ' ' '-'; }

# has PATTERN: a line of the report.
has() {
  if grep -qE "$1" "$report"; then
    ok "$name: $1"
  else
    failed "$name" "no $1 in its report"
  fi
}

# within FIELD LOW HIGH: a number of the report's usage, the first of that name.
within() {
  value=$(sed -n "/\"usage\"/,\$s/.*\"$1\": *\([0-9]*\).*/\1/p" "$report" | head -n 1)
  if [ "${value:-0}" -ge "$2" ] && [ "${value:-0}" -le "$3" ]; then
    ok "$name: $1 = $value"
  else
    failed "$name" "$1 = ${value:-none}, expected $2 to $3"
  fi
}

# alive PROGRAM: a line for each that is. Zombies are not, and pgrep would count them.
# shellcheck disable=SC2009
alive() { ps -o stat,pid,comm | grep -E "^[^ZX].* $1\$"; }

# gone PROGRAM: none is left, at once or while the last kill takes effect.
gone() {
  tries=50
  while [ -n "$(alive "$1")" ] && [ $tries -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  if [ $tries -gt 0 ]; then
    ok "$name: no $1 survives"
  else
    failed "$name" "survivors: $(alive "$1" | tr '\n' ' ')"
  fi
}

machine() {
  expect 0 "memory controller" test -f /sys/fs/cgroup/job/memory.current
  expect 0 "kernel BTF" test -s /sys/kernel/btf/vmlinux
  expect 0 "tracefs" test -e /sys/kernel/tracing/trace_pipe
}

# Above the limit: what a thread faults in until the kernel's signal reaches it.
memory() {
  guarded 124 "memory" -m 64M -- /programs/touch 512M --hold 30
  has '"source": "bpf"'
  has '"resource": "memory"'
  has '"by": "kernel"'
  within peak_rss_bytes $((64 * mib)) $((65 * mib))
  within waited_for_max_rss_bytes $((63 * mib)) $((65 * mib)) # what getrusage says

  guarded 124 "memory of four threads" -m 64M -- /programs/touch 512M --threads 4 --hold 30
  within peak_rss_bytes $((64 * mib)) $((80 * mib)) # three go on until the signal is there

  guarded 124 "memory of a daemon" -m 64M -- /programs/touch 512M --daemon --hold 30
  within peak_rss_bytes $((64 * mib)) $((65 * mib))

  guarded 0 "below all limits" -m 128M --cpu 60s -t 60s -- /programs/touch 32M
  has '"trip": null'
  within peak_rss_bytes $((32 * mib)) $((48 * mib))
}

cpu() {
  guarded 124 "cpu" --cpu 500ms -- /programs/spin
  has '"source": "bpf"'
  has '"resource": "cpu"'
  within cpu_ns 500000000 1000000000
}

tree() {
  guarded 137 "tree" -t 500ms --kill --step-grace 200ms -- /programs/setsid_tree
  has '"membership": "bpf"'
  has '"signal": "SIGKILL"'
  gone setsid_tree

  # On kernels without bpf_send_signal_task only the sys_exit program ends this. One kind of the
  # three that the end-to-end tests have: a kernel is to take ten seconds.
  guarded 137 "fork bomb" -t 500ms --escalate KILL -- /programs/fork_bomb --kind chain --live 40
  gone fork_bomb
}

# What moves into a guarded cgroup is guarded. TERM: a shell's background commands ignore INT.
cgroup() {
  directory=/sys/fs/cgroup/guarded
  mkdir $directory
  procguard run --report "/results/$(report_name cgroup)" --cgroup $directory -m 64M \
    -s TERM -- /programs/sleeper &
  guard=$!
  tries=100
  while [ -z "$(alive sleeper)" ] && [ $tries -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
  done
  # The command runs, so the guard is in force.
  expect 143 "migration into a guarded cgroup" \
    sh -c "echo \$\$ >$directory/cgroup.procs; exec /programs/touch 512M --hold 30"
  wait $guard
  status=$?
  if [ $status -eq 124 ]; then
    ok "cgroup"
  else
    failed "cgroup" "status $status of procguard run, expected 124"
  fi
  gone sleeper
}

# Waits up to 30 s for a command to succeed.
eventually() {
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  return 1
}

start_agent() {
  procguard agent --socket /run/agent.sock >>/results/agent.log 2>&1 &
  agent=$!
  eventually procguard status
}

# An agent dies; the kernel takes a failsafe step meanwhile, the next agent the rest.
agents() {
  export PROCGUARD_SOCKET=/run/agent.sock
  start_agent
  expect 0 "agent starts" procguard status
  /programs/sleeper & target=$!
  /programs/touch 8M --hold 5 --spike 64M:30 & grower=$!
  expect 0 "agent arms" procguard attach --pid $target -t 20s --kill --name slept
  expect 0 "agent arms a failsafe" procguard attach --pid $grower -m 32M --kill --failsafe kernel
  kill -KILL "$agent"
  wait "$agent"
  wait "$grower"
  expect 0 "failsafe step at the crossing" test $? -eq 137
  start_agent
  expect 0 "agent starts again" procguard status
  expect 0 "agent adopts" sh -c "procguard show slept | grep -q armed"
  expect 0 "agent tells of the failsafe step" sh -c "procguard events | grep -q 'by the kernel'"
  expect 0 "agent tells of the gap" sh -c "procguard events | grep -q 'no agent ran'"
  wait $target
  expect 0 "the ladder goes on" test $? -ge 130
  kill "$agent"
  wait "$agent"
  expect 0 "agent stops" test $? -eq 0
  expect 0 "agent tears down" procguard agent --teardown
}

machine
expect 0 "every program attaches" attach_all
expect 0 "doctor" procguard doctor
memory
cpu
tree
cgroup
agents

echo finished >>/results/checks
