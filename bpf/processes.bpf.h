/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The life of a process's entry: how it is made, who holds it, and when it ends.
 */
#ifndef PROCGUARD_PROCESSES_BPF_H
#define PROCGUARD_PROCESSES_BPF_H

#include "steps.bpf.h"

/* An entry is filled where it lies; the watched bit is set last, so that no hook sees half of it.
 * Two CPUs may make the same one at once (an enrolment beside a fork): one wins. A known entry with
 * another start time is a dead task's whose end was not seen. */
static __always_inline struct pg_process *pg_new_process(struct task_struct *leader, __u32 tgid,
							 __u32 parent_tgid)
{
	static const struct pg_process zero;
	__u64 start_ns = BPF_CORE_READ(leader, start_boottime);
	struct pg_process *p = bpf_map_lookup_elem(&processes, &tgid);

	if (p && p->start_ns == start_ns)
		return p;
	if (bpf_map_update_elem(&processes, &tgid, &zero, p ? BPF_EXIST : BPF_NOEXIST))
		return bpf_map_lookup_elem(&processes, &tgid);
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return NULL;
	p->start_ns = start_ns;
	p->tgid = tgid;
	p->parent_tgid = parent_tgid;
	BPF_CORE_READ_STR_INTO(&p->comm, leader, comm);
	return p;
}

/* A leader and its process have one bit. Whoever takes out the second entry clears it. */
static __always_inline void pg_clear_if_forgotten(__u32 pid)
{
	if (!bpf_map_lookup_elem(&processes, &pid) && !bpf_map_lookup_elem(&threads, &pid))
		pg_clear_watched(pid);
}

/* Ends the entry of a dead process that nobody holds. Each of its threads does until its exit has
 * been told (the last thread's may be told before another's), and so does who works on another's
 * entry: an entry that is taken out is another process's at once. One caller wins. */
PG_FUNCTION pg_end_process(struct pg_process *p, __u64 now)
{
	__u32 tgid;

	for (int look = 0; look < 8; look++) {
		if (!p || !(PG_LOAD(p->flags) & PG_PROCESS_DEAD) || (__s32)PG_LOAD(p->threads) > 0)
			return 0;
		if (__sync_fetch_and_or(&p->flags, PG_PROCESS_ENDED) & PG_PROCESS_ENDED)
			return 0;
		if ((__s32)PG_LOAD(p->threads) <= 0)
			break;
		/* Somebody took hold of it just before. He ends it, or we do in the next look. */
		__sync_fetch_and_and(&p->flags, ~PG_PROCESS_ENDED);
	}
	if (!p)
		return 0;
	tgid = p->tgid;
	for (int i = 0; i < PG_MEMBERSHIPS; i++)
		pg_leave(&p->member[i], now);
	bpf_map_delete_elem(&processes, &tgid);
	pg_clear_if_forgotten(tgid);
	return 0;
}

static __always_inline void pg_let_go(struct pg_process *p, __u64 now)
{
	__sync_fetch_and_add(&p->threads, -1);
	pg_end_process(p, now);
}

/* Takes hold of a process that is not the current one; false if it has ended. */
static __always_inline int pg_hold(struct pg_process *p, __u64 start_ns)
{
	__u32 before = __sync_fetch_and_add(&p->threads, 1);

	barrier_var(before); /* with its value the addition is a barrier */
	if (!(PG_LOAD(p->flags) & PG_PROCESS_ENDED) && PG_LOAD(p->start_ns) == start_ns)
		return 1;
	pg_let_go(p, 0);
	return 0;
}

#endif
