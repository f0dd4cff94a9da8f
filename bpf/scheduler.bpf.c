// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Scheduler: on-CPU time of watched threads, and what they do with the rest.
 *
 * CPU time comes from sched_stat_runtime, which fires at each tick and each switch: a thread that
 * is never switched out still trips its limit within a tick, and nothing needs a timer. It may fire
 * for a task that is not the current one (another CPU asks for its runtime), under the run-queue
 * lock.
 */
#include "processes.bpf.h"

/* Books runtime into one watch; of_thread: it comes from a thread's own watch, not its process's.
 */
PG_FUNCTION pg_book_cpu(__u64 watch, __u64 runtime, int of_thread)
{
	struct pg_watch *w = pg_watch_of(watch);
	__u64 now;

	if (!w || (w->scope == PG_SCOPE_THREAD) != of_thread)
		return 0;
	__sync_fetch_and_add(&w->cpu_ns, runtime);
	if (!pg_may_cross(&w->cpu, w->cpu_ns))
		return 0;
	now = bpf_ktime_get_ns();
	if (pg_update(&w->cpu, &w->cpu_ns, now))
		pg_notify(w, now);
	return 0;
}

/* The same for a thread that has left its process and, with it, its memberships. */
PG_FUNCTION pg_book_departed(__u64 watch, __u64 runtime)
{
	struct pg_watch *w = pg_watch_of(watch);

	if (!w)
		return 0;
	__sync_fetch_and_add(&w->ended.cpu_ns, runtime);
	return pg_book_cpu(watch, runtime, w->scope == PG_SCOPE_THREAD);
}

SEC("tp_btf/sched_stat_runtime")
int pg_sched_stat_runtime(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u64 runtime = ctx[1];
	__u32 tid = task->pid, tgid;
	struct pg_process *p;
	struct pg_thread *t;

	if (!pg_is_watched(tid))
		return 0;
	t = bpf_map_lookup_elem(&threads, &tid);
	if (!t)
		return 0;
	if (t->exiting) {
		for (int i = 0; i < PG_MEMBERSHIPS; i++)
			if (t->departed[i])
				pg_book_departed(t->departed[i], runtime);
		return 0;
	}
	t->usage.cpu_ns += runtime;
	if (t->watch)
		pg_book_cpu(t->watch, runtime, 1);
	tgid = t->tgid;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return 0;
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_book_cpu(p->member[i].watch, runtime, 0);
	return 0;
}

/* The thread has run for the last time. Its pid may be another's by now. */
static __always_inline void pg_forget_thread(struct task_struct *task, struct pg_thread *t,
					     __u32 tid)
{
	if (!t->exiting || t->start_ns != task->start_boottime)
		return;
	bpf_map_delete_elem(&threads, &tid);
	pg_clear_if_forgotten(tid);
}

/* (preempt, prev, next, prev_state): the same since 5.18 (9c2136be0878). */
SEC("tp_btf/sched_switch")
int pg_sched_switch(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];
	__u32 prev_tid = prev->pid, next_tid = next->pid;
	int prev_watched = pg_is_watched(prev_tid), next_watched = pg_is_watched(next_tid);
	struct pg_thread *t;
	__u64 now;

	if (!prev_watched && !next_watched)
		return 0;
	now = bpf_ktime_get_ns();
	t = prev_watched ? bpf_map_lookup_elem(&threads, &prev_tid) : NULL;
	if (t && ctx[3] & PG_TASK_DEAD)
		pg_forget_thread(prev, t, prev_tid);
	else if (t)
		pg_switch_out(t, pg_off_state(ctx[0] & 1, (__u32)ctx[3]), pg_run_delay(prev), now);
	t = next_watched ? bpf_map_lookup_elem(&threads, &next_tid) : NULL;
	if (t)
		pg_switch_in(t, now);
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
