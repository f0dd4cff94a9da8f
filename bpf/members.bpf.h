/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Members of watches: what a process counts for, how it becomes a member, and the kernel's own step
 * against one that runs.
 */
#ifndef PROCGUARD_MEMBERS_BPF_H
#define PROCGUARD_MEMBERS_BPF_H

#include "maps.bpf.h"
#include "account.h"

#define PG_SIGKILL 9

static __always_inline void pg_raise_peak(__s64 *peak, __s64 value)
{
	/* A lost race loses a page or two of a peak, not of a level. */
	if (value > *peak)
		*peak = value;
}

/* Brings a threshold in line with its level; true if it was crossed. */
PG_FUNCTION pg_update(struct pg_threshold *t, const __s64 *level, __u64 now)
{
	if (!t || !level)
		return 0;
	return pg_threshold_update(t, level, now);
}

/* Books what a process counts for now into one membership's watch. */
PG_FUNCTION pg_book(struct pg_membership *m, __u64 counted, __u64 plain, __u64 now)
{
	struct pg_watch *w = m ? pg_watch_of(m->watch) : NULL;
	__s64 delta, plain_delta;
	int crossed;

	if (!m || !w)
		return 0;
	delta = counted - __sync_lock_test_and_set(&m->counted_bytes, counted);
	plain_delta = plain - __sync_lock_test_and_set(&m->plain_bytes, plain);
	__sync_fetch_and_add(&w->memory_plain_bytes, plain_delta);
	pg_raise_peak(&w->memory_plain_peak_bytes, w->memory_plain_bytes);
	if (delta) {
		__sync_fetch_and_add(&w->memory_bytes, delta);
		pg_raise_peak(&w->memory_peak_bytes, w->memory_bytes);
		crossed = pg_update(&w->memory[0], &w->memory_bytes, now);
		crossed |= pg_update(&w->memory[1], &w->memory_bytes, now);
		if (crossed)
			pg_notify(w, now);
	}
	return 0;
}

/* Books the process into all its watches. */
PG_FUNCTION pg_book_process(struct pg_process *p, __u64 now)
{
	__u64 counted, plain;

	if (!p)
		return 0;
	pg_lower_base(p);
	counted = pg_counted_bytes(p);
	plain = pg_plain_bytes(p);
	if (plain > p->rss_peak_bytes)
		p->rss_peak_bytes = plain;
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_book(&p->member[i], counted, plain, now);
	return 0;
}

/* kill(2)'s rule for the watch's owner and the current task, which may have become another user
 * since it was enrolled. */
static __always_inline int pg_may_signal_current(const struct pg_watch *w)
{
	struct task_struct *me = (struct task_struct *)bpf_get_current_task();

	if (w->flags & PG_WATCH_ANY_UID)
		return 1;
	return BPF_CORE_READ(me, cred, uid.val) == w->owner_uid ||
	       BPF_CORE_READ(me, cred, suid.val) == w->owner_uid;
}

static __always_inline void pg_signal_current(struct pg_watch *w, __u32 signal)
{
	if (!pg_may_signal_current(w) || bpf_send_signal(signal))
		pg_count_loss(signals);
}

/* One threshold's kernel step against the current process, once an episode. */
static __always_inline void pg_step_current(struct pg_watch *w, struct pg_threshold *t,
					    __u64 *acted_episode, __u32 pid, __u64 now)
{
	__u64 seen = *acted_episode;

	if (!pg_kernel_step_open(t, seen))
		return;
	if (__sync_val_compare_and_swap(acted_episode, seen, t->episodes) != seen)
		return;
	t->acted_pid = pid;
	t->acted_ns = now;
	pg_signal_current(w, t->signal);
	pg_notify(w, now);
}

/* The kernel's own steps against the current process, by one of its memberships. */
PG_FUNCTION pg_steps_member(struct pg_membership *m, __u32 tgid, __u64 now)
{
	struct pg_watch *w = m ? pg_watch_of(m->watch) : NULL;

	if (!m || !w)
		return 0;
	if (w->flags & PG_WATCH_DOOMED)
		pg_signal_current(w, PG_SIGKILL);
	pg_step_current(w, &w->memory[0], &m->acted_episode[0], tgid, now);
	pg_step_current(w, &w->memory[1], &m->acted_episode[1], tgid, now);
	return 0;
}

/* The same for all of its memberships; the current process is `p`. */
static __always_inline void pg_steps_current(struct pg_process *p, __u64 now)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_steps_member(&p->member[i], p->tgid, now);
}

/* Kills the current process if it belongs to a doomed watch. */
PG_FUNCTION pg_kill_if_doomed(struct pg_process *p)
{
	if (!p)
		return 0;
	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		struct pg_watch *w = pg_watch_of(p->member[i].watch);

		if (w && w->flags & PG_WATCH_DOOMED)
			pg_signal_current(w, PG_SIGKILL);
	}
	return 0;
}

static __always_inline int pg_is_member(const struct pg_process *p, __u64 watch)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch == watch)
			return 1;
	return 0;
}

/* A membership that is free, or that names a watch which is no more. */
static __always_inline struct pg_membership *pg_free_membership(struct pg_process *p)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (!pg_watch_of(p->member[i].watch))
			return &p->member[i];
	return NULL;
}

