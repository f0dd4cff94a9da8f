// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Failsafe: the last step by the kernel itself, while no agent runs. Attached only while a guard
 * wants it. (Whoever crosses a memory limit without grace has had it in memory.bpf.c; the others of
 * his group, and who is over a limit as the agent ends, are reached from here.)
 *
 * A member that runs is reached by its own hooks: the tick, or its next switch. One that sleeps is
 * reached from any other task's switch, by a function of the kernel that there is since 6.13;
 * before that it gets the step when it runs next, or from the next agent.
 */
#include "processes.bpf.h"

#define PG_LOOK_AGAIN_NS 10000000ULL /* for members that were born or missed meanwhile */

struct task_struct *bpf_task_from_pid(__s32 pid) __ksym __attribute__((weak)); /* 6.2 */
void bpf_task_release(struct task_struct *task) __ksym __attribute__((weak));
/* 6.13 (6280cf718db0) */
int bpf_send_signal_task(struct task_struct *task, int signal, enum pid_type type,
			 __u64 value) __ksym __attribute__((weak));

/* The signal of a step that is due; 0: none is. */
static __always_inline __u32 pg_failsafe_due(const struct pg_watch *w, __u64 now, __u32 *resource)
{
	const struct pg_failsafe *f = &w->failsafe;

	if (pg_failsafe_memory_due(w, now)) {
		*resource = PG_MEMORY;
		return f->memory.signal;
	}
	if (f->due_ns && now >= f->due_ns) {
		*resource = PG_TIMEOUT;
		return f->due_signal;
	}
	if (f->cpu_ns && w->cpu_ns > 0 && (__u64)w->cpu_ns >= f->cpu_ns) {
		*resource = PG_CPU;
		return f->cpu_signal;
	}
	return 0;
}

PG_FUNCTION pg_failsafe_watch(__u64 watch, __u64 now)
{
	struct pg_watch *w = pg_watch_of(watch);
	__u32 resource = PG_TIMEOUT, signal;

	if (!w)
		return 0;
	signal = pg_failsafe_due(w, now, &resource);
	if (signal)
		pg_failsafe_step(w, resource, signal, now);
	else
		pg_kill_current(w);
	return 0;
}

