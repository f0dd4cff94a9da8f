/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The arithmetic of accounting: pure, and the same code on both sides. It compiles for BPF and for
 * the host, where user space runs it on mapped memory and the unit tests on plain structs.
 */
#ifndef PROCGUARD_ACCOUNT_H
#define PROCGUARD_ACCOUNT_H

#include "contract.h"

#ifdef __bpf__
#define PG_INLINE    static __attribute__((always_inline)) inline
#define PG_LOAD(var) (*(volatile __typeof__(var) *)&(var))
#else
#define PG_INLINE    static inline
#define PG_LOAD(var) __atomic_load_n(&(var), __ATOMIC_SEQ_CST)
#endif

enum pg_crossing {
	PG_CROSSED_UP = 1 << 0,
	PG_CROSSED_DOWN = 1 << 1,
	PG_LOOK_AGAIN = 1 << 2,
};

/* How often pg_threshold_update() looks. BPF must have a bound. Each look but the last is answered
 * by a change that another CPU made meanwhile; at 3 the state was wrong once in a million rounds of
 * two threads, with nobody left to look again. */
#define PG_LOOKS 8

/* One look at a threshold: enum pg_crossing bits, and PG_LOOK_AGAIN if it changed anything. */
PG_INLINE int pg_threshold_look(struct pg_threshold *t, const __s64 *level, __u64 now)
{
	__s64 limit = (__s64)PG_LOAD(t->limit);
	__u64 since = PG_LOAD(t->over_since_ns);
	__s64 value = PG_LOAD(*level);

	if (limit && !since && value > limit) {
		if (__sync_val_compare_and_swap(&t->over_since_ns, 0, now) != 0)
			return PG_LOOK_AGAIN;
		__sync_fetch_and_add(&t->episodes, 1);
		return PG_CROSSED_UP | PG_LOOK_AGAIN;
	}
	if (since && (!limit || value < limit)) {
		if (__sync_val_compare_and_swap(&t->over_since_ns, since, 0) != since)
			return PG_LOOK_AGAIN;
		return PG_CROSSED_DOWN | PG_LOOK_AGAIN;
	}
	return 0;
}

/* Brings a threshold's state in line with the level; enum pg_crossing bits.
 *
 * Any number of CPUs and user space may run it at once. Each changes the level (a full barrier)
 * before it looks at the state, and looks at the level again after it changed the state, so
 * whichever is last sees both. Equal to the limit is neither over nor under. */
PG_INLINE int pg_threshold_update(struct pg_threshold *t, const __s64 *level, __u64 now)
{
	int crossed = 0, seen = PG_LOOK_AGAIN;

	for (int i = 0; i < PG_LOOKS && seen & PG_LOOK_AGAIN; i++) {
		seen = pg_threshold_look(t, level, now);
		crossed |= seen;
	}
	return crossed & (PG_CROSSED_UP | PG_CROSSED_DOWN);
}

/* Is the state of a threshold another than its level asks for? Cheap, for the path on which it is
 * not. */
PG_INLINE int pg_may_cross(const struct pg_threshold *t, __s64 level)
{
	__s64 limit = (__s64)t->limit;

	return t->over_since_ns ? !limit || level < limit : limit && level > limit;
}

/* Is the kernel's own step open to a member that has seen its signal for `acted_episode` last? */
PG_INLINE int pg_kernel_step_open(const struct pg_threshold *t, __u64 acted_episode)
{
	return t->signal && t->over_since_ns && t->closed_episode < t->episodes &&
	       acted_episode < t->episodes;
}

/* A forked child that gives back shared pages shares fewer: what it grows later must count. */
PG_INLINE void pg_lower_base(struct pg_process *p)
{
	__u64 total =
		p->rss_bytes[PG_RSS_FILE] + p->rss_bytes[PG_RSS_ANON] + p->rss_bytes[PG_RSS_SHMEM];

	if (total < p->base_bytes)
		p->base_bytes = total;
}

/* What a process counts for in a sum over address spaces. */
PG_INLINE __u64 pg_counted_bytes(const struct pg_process *p)
{
	__u64 total =
		p->rss_bytes[PG_RSS_FILE] + p->rss_bytes[PG_RSS_ANON] + p->rss_bytes[PG_RSS_SHMEM];

	if (p->flags & PG_PROCESS_BORROWS_MM)
		return 0;
	return total > p->base_bytes ? total - p->base_bytes : 0;
}

PG_INLINE __u64 pg_plain_bytes(const struct pg_process *p)
{
	if (p->flags & PG_PROCESS_BORROWS_MM)
		return 0;
	return p->rss_bytes[PG_RSS_FILE] + p->rss_bytes[PG_RSS_ANON] + p->rss_bytes[PG_RSS_SHMEM];
}

/* The state a thread leaves the CPU in. The kernel's bits are stable: 1 interruptible,
 * 2 uninterruptible, others may be added to them (freezable, killable, no load). */
PG_INLINE __u32 pg_off_state(int preempted, __u32 kernel_state)
{
	if (preempted || !kernel_state)
		return PG_OFF_RUNNABLE;
	if (kernel_state & 1)
		return PG_BLOCKED_SLEEP;
	if (kernel_state & 2)
		return PG_BLOCKED_DISK;
	return PG_BLOCKED_OTHER;
}

/* Divides the last time off the CPU into run-queue wait, which the kernel has measured by now, and
 * the rest. */
PG_INLINE void pg_divide_off_time(struct pg_thread *t, __u64 run_delay)
{
	__u64 waited = run_delay > t->run_delay_seen_ns ? run_delay - t->run_delay_seen_ns : 0;

	t->run_delay_seen_ns = run_delay;
	t->usage.runnable_wait_ns += waited;
	if (t->off_ns > waited && t->off_state < PG_BLOCKED_STATES)
		t->usage.blocked_ns[t->off_state] += t->off_ns - waited;
	t->off_ns = 0;
}

PG_INLINE void pg_switch_out(struct pg_thread *t, __u32 off_state, __u64 run_delay, __u64 now)
{
	pg_divide_off_time(t, run_delay);
	t->off_since_ns = now;
	t->off_state = off_state;
	if (off_state == PG_OFF_RUNNABLE)
		t->usage.involuntary_switches++;
	else
		t->usage.voluntary_switches++;
}

PG_INLINE void pg_switch_in(struct pg_thread *t, __u64 now)
{
	if (t->off_since_ns && now > t->off_since_ns)
		t->off_ns = now - t->off_since_ns;
	t->off_since_ns = 0;
}

PG_INLINE __u64 pg_grown_bytes(const struct pg_usage *u)
{
	return u->grown_bytes[PG_RSS_FILE] + u->grown_bytes[PG_RSS_ANON] +
	       u->grown_bytes[PG_RSS_SHMEM];
}

/* The usage of a live thread as of `now`: its present or last time off the CPU added whole to the
 * state it left in, since nobody knows yet how much of it was waiting for a CPU. */
PG_INLINE struct pg_usage pg_usage_now(const struct pg_thread *t, __u64 now)
{
	struct pg_usage u = t->usage;
	__u64 off = t->off_ns;

	if (t->off_since_ns && now > t->off_since_ns)
		off += now - t->off_since_ns;
	if (t->off_state < PG_BLOCKED_STATES)
		u.blocked_ns[t->off_state] += off;
	else
		u.runnable_wait_ns += off;
	return u;
}

#endif
