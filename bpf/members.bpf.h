/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Members of watches: what a process counts for, and how it becomes a member.
 */
#ifndef PROCGUARD_MEMBERS_BPF_H
#define PROCGUARD_MEMBERS_BPF_H

#include "maps.bpf.h"
#include "account.h"

/* control.bpf.c. Whether there is an agent is asked on paths that are hot. */
extern struct pg_agent pg_agent;

static __always_inline void pg_raise_peak(__s64 *peak, __s64 value)
{
	/* A lost race loses a page or two of a peak, not of a level. */
	if (value > *peak)
		*peak = value;
}

PG_FUNCTION pg_look(struct pg_threshold *t, const __s64 *level, __u64 now)
{
	return t && level ? pg_threshold_look(t, level, now) : 0;
}

/* pg_threshold_update(), its look a function of its own: the verifier walks it once, not PG_LOOKS
 * times. Itself it is none: the kernel allows eight frames. */
static __always_inline int pg_update(struct pg_threshold *t, const __s64 *level, __u64 now)
{
	int crossed = 0;

	for (int i = 0; i < PG_LOOKS; i++) {
		int seen = pg_look(t, level, now);

		crossed |= seen;
		if (!(seen & PG_LOOK_AGAIN))
			break;
	}
	return crossed & (PG_CROSSED_UP | PG_CROSSED_DOWN);
}

/* Moves what a membership counts for to these amounts, in the sums of its watch; true if a
 * threshold was crossed, which the caller tells of. */
PG_FUNCTION pg_move(struct pg_watch *w, struct pg_membership *m, __u64 counted, __u64 plain,
		    __u64 now)
{
	__s64 delta, level;
	int crossed;

	if (!w || !m)
		return 0;
	delta = plain - __sync_lock_test_and_set(&m->plain_bytes, plain);
	level = __sync_fetch_and_add(&w->memory_plain_bytes, delta) + delta;
	pg_raise_peak(&w->memory_plain_peak_bytes, level);
	delta = counted - __sync_lock_test_and_set(&m->counted_bytes, counted);
	if (!delta)
		return 0;
	level = __sync_fetch_and_add(&w->memory_bytes, delta) + delta;
	pg_raise_peak(&w->memory_peak_bytes, level);
	/* With an agent too: without one, its grace counts from the crossing. */
	if (pg_may_cross(&w->failsafe.memory, w->memory_bytes) &&
	    pg_update(&w->failsafe.memory, &w->memory_bytes, bpf_ktime_get_ns()) & PG_CROSSED_UP)
		pg_agent.failsafe_next_ns = 0;
	if (!pg_may_cross(&w->memory[0], w->memory_bytes) &&
	    !pg_may_cross(&w->memory[1], w->memory_bytes))
		return 0;
	if (!now)
		now = bpf_ktime_get_ns();
	crossed = pg_update(&w->memory[0], &w->memory_bytes, now);
	crossed |= pg_update(&w->memory[1], &w->memory_bytes, now);
	return crossed != 0;
}

/* Books what a process counts for now into one membership's watch; as pg_move(). A membership that
 * ended beside us has taken out what it found: what came after that is ours to take out. */
PG_FUNCTION pg_book(struct pg_membership *m, __u64 counted, __u64 plain, __u64 now)
{
	__u64 id = m ? PG_LOAD(m->watch) : 0;
	struct pg_watch *w = pg_watch_of(id);
	int crossed;

	if (!m || !w)
		return 0;
	crossed = pg_move(w, m, counted, plain, now);
	if (PG_LOAD(m->watch) != id)
		crossed |= pg_move(w, m, 0, 0, now);
	return crossed;
}

/* One pass of pg_book_process(); 0 if another CPU changed the process meanwhile. */
PG_FUNCTION pg_book_once(struct pg_process *p, __u64 now)
{
	__u64 counted, plain;
	int crossed = 0;

	if (!p)
		return 1;
	pg_lower_base(p);
	counted = pg_counted_bytes(p);
	plain = pg_plain_bytes(p);
	if (plain > p->rss_peak_bytes)
		p->rss_peak_bytes = plain;
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			crossed |= pg_book(&p->member[i], counted, plain, now);
	if (crossed)
		__sync_fetch_and_or(&p->flags, PG_PROCESS_CROSSED);
	return counted == pg_counted_bytes(p) && plain == pg_plain_bytes(p);
}

/* Books the process into all its watches. Our booking may have overtaken another CPU's newer one.
 * Tells nobody of a crossing yet. */
PG_FUNCTION pg_book_quietly(struct pg_process *p, __u64 now)
{
	for (int look = 0; look < 4; look++)
		if (pg_book_once(p, now))
			break;
	return 0;
}

PG_FUNCTION pg_tell(__u64 watch)
{
	return pg_notify(pg_watch_of(watch), bpf_ktime_get_ns());
}

/* Tells user space of crossings that bookings of this process have made. */
PG_FUNCTION pg_tell_crossings(struct pg_process *p)
{
	if (!p || !(PG_LOAD(p->flags) & PG_PROCESS_CROSSED))
		return 0;
	__sync_fetch_and_and(&p->flags, ~PG_PROCESS_CROSSED);
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch)
			pg_tell(p->member[i].watch);
	return 0;
}

static __always_inline void pg_book_process(struct pg_process *p, __u64 now)
{
	pg_book_quietly(p, now);
	pg_tell_crossings(p);
}

static __always_inline int pg_is_member(const struct pg_process *p, __u64 watch)
{
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch == watch)
			return 1;
	return 0;
}