/* The current process, by all its memberships. */
PG_FUNCTION pg_failsafe_current(__u32 tgid)
{
	struct pg_process *p = bpf_map_lookup_elem(&processes, &tgid);
	__u64 now = bpf_ktime_get_ns();

	for (int i = 0; p && i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_failsafe_watch(p->member[i].watch, now);
	return 0;
}

struct pg_failsafe_sweep {
	__u64 now;
	__u64 next_ns; /* when to sweep again */
};

/* What one membership asks for: the signal that is due, 0 for none. Notes when one will be. */
static __always_inline __u32 pg_failsafe_asked(__u64 watch, struct pg_failsafe_sweep *sweep)
{
	struct pg_watch *w = pg_watch_of(watch);
	__u32 resource = PG_TIMEOUT, signal;
	__u64 grace_ends;

	if (!w)
		return 0;
	signal = pg_failsafe_due(w, sweep->now, &resource);
	if (!signal && w->flags & PG_WATCH_DOOMED)
		signal = PG_SIGKILL;
	if (!signal && w->failsafe.due_ns && w->failsafe.due_ns < sweep->next_ns)
		sweep->next_ns = w->failsafe.due_ns;
	grace_ends = w->failsafe.memory.over_since_ns + w->failsafe.memory_grace_ns;
	if (!signal && w->failsafe.memory.over_since_ns && grace_ends < sweep->next_ns)
		sweep->next_ns = grace_ends;
	if (!signal || (signal != PG_SIGKILL && w->failsafe.acted_ns))
		return 0;
	return signal;
}

/* kill(2)'s rule, as pg_may_signal_current(). */
static __always_inline int pg_may_signal_task(__u64 watch, struct task_struct *task)
{
	struct pg_watch *w = pg_watch_of(watch);

	if (!w)
		return 0;
	return w->flags & PG_WATCH_ANY_UID || BPF_CORE_READ(task, cred, uid.val) == w->owner_uid ||
	       BPF_CORE_READ(task, cred, suid.val) == w->owner_uid;
}

PG_FUNCTION pg_note_failsafe(__u64 watch, __u32 tgid, __u64 now, __u32 signal)
{
	struct pg_watch *w = pg_watch_of(watch);
	__u32 resource = PG_TIMEOUT;

	if (!w || __sync_val_compare_and_swap(&w->failsafe.acted_ns, 0, now))
		return 0;
	pg_failsafe_due(w, now, &resource);
	w->failsafe.acted_pid = tgid;
	w->failsafe.acted_resource = resource;
	pg_failsafe_doom(w, signal);
	bpf_printk("procguard: no agent: last step by the kernel: signal %u to pid %u", signal,
		   tgid);
	return 0;
}

static __always_inline void pg_failsafe_send(__u64 watch, __u32 tgid, __u64 start_ns, __u32 signal,
					     __u64 now)
{
	struct task_struct *task;

	if (!bpf_task_from_pid || !bpf_send_signal_task || !bpf_task_release)
		return;
	task = bpf_task_from_pid(tgid);
	if (!task)
		return;
	if (task->start_boottime == start_ns && pg_may_signal_task(watch, task)) {
		if (!bpf_send_signal_task(task, signal, PIDTYPE_TGID, 0))
			pg_note_failsafe(watch, tgid, now, signal);
		else
			pg_count_loss(signals);
	}
	bpf_task_release(task);
}

static long pg_failsafe_process(void *map, __u32 *key, struct pg_process *p,
				struct pg_failsafe_sweep *sweep)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		__u64 watch = p->member[i].watch;
		__u32 signal;

		if (!watch)
			continue;
		signal = pg_failsafe_asked(watch, sweep);
		if (!signal)
			continue;
		sweep->next_ns = sweep->now + PG_LOOK_AGAIN_NS;
		pg_failsafe_send(watch, p->tgid, p->start_ns, signal, sweep->now);
	}
	return 0;
}

/* From any user task's switch: members of watches that are due, wherever they sleep. */
static __always_inline void pg_failsafe_sweep_all(__u64 now)
{
	struct pg_failsafe_sweep sweep = {.now = now, .next_ns = ~0ULL};
	__u64 seen = pg_agent.failsafe_next_ns;

	if (!bpf_send_signal_task || now < seen)
		return;
	if (__sync_val_compare_and_swap(&pg_agent.failsafe_next_ns, seen, now + PG_LOOK_AGAIN_NS) !=
	    seen)
		return; /* another CPU does */
	bpf_for_each_map_elem(&processes, pg_failsafe_process, &sweep, 0);
	/* Unless somebody has asked for an earlier one meanwhile. */
	__sync_val_compare_and_swap(&pg_agent.failsafe_next_ns, now + PG_LOOK_AGAIN_NS,
				    sweep.next_ns);
}

SEC("tp_btf/sched_switch")
int pg_failsafe_switch(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1];
	__u32 tgid;

	if (!pg_agent.orphaned || !prev->mm || prev->flags & PG_PF_EXITING)
		return 0;
	tgid = prev->tgid;
	if (pg_is_watched(tgid))
		pg_failsafe_current(tgid);
	pg_failsafe_sweep_all(bpf_ktime_get_ns());
	return 0;
}

/* A thread that is never switched out. The hook may be about a task that is not the current one. */
SEC("tp_btf/sched_stat_runtime")
int pg_failsafe_tick(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u64 id;
	__u32 tgid;

	if (!pg_agent.orphaned)
		return 0;
	id = bpf_get_current_pid_tgid();
	tgid = id >> 32;
	if ((__u32)task->pid == (__u32)id && !(task->flags & PG_PF_EXITING) && pg_is_watched(tgid))
		pg_failsafe_current(tgid);
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
