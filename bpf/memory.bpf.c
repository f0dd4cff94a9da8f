// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Memory: the RSS of watched processes, by part, and which thread moved it.
 *
 * The hook fires for every change of every address space, by whomever: also for a child's that fork
 * is still building (its owner then carries the parent's pid), for exec's half-built one, for
 * another process's (reclaim, ptrace) and while one is torn down. One rule sorts it out: an event
 * counts if the address space has an owner and is that owner's present one, and it counts for the
 * owner. With a vfork or CLONE_VM child the owner is still the parent: an address space counts
 * once.
 */
#include "members.bpf.h"

/* Who moved the RSS: the thread that ran, or somebody outside the process. */
static __always_inline void pg_attribute(struct pg_process *p, __u32 part, __s64 delta, int own)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct pg_thread *t = own ? bpf_map_lookup_elem(&threads, &tid) : NULL;

	if (t && part < PG_RSS_PARTS) {
		if (delta > 0)
			t->usage.grown_bytes[part] += delta;
		else
			t->usage.shrunk_bytes[part] -= delta;
	} else if (delta > 0) {
		__sync_fetch_and_add(&p->remote_grown_bytes, delta);
	} else {
		__sync_fetch_and_add(&p->remote_shrunk_bytes, -delta);
	}
}

SEC("tp_btf/rss_stat")
int pg_rss_stat(__u64 *ctx)
{
	struct mm_struct *mm = (struct mm_struct *)ctx[0];
	__u32 part = pg_rss_part((__u32)ctx[1]);
	struct task_struct *owner = pg_mm_owner(mm);
	struct pg_process *p;
	__u64 address, now;
	__u32 tgid;
	__s64 delta;
	int own;

	if (!owner)
		return 0;
	tgid = owner->tgid;
	if (!pg_is_watched(tgid) || owner->mm != mm || part >= PG_RSS_PARTS)
		return 0;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return 0;
	own = (bpf_get_current_pid_tgid() >> 32) == tgid;
	address = pg_address(&ctx[0]);
	/* It has outlived the process whose address space it borrowed, or has a new one. */
	if (p->flags & PG_PROCESS_BORROWS_MM) {
		__sync_fetch_and_and(&p->flags, ~PG_PROCESS_BORROWS_MM);
		pg_read_rss(p, address, 0);
	}
	delta = pg_refresh_part(p, address, part, own ? bpf_get_current_task() : 0, 1);
	now = bpf_ktime_get_ns();
	if (delta) {
		pg_attribute(p, part, delta, own);
		pg_book_quietly(p, now);
	}
	/* The step before the news: a controller that hears of the crossing takes the episode over,
	 * and may be milliseconds from acting. */
	if (own)
		pg_steps_current(p, now);
	pg_tell_crossings(p, now);
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