/* Makes the process a member; nothing if it is one. The caller books it afterwards. */
PG_FUNCTION pg_join(struct pg_process *p, __u64 watch)
{
	struct pg_watch *w = pg_watch_of(watch);
	struct pg_membership *m;

	if (!p || !w || pg_is_member(p, watch))
		return 0;
	m = pg_free_membership(p);
	if (!m) {
		__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
		pg_count_loss(memberships);
		pg_notify(w, bpf_ktime_get_ns());
		return 0;
	}
	m->counted_bytes = 0;
	m->plain_bytes = 0;
	m->acted_episode[0] = 0;
	m->acted_episode[1] = 0;
	m->watch = watch;
	__sync_fetch_and_add(&w->processes, 1);
	__sync_fetch_and_and(&w->flags, ~PG_WATCH_EMPTY);
	return 0;
}

/* Ends one membership: the process counts for nothing there any more. */
PG_FUNCTION pg_leave(struct pg_membership *m, __u64 now)
{
	struct pg_watch *w = m ? pg_watch_of(m->watch) : NULL;

	if (!m)
		return 0;
	if (w) {
		pg_book(m, 0, 0, now);
		if (__sync_fetch_and_add(&w->processes, -1) == 1) {
			__sync_fetch_and_or(&w->flags, PG_WATCH_EMPTY);
			pg_notify(w, now);
		}
	}
	m->watch = 0;
	return 0;
}

/* Reads all parts of an address space anew. `me`: see pg_rss_bytes(). */
PG_FUNCTION pg_read_rss(struct pg_process *p, __u64 mm, __u64 me)
{
	if (!p || !mm)
		return 0;
	for (__u32 part = 0; part < PG_RSS_PARTS; part++)
		p->rss_bytes[part] = pg_rss_bytes(mm, part, me, 0);
	return 0;
}

/* An entry for a task, filled where it lies; the watched bit is set last, so that no hook sees half
 * of it. Plain values: works for a task from a hook, an iterator or a list. */
static __always_inline struct pg_thread *pg_new_thread(__u32 tid, __u32 tgid, __u64 start_ns,
						       __u64 run_delay)
{
	static const struct pg_thread zero;
	struct pg_thread *t;

	if (bpf_map_update_elem(&threads, &tid, &zero, BPF_ANY))
		return NULL;
	t = bpf_map_lookup_elem(&threads, &tid);
	if (!t)
		return NULL;
	t->start_ns = start_ns;
	t->tid = tid;
	t->tgid = tgid;
	t->run_delay_seen_ns = run_delay;
	t->off_state = PG_OFF_RUNNABLE;
	return t;
}

static __always_inline struct pg_process *pg_new_process(struct task_struct *leader, __u32 tgid,
							 __u32 parent_tgid)
{
	static const struct pg_process zero;
	struct pg_process *p;

	if (bpf_map_update_elem(&processes, &tgid, &zero, BPF_ANY))
		return NULL;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return NULL;
	p->start_ns = BPF_CORE_READ(leader, start_boottime);
	p->tgid = tgid;
	p->parent_tgid = parent_tgid;
	BPF_CORE_READ_STR_INTO(&p->comm, leader, comm);
	return p;
}

#define PG_CGROUP_DEPTH 24 /* levels above a task that are looked at */

/* A task's own cgroup in the v2 hierarchy, as a number: functions take no kernel pointers. */
static __always_inline __u64 pg_cgroup_of(struct task_struct *task)
{
	return (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp);
}

/* Joins the watches of all guarded cgroups that a task of `cgroup` is in: that one and those above.
 */
PG_FUNCTION pg_join_cgroups(struct pg_process *p, __u64 cgroup)
{
	struct cgroup *cg = (struct cgroup *)cgroup;

	for (int level = 0; p && level < PG_CGROUP_DEPTH && cg; level++) {
		__u64 id = BPF_CORE_READ(cg, kn, id);
		__u64 *watch = bpf_map_lookup_elem(&cgroups, &id);

		if (watch)
			pg_join(p, *watch);
		cg = BPF_CORE_READ(cg, self.parent, cgroup);
	}
	return 0;
}

/* Is any guarded cgroup at or above this one? */
PG_FUNCTION pg_is_guarded_cgroup(__u64 cgroup)
{
	struct cgroup *cg = (struct cgroup *)cgroup;

	for (int level = 0; level < PG_CGROUP_DEPTH && cg; level++) {
		__u64 id = BPF_CORE_READ(cg, kn, id);

		if (bpf_map_lookup_elem(&cgroups, &id))
			return 1;
		cg = BPF_CORE_READ(cg, self.parent, cgroup);
	}
	return 0;
}

/* Is the cgroup with this id the given one or above it? */
PG_FUNCTION pg_is_below_cgroup(__u64 cgroup, __u64 id)
{
	struct cgroup *cg = (struct cgroup *)cgroup;

	for (int level = 0; level < PG_CGROUP_DEPTH && cg; level++) {
		if (BPF_CORE_READ(cg, kn, id) == id)
			return 1;
		cg = BPF_CORE_READ(cg, self.parent, cgroup);
	}
	return 0;
}

#endif
