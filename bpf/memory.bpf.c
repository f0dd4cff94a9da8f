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
#include "processes.bpf.h"

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

/* Since 6.2. A probe for each CPU's share would be most of the cost of this hook, and grow with the
 * number of CPUs; here the verifier lets us read it as part of a struct it knows. */
void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __attribute__((weak));

static __always_inline __s64 pg_hot_sum(__s64 count, const __s32 *parts)
{
	__s64 sum = count;

	for (__u32 cpu = 0; pg_exact_sums && cpu < PG_MAX_CPUS && cpu < pg_cpus; cpu++) {
		const struct percpu_counter *part =
			bpf_rdonly_cast((void *)((__u64)parts + pg_cpu_offset[cpu]),
					bpf_core_type_id_kernel(struct percpu_counter));

		sum += *(const __s32 *)part;
	}
	return sum;
}

/* As pg_rss_bytes(), for the hook's own argument. The index must be literal: CO-RE would scale a
 * variable one by the size in our header. */
static __always_inline __u64 pg_hot_rss_bytes(__u64 *ctx, __u32 part, __u64 me)
{
	struct mm_struct *mm = (struct mm_struct *)ctx[0];
	__s64 pages;

	if (!pg_has_counter_array())
		return pg_rss_bytes(pg_address(&ctx[0]), part, me, 1);
	if (part == PG_RSS_FILE)
		pages = pg_hot_sum(mm->rss_stat[0].count, mm->rss_stat[0].counters);
	else if (part == PG_RSS_ANON)
		pages = pg_hot_sum(mm->rss_stat[1].count, mm->rss_stat[1].counters);
	else
		pages = pg_hot_sum(mm->rss_stat[3].count, mm->rss_stat[3].counters);
	return pages > 0 ? (__u64)pages * pg_page_bytes : 0;
}

/* As pg_refresh_part(), for the hook's own argument. */
static __always_inline __s64 pg_hot_refresh(struct pg_process *p, __u64 *ctx, __u32 part, __u64 me)
{
	__u64 *kept;

	barrier_var(part); /* the verifier must see this bound, not one it lost on the way */
	if (part >= PG_RSS_PARTS)
		return 0;
	kept = &p->rss_bytes[part];
	for (int look = 0; look < 4; look++) {
		__u64 seen = PG_LOAD(*kept);
		__u64 bytes = pg_hot_rss_bytes(ctx, part, me);

		if (__sync_val_compare_and_swap(kept, seen, bytes) == seen)
			return bytes - seen;
	}
	return 0;
}

SEC("tp_btf/rss_stat")
int pg_rss_stat(__u64 *ctx)
{
	struct mm_struct *mm = (struct mm_struct *)ctx[0];
	__u32 part = pg_rss_part((__u32)ctx[1]);
	struct task_struct *owner = pg_mm_owner(mm), *me;
	struct pg_process *p;
	__u32 tgid;
	__s64 delta;
	int own, foreign;

	if (!owner)
		return 0;
	tgid = owner->tgid;
	if (!pg_is_watched(tgid) || owner->mm != mm || part >= PG_RSS_PARTS)
		return 0;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return 0;
	me = bpf_get_current_task_btf();
	own = me->tgid == tgid;
	/* A thread whose exit has been told holds its process no more. */
	foreign = !own || me->flags & PG_PF_EXITING;
	if (foreign && !pg_hold(p, owner->group_leader->start_boottime))
		return 0;
	/* It has outlived the process whose address space it borrowed, or has a new one. */
	if (p->flags & PG_PROCESS_BORROWS_MM) {
		__sync_fetch_and_and(&p->flags, ~PG_PROCESS_BORROWS_MM);
		pg_read_rss(p, pg_address(&ctx[0]), 0);
	}
	delta = pg_hot_refresh(p, ctx, part, own ? bpf_get_current_task() : 0);
	if (delta) {
		pg_attribute(p, part, delta, own);
		pg_book_quietly(p, 0);
	}
	/* The step before the news: a controller that hears of the crossing takes the episode over,
	 * and may be milliseconds from acting. */
	if (own)
		pg_steps_current(p);
	pg_tell_crossings(p);
	if (foreign)
		pg_let_go(p, bpf_ktime_get_ns());
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
