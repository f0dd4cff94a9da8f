/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Entering tasks: the entries of a new thread, and of a process that was alive before anybody
 * watched it.
 */
#ifndef PROCGUARD_ENROL_BPF_H
#define PROCGUARD_ENROL_BPF_H

#include "processes.bpf.h"

#define PG_MAX_THREADS 65536 /* of one process, entered when it is enrolled */

PG_FUNCTION pg_degrade_for(__u64 watch)
{
	struct pg_watch *w = pg_watch_of(watch);

	if (!w)
		return 0;
	__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
	return pg_notify(w, bpf_ktime_get_ns());
}

/* Marks all watches of a process some part of which could not be entered. */
PG_FUNCTION pg_degrade(struct pg_process *p)
{
	for (int i = 0; p && i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_degrade_for(p->member[i].watch);
	return 0;
}

/* The task comes from a hook or from walking a list: it is only read through probes. One that is
 * about to end is not entered: its exit may have been here already. So we look again once the entry
 * can be seen; an exit after that finds it. */
PG_FUNCTION pg_enter_thread(__u64 address, struct pg_process *p)
{
	static const struct pg_thread zero;
	struct task_struct *task = (struct task_struct *)address;
	__u32 tid = BPF_CORE_READ(task, pid);
	__u64 start_ns = BPF_CORE_READ(task, start_boottime);
	struct pg_thread *t = bpf_map_lookup_elem(&threads, &tid);

	if (!p || pg_is_exiting(task) || (t && (t->start_ns == start_ns || !t->start_ns)))
		return 0;
	if (bpf_map_update_elem(&threads, &tid, &zero, t ? BPF_EXIST : BPF_NOEXIST)) {
		if (bpf_map_lookup_elem(&threads, &tid))
			return 0; /* another CPU was first */
		pg_count_loss(threads);
		pg_degrade(p);
		return 0;
	}
	__sync_fetch_and_add(&p->threads, 1);
	t = bpf_map_lookup_elem(&threads, &tid);
	if (!t)
		return 0;
	t->start_ns = start_ns;
	t->tid = tid;
	t->tgid = p->tgid;
	t->off_state = PG_OFF_RUNNABLE;
	t->run_delay_seen_ns = pg_run_delay(task);
	BPF_CORE_READ_STR_INTO(&t->comm, task, comm);
	if (!BPF_CORE_READ(task, on_cpu)) {
		t->off_since_ns = bpf_ktime_get_ns();
		t->off_state = pg_off_state(0, BPF_CORE_READ(task, __state));
	}
	pg_set_watched(tid);
	if (pg_is_exiting(task) && !__sync_lock_test_and_set(&t->exiting, 1)) {
		bpf_map_delete_elem(&threads, &tid);
		pg_let_go(p, bpf_ktime_get_ns());
	}
	return 0;
}

struct pg_thread_walk {
	struct list_head *at;
	struct list_head *head;
	__u32 tgid;
};

static long pg_enter_next_thread(__u32 index, struct pg_thread_walk *walk)
{
	struct list_head *node = walk->at;
	struct task_struct *task = pg_container_of(node, struct task_struct, thread_node);
	__u32 tgid = walk->tgid;

	if (!node || node == walk->head)
		return 1;
	walk->at = BPF_CORE_READ(task, thread_node.next);
	pg_enter_thread((__u64)task, bpf_map_lookup_elem(&processes, &tgid));
	return 0;
}

#define PG_LEADERLESS 8 /* threads in whose place an exited leader is looked at */

/* The address space of a process, as a number. An exited leader has none any more, while its
 * threads go on. */
static __always_inline __u64 pg_mm_of(struct task_struct *leader)
{
	struct signal_struct *signal = BPF_CORE_READ(leader, signal);
	struct list_head *head = __builtin_preserve_access_index(&signal->thread_head);
	struct list_head *node = BPF_CORE_READ(signal, thread_head.next);
	__u64 mm = 0;

	for (int i = 0; i < PG_LEADERLESS && !mm && node && node != head; i++) {
		struct task_struct *task = pg_container_of(node, struct task_struct, thread_node);

		mm = (__u64)BPF_CORE_READ(task, mm);
		node = BPF_CORE_READ(task, thread_node.next);
	}
	return mm;
}

/* Enters a process that is already running, with all its threads. The entry and its bit come first:
 * a thread made meanwhile is either in the list already or sees the bit in task_newtask. The caller
 * has hold of it, and lets it go by pg_enrolled(). */
static __always_inline struct pg_process *pg_enrol(struct task_struct *leader)
{
	struct signal_struct *signal = BPF_CORE_READ(leader, signal);
	struct list_head *head = __builtin_preserve_access_index(&signal->thread_head);
	struct pg_thread_walk walk = {.at = BPF_CORE_READ(signal, thread_head.next), .head = head};
	__u32 tgid = BPF_CORE_READ(leader, tgid);
	struct pg_process *p =
		pg_new_process(leader, tgid, BPF_CORE_READ(leader, real_parent, tgid));

	if (!p) {
		pg_count_loss(processes);
		return NULL;
	}
	if (!pg_hold(p, BPF_CORE_READ(leader, start_boottime)))
		return NULL;
	pg_set_watched(tgid);
	pg_read_rss(p, pg_mm_of(leader), 0);
	walk.tgid = tgid;
	bpf_loop(PG_MAX_THREADS, pg_enter_next_thread, &walk, 0);
	return p;
}

/* After an enrolment. A process that died meanwhile ends now: its exit may not have seen it. */
static __always_inline void pg_enrolled(struct task_struct *leader, struct pg_process *p, __u64 now)
{
	if (BPF_CORE_READ(leader, signal, live.counter) == 0)
		__sync_fetch_and_or(&p->flags, PG_PROCESS_DEAD);
	pg_let_go(p, now);
}

/* Ends the memberships in cgroups that the process has moved out of. */
static __always_inline void pg_leave_cgroups(struct pg_process *p, __u64 cgroup, __u64 now)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		struct pg_watch *w = pg_watch_of(p->member[i].watch);

		if (w && w->scope == PG_SCOPE_CGROUP && !pg_is_below_cgroup(cgroup, w->cgroup_id))
			pg_leave(&p->member[i], now);
	}
}

#endif
