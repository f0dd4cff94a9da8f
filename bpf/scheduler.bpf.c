// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Scheduler: on-CPU time of watched threads, and what they do with the rest.
 *
 * CPU time comes from sched_stat_runtime, which fires at each tick and each switch: a thread that
 * is never switched out still trips its limit within a tick, and nothing needs a timer. It may fire
 * for a task that is not the current one (another CPU asks for its runtime), under the run-queue
 * lock.
 */
#include "members.bpf.h"

PG_FUNCTION pg_book_cpu(struct pg_watch *w, __u64 runtime, __u64 now)
{
	if (!w)
		return 0;
	__sync_fetch_and_add(&w->cpu_ns, runtime);
	if (w->cpu.limit && pg_update(&w->cpu, &w->cpu_ns, now))
		pg_notify(w, now);
	return 0;
}

SEC("tp_btf/sched_stat_runtime")
int pg_sched_stat_runtime(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u64 runtime = ctx[1], now;
	__u32 tid = task->pid, tgid;
	struct pg_process *p;
	struct pg_watch *w;
	struct pg_thread *t;

	if (!pg_is_watched(tid))
		return 0;
	t = bpf_map_lookup_elem(&threads, &tid);
	if (!t)
		return 0;
	t->usage.cpu_ns += runtime;
	now = bpf_ktime_get_ns();
	w = pg_watch_of(t->watch);
	if (w)
		pg_book_cpu(w, runtime, now);
	tgid = t->tgid;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return 0;
	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		w = pg_watch_of(p->member[i].watch);
		if (w && w->scope != PG_SCOPE_THREAD)
			pg_book_cpu(w, runtime, now);
	}
	return 0;
}

/* (preempt, prev, next, prev_state): the same since 5.18 (9c2136be0878). */
SEC("tp_btf/sched_switch")
int pg_sched_switch(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	__u32 prev_tid = prev->pid, next_tid = next->pid;
	struct pg_thread *t;

	if (pg_is_watched(prev_tid)) {
		t = bpf_map_lookup_elem(&threads, &prev_tid);
		if (t)
			pg_switch_out(t, pg_off_state(ctx[0] & 1, (__u32)ctx[3]),
				      pg_run_delay(prev), bpf_ktime_get_ns());
	}
	if (pg_is_watched(next_tid)) {
		t = bpf_map_lookup_elem(&threads, &next_tid);
		if (t)
			pg_switch_in(t, bpf_ktime_get_ns());
	}
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