PG_FUNCTION pg_is_live(__u64 watch)
{
	return pg_watch_of(watch) != NULL;
}

/* Takes a membership that is free, or names a watch which is no more. */
static __always_inline struct pg_membership *pg_claim_membership(struct pg_process *p,
								 const struct pg_watch *w)
{
	int most = w->flags & PG_WATCH_ANY_UID ? PG_MEMBERSHIPS : PG_BOUND_MEMBERSHIPS;

	for (int i = 0; i < PG_MEMBERSHIPS; i++) {
		struct pg_membership *m = &p->member[i];
		__u64 seen = m->watch;

		if (i < most && seen != PG_MEMBERSHIP_BUSY && !pg_is_live(seen) &&
		    __sync_val_compare_and_swap(&m->watch, seen, PG_MEMBERSHIP_BUSY) == seen)
			return m;
	}
	return NULL;
}

/* Makes the process a member; 0 if it is one or cannot be. The caller books it afterwards. No
 * process: it could not be entered, and the watch is told. */
PG_FUNCTION pg_join(struct pg_process *p, __u64 watch)
{
	struct pg_watch *w = pg_watch_of(watch);
	struct pg_membership *m = NULL;

	if (!w || (p && pg_is_member(p, watch)))
		return 0;
	if (p) {
		m = pg_claim_membership(p, w);
		if (!m)
			pg_count_loss(memberships);
	}
	if (!m) {
		__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
		pg_notify(w, bpf_ktime_get_ns());
		return 0;
	}
	m->counted_bytes = 0;
	m->plain_bytes = 0;
	m->acted_episode[0] = 0;
	m->acted_episode[1] = 0;
	__sync_fetch_and_add(&w->processes, 1);
	__sync_fetch_and_and(&w->flags, ~PG_WATCH_EMPTY);
	__sync_lock_test_and_set(&m->watch, watch);
	return 1;
}

/* Nobody is left of those whom a failsafe step was for: who comes into the cgroup after it lives.
 * What was due by the clock is not due again; a memory limit begins anew. */
static __always_inline void pg_failsafe_over(struct pg_watch *w)
{
	if (!pg_agent.orphaned || !w->failsafe.acted_ns)
		return;
	w->failsafe.due_ns = 0;
	w->failsafe.cpu_ns = 0;
	__sync_fetch_and_and(&w->flags, ~PG_WATCH_DOOMED);
}

/* Ends one membership: the process counts for nothing there any more. One caller wins. */
PG_FUNCTION pg_leave(struct pg_membership *m, __u64 now)
{
	__u64 id = m ? m->watch : 0;
	struct pg_watch *w = pg_watch_of(id);
	int crossed;

	if (!m || !w || __sync_val_compare_and_swap(&m->watch, id, PG_MEMBERSHIP_BUSY) != id)
		return 0;
	crossed = pg_move(w, m, 0, 0, now);
	m->watch = 0;
	if (__sync_fetch_and_add(&w->processes, -1) == 1) {
		__sync_fetch_and_or(&w->flags, PG_WATCH_EMPTY);
		pg_failsafe_over(w);
		crossed = 1;
	}
	if (crossed)
		pg_notify(w, now);
	return 0;
}

/* Reads one part of an address space and keeps it; by how much it moved. A sum that another CPU has
 * overtaken is read again: kept, it would stand until the next change. After the last look somebody
 * has kept a sum that was read after our change. */
__attribute__((weak)) __attribute__((noinline)) __s64
pg_refresh_part(struct pg_process *p, __u64 mm, __u32 part, __u64 me)
{
	for (int look = 0; p && look < 4 && part < PG_RSS_PARTS; look++) {
		__u64 *kept = &p->rss_bytes[part];
		__u64 seen = PG_LOAD(*kept);
		__u64 bytes = pg_rss_bytes(mm, part, me, 0);

		if (__sync_val_compare_and_swap(kept, seen, bytes) == seen)
			return bytes - seen;
	}
	return 0;
}

/* Reads all parts of an address space anew. `me`: see pg_rss_bytes(). */
PG_FUNCTION pg_read_rss(struct pg_process *p, __u64 mm, __u64 me)
{
	for (__u32 part = 0; p && mm && part < PG_RSS_PARTS; part++)
		pg_refresh_part(p, mm, part, me);
	return 0;
}

#define PG_CGROUP_DEPTH 24 /* levels above a task that are looked at */

/* A task's own cgroup in the v2 hierarchy, as a number: functions take no kernel pointers. */
static __always_inline __u64 pg_cgroup_of(struct task_struct *task)
{
	return (__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp);
}

/* The one above; NULL: it is the root. The parent's state is embedded in the parent. */
static __always_inline struct cgroup *pg_parent_cgroup(struct cgroup *cg)
{
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cg, self.parent);

	return parent ? pg_container_of(parent, struct cgroup, self) : NULL;
}

/* Joins the watches of all guarded cgroups that a task of `cgroup` is in: that one and those above.
 * No process: see pg_join(). */
PG_FUNCTION pg_join_cgroups(struct pg_process *p, __u64 cgroup)
{
	struct cgroup *cg = (struct cgroup *)cgroup;

	for (int level = 0; level < PG_CGROUP_DEPTH && cg; level++) {
		__u64 id = BPF_CORE_READ(cg, kn, id);
		__u64 *watch = bpf_map_lookup_elem(&cgroups, &id);

		if (watch)
			pg_join(p, *watch);
		cg = pg_parent_cgroup(cg);
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
		cg = pg_parent_cgroup(cg);
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
		cg = pg_parent_cgroup(cg);
	}
	return 0;
}

#endif
