// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the bench compares procguard with: the least that a program must do. It tells of one
 * process's memory crossing; it does nothing at all on a hook; it counts a process's events there.
 */
// libbpf's headers need the types of vmlinux.h.
// clang-format off
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
// clang-format on

/* The process whose crossing is told, once each time `crossing_told` is cleared. 0 = nobody's. */
__u32 crossing_tgid;
__u32 crossing_told;
__u64 crossing_anon_pages;

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 65536);
} crossings SEC(".maps");

SEC("tp_btf/rss_stat")
int bare_crossing(__u64* ctx) {
  struct mm_struct* mm = (struct mm_struct*)ctx[0];
  __u64* at;

  if (!crossing_tgid || bpf_get_current_pid_tgid() >> 32 != crossing_tgid || crossing_told)
    return 0;
  if (BPF_CORE_READ(mm, rss_stat[1].count) <= (__s64)crossing_anon_pages)
    return 0;
  at = bpf_ringbuf_reserve(&crossings, sizeof(*at), 0);
  if (!at)
    return 0;
  crossing_told = 1;
  *at = bpf_ktime_get_ns();
  bpf_ringbuf_submit(at, 0);
  return 0;
}

SEC("tp_btf/rss_stat")
int empty_rss_stat(__u64* ctx) {
  return 0;
}

SEC("tp_btf/sched_switch")
int empty_switch(__u64* ctx) {
  return 0;
}

SEC("tp_btf/sched_stat_runtime")
int empty_runtime(__u64* ctx) {
  return 0;
}

/* How many events of each hook were those of one process: the others cost less. */
__u32 census_tgid;
__u64 census_events;

SEC("tp_btf/rss_stat")
int census_rss_stat(__u64* ctx) {
  if (bpf_get_current_pid_tgid() >> 32 == census_tgid)
    __sync_fetch_and_add(&census_events, 1);
  return 0;
}

SEC("tp_btf/sched_switch")
int census_switch(__u64* ctx) {
  struct task_struct* prev = (struct task_struct*)ctx[1];
  struct task_struct* next = (struct task_struct*)ctx[2];

  if (prev->tgid == census_tgid || next->tgid == census_tgid)
    __sync_fetch_and_add(&census_events, 1);
  return 0;
}

SEC("tp_btf/sched_stat_runtime")
int census_runtime(__u64* ctx) {
  struct task_struct* task = (struct task_struct*)ctx[0];

  if (task->tgid == census_tgid)
    __sync_fetch_and_add(&census_events, 1);
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
