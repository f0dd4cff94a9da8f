/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Entering tasks: the entries of a new thread, and of a process that was alive before anybody
 * watched it.
 */
#ifndef PROCGUARD_ENROL_BPF_H
#define PROCGUARD_ENROL_BPF_H

#include "members.bpf.h"

#define PG_MAX_THREADS 65536 /* of one process, entered when it is enrolled */

#define pg_list_entry(ptr, type, member)                                                           \
	((type *)((void *)(ptr)-bpf_core_field_offset(type, member)))

/* Marks all watches of a process some part of which could not be entered. */
PG_FUNCTION pg_degrade(struct pg_process *p)
{
	for (int i = 0; p && i < PG_MEMBERSHIPS; i++) {
		struct pg_watch *w = pg_watch_of(p->member[i].watch);

		if (!w)
			continue;
		__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
		pg_notify(w, bpf_ktime_get_ns());
	}
	return 0;
}

/* The task comes from a hook or from walking a list: it is only read through probes. */
PG_FUNCTION pg_enter_thread(__u64 address, struct pg_process *p)
{
	struct task_struct *task = (struct task_struct *)address;
	__u32 tid = BPF_CORE_READ(task, pid);
	__u64 run_delay = 0;
	struct pg_thread *t;

	if (!p)
		return 0;
	if (bpf_core_field_exists(task->sched_info.run_delay))
		run_delay = BPF_CORE_READ(task, sched_info.run_delay);
	t = pg_new_thread(tid, p->tgid, BPF_CORE_READ(task, start_boottime), run_delay);
	if (!t) {
		pg_count_loss(threads);
		pg_degrade(p);
		return 0;
	}
	BPF_CORE_READ_STR_INTO(&t->comm, task, comm);
	if (!BPF_CORE_READ(task, on_cpu)) {
		t->off_since_ns = bpf_ktime_get_ns();
		t->off_state = pg_off_state(0, BPF_CORE_READ(task, __state));
	}
	__sync_fetch_and_add(&p->threads, 1);
	pg_set_watched(tid);
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
	struct task_struct *task = pg_list_entry(node, struct task_struct, thread_node);
	struct pg_process *p;
	__u32 tid, tgid;

	if (!node || node == walk->head)
		return 1;
	walk->at = BPF_CORE_READ(node, next);
	tid = BPF_CORE_READ(task, pid);
	tgid = walk->tgid;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (p && !bpf_map_lookup_elem(&threads, &tid))
		pg_enter_thread((__u64)task, p);
	return 0;
}

/* Enters a process that is already running, with all its threads. The entry and its bit come first:
 * a thread made meanwhile is either in the list already or sees the bit in task_newtask. */
static __always_inline struct pg_process *pg_enrol(struct task_struct *leader)
{
	struct signal_struct *signal = BPF_CORE_READ(leader, signal);
	struct list_head *head = __builtin_preserve_access_index(&signal->thread_head);
	struct pg_thread_walk walk = {.at = BPF_CORE_READ(head, next), .head = head};
	__u32 tgid = BPF_CORE_READ(leader, tgid);
	struct pg_process *p =
		pg_new_process(leader, tgid, BPF_CORE_READ(leader, real_parent, tgid));

	if (!p) {
		pg_count_loss(processes);
		return NULL;
	}
	pg_read_rss(p, (__u64)BPF_CORE_READ(leader, mm), 0);
	pg_set_watched(tgid);
	walk.tgid = tgid;
	bpf_loop(PG_MAX_THREADS, pg_enter_next_thread, &walk, 0);
	return p;
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
