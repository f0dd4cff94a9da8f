/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * All maps and shared globals. Weak: every .bpf.c includes this, the linker keeps one of each.
 * Sizes are set by the loader.
 */
#ifndef PROCGUARD_MAPS_BPF_H
#define PROCGUARD_MAPS_BPF_H

#include "compat.bpf.h"

#define __weak_map SEC(".maps") __attribute__((weak))

/* Mapped by user space, which reads levels and sets thresholds by plain stores. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct pg_watch);
} watches __weak_map;

/* Both preallocated: an insert on fork must not depend on free memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct pg_process);
} processes __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct pg_thread);
} threads __weak_map;

/* cgroup id -> watch id, for the cgroups that are guarded. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} cgroups __weak_map;

/* Guards, as user space keeps them here for its next instance and for people with bpftool. No
 * program reads them. User space writes a struct pg_guard: the same bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct pg_guard_row);
} guards __weak_map;

/* Of the guards that have any. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct pg_labels);
} labels __weak_map;

/* Guard events for `bpftool map event_pipe`, which reads arrays of this type only. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} events __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} edges __weak_map;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pg_losses);
} losses __weak_map;

/* One bit a pid: is there an entry for it in `threads` or (tgid) `processes`? The first check of
 * every hook, about free where nothing is guarded; a map look-up is not. */
#define PG_PID_MAX (4 * 1024 * 1024)
extern __u64
	pg_watched[PG_PID_MAX / 64]; /* control.bpf.c: a weak one would be kept in every unit */

/* How many entries `cgroups` has: without any, forks of strangers are not looked at. */
extern __u32 pg_cgroup_watches;

/* The kernel's pids end below PG_PID_MAX; the mask is for the verifier, which must see it. */
static __always_inline __u32 pg_pid_index(__u32 pid)
{
	pid &= PG_PID_MAX - 1;
	barrier_var(pid);
	return pid;
}

static __always_inline int pg_is_watched(__u32 pid)
{
	__u32 i = pg_pid_index(pid);

	return (pg_watched[i / 64] >> (i % 64)) & 1;
}

static __always_inline void pg_set_watched(__u32 pid)
{
	__u32 i = pg_pid_index(pid);

	__sync_fetch_and_or(&pg_watched[i / 64], 1ULL << (i % 64));
}

static __always_inline void pg_clear_watched(__u32 pid)
{
	__u32 i = pg_pid_index(pid);

	__sync_fetch_and_and(&pg_watched[i / 64], ~(1ULL << (i % 64)));
}

#define pg_count_loss(field)                                                                       \
	do {                                                                                       \
		__u32 zero_ = 0;                                                                   \
		struct pg_losses *l_ = bpf_map_lookup_elem(&losses, &zero_);                       \
		if (l_)                                                                            \
			__sync_fetch_and_add(&l_->field, 1);                                       \
	} while (0)

/* The watch a membership names; NULL if that watch is no more. */
static __always_inline struct pg_watch *pg_watch_of(__u64 id)
{
	__u32 slot = (__u32)id;
	struct pg_watch *w;

	if (!id)
		return NULL;
	w = bpf_map_lookup_elem(&watches, &slot);
	return w && w->id == id ? w : NULL;
}

/* A function of its own for the verifier, which then looks at it once and not at every call:
 * without these the object takes a second to load, with them some milliseconds. Its pointers may be
 * NULL as far as the verifier knows. */
#define PG_FUNCTION __attribute__((weak)) __attribute__((noinline)) int

/* Tells user space to look at a watch, unless it has been told and has not looked yet. */
PG_FUNCTION pg_notify(struct pg_watch *w, __u64 now)
{
	struct pg_edge *e;

	if (!w || __sync_lock_test_and_set(&w->edge_unread, 1))
		return 0;
	e = bpf_ringbuf_reserve(&edges, sizeof(*e), 0);
	if (!e) {
		pg_count_loss(edges);
		w->edge_unread = 0;
		return 0;
	}
	e->abi = PG_ABI;
	e->size = sizeof(*e);
	e->watch = w->id;
	e->at_ns = now;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

#endif
