/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Signals that the kernel sends by itself, always to the current process: the first step of a
 * memory limit at its crossing, the end of doomed watches, the last step while no agent runs.
 */
#ifndef PROCGUARD_STEPS_BPF_H
#define PROCGUARD_STEPS_BPF_H

#include "members.bpf.h"

#define PG_SIGKILL 9

/* kill(2)'s rule for the watch's owner and the current task, which may have become another user
 * since it was enrolled. */
static __always_inline int pg_may_signal_current(const struct pg_watch *w)
{
	struct task_struct *me = (struct task_struct *)bpf_get_current_task();

	/* Never the agent, whatever cgroup it was moved to. */
	if (bpf_get_current_pid_tgid() >> 32 == pg_agent.tgid)
		return 0;
	if (w->flags & PG_WATCH_ANY_UID)
		return 1;
	return BPF_CORE_READ(me, cred, uid.val) == w->owner_uid ||
	       BPF_CORE_READ(me, cred, suid.val) == w->owner_uid;
}

static __always_inline int pg_signal_current(struct pg_watch *w, __u32 signal)
{
	if (pg_may_signal_current(w) && !bpf_send_signal(signal))
		return 1;
	pg_count_loss(signals);
	return 0;
}

/* Of a doomed watch. Whom it may not kill it meets again at each of his events: no loss each time.
 */
static __always_inline void pg_kill_current(struct pg_watch *w)
{
	if (w->flags & PG_WATCH_DOOMED && pg_may_signal_current(w) && bpf_send_signal(PG_SIGKILL))
		pg_count_loss(signals);
}

/* One threshold's kernel step against the current process, once an episode. One that fails is left
 * to user space. */
static __always_inline void pg_step_current(struct pg_watch *w, struct pg_threshold *t,
					    __u64 *acted_episode, __u32 pid, __u64 now)
{
	struct task_struct *me = (struct task_struct *)bpf_get_current_task();
	__u64 seen = *acted_episode;

	/* A thread that is about to end takes no signal: another one's event will. */
	if (!pg_kernel_step_open(t, seen) || pg_is_exiting(me))
		return;
	/* Whether that one has a handler is for user space to see. */
	if (t->signal != PG_SIGKILL && pg_is_namespace_init(me))
		return;
	if (__sync_val_compare_and_swap(acted_episode, seen, t->episodes) != seen)
		return;
	if (!pg_signal_current(w, t->signal)) {
		*acted_episode = seen;
		return;
	}
	t->acted_pid = pid;
	t->acted_ns = now;
	pg_notify(w, now);
}

/* The last step was a SIGKILL: all other members of a group have it too. Those that sleep get it
 * from whoever sweeps next. */
static __always_inline void pg_failsafe_doom(struct pg_watch *w, __u32 signal)
{
	if (signal != PG_SIGKILL || (w->scope != PG_SCOPE_TREE && w->scope != PG_SCOPE_CGROUP))
		return;
	__sync_fetch_and_or(&w->flags, PG_WATCH_DOOMED);
	pg_agent.failsafe_next_ns = 0;
}

/* The failsafe step of a watch: by its own signal to the current task, which is a member, and for a
 * SIGKILL on a group by its doom to all others. The caller has seen that it is due. */
PG_FUNCTION pg_failsafe_step(struct pg_watch *w, __u32 resource, __u32 signal, __u64 now)
{
	struct pg_failsafe *f;

	if (!w || !signal)
		return 0;
	f = &w->failsafe;
	if (signal != PG_SIGKILL && f->acted_ns)
		return 0; /* once */
	if (!pg_signal_current(w, signal) || __sync_val_compare_and_swap(&f->acted_ns, 0, now))
		return 0;
	f->acted_pid = bpf_get_current_pid_tgid() >> 32;
	f->acted_resource = resource;
	pg_failsafe_doom(w, signal);
	bpf_printk("procguard: no agent: last step by the kernel: signal %u to pid %u", signal,
		   f->acted_pid);
	return 0;
}

/* Is the watch over its failsafe's memory limit, and was for its grace? */
static __always_inline int pg_failsafe_memory_due(const struct pg_watch *w, __u64 now)
{
	__u64 since = w->failsafe.memory.over_since_ns;

	return since && now >= since + w->failsafe.memory_grace_ns;
}

/* While no agent runs: the step at the crossing of a memory limit; true if it is due. */
static __always_inline int pg_failsafe_memory(struct pg_watch *w, __u64 now)
{
	if (!pg_agent.orphaned || !pg_failsafe_memory_due(w, now))
		return 0;
	pg_failsafe_step(w, PG_MEMORY, w->failsafe.memory.signal, now);
	return 1;
}

/* The kernel's own steps against the current process, by one of its memberships. */
PG_FUNCTION pg_steps_member(struct pg_membership *m, __u32 tgid, __u64 now)
{
	struct pg_watch *w = m ? pg_watch_of(m->watch) : NULL;

	if (!m || !w)
		return 0;
	pg_kill_current(w);
	/* One at a time: a CPU that is about to send a signal takes no second one. */
	if (pg_failsafe_memory(w, now))
		return 0;
	pg_step_current(w, &w->memory[0], &m->acted_episode[0], tgid, now);
	pg_step_current(w, &w->memory[1], &m->acted_episode[1], tgid, now);
	return 0;
}

/* The same for all of its memberships; the current process is `p`. */
static __always_inline void pg_steps_current(struct pg_process *p)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		struct pg_watch *w = pg_watch_of(p->member[i].watch);

		if (w && (w->memory[0].over_since_ns || w->memory[1].over_since_ns ||
			  w->failsafe.memory.over_since_ns || w->flags & PG_WATCH_DOOMED))
			pg_steps_member(&p->member[i], p->tgid, bpf_ktime_get_ns());
	}
}

PG_FUNCTION pg_kill_for(__u64 watch)
{
	struct pg_watch *w = pg_watch_of(watch);

	if (w)
		pg_kill_current(w);
	return 0;
}

/* Kills the current process if it belongs to a doomed watch. */
PG_FUNCTION pg_kill_if_doomed(struct pg_process *p)
{
	for (int i = 0; p && i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_kill_for(p->member[i].watch);
	return 0;
}
#endif
