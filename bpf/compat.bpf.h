/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Every difference between kernels, each with the change that made it. Nothing else in bpf/ asks
 * which kernel it runs on. Oldest kernel: 6.1.
 *
 * Hooks are written as `int prog(__u64 *ctx)`: an argument that a kernel does not pass may not even
 * be mentioned in live code, and a CO-RE test that is constant at load makes such code dead.
 */
#ifndef PROCGUARD_COMPAT_BPF_H
#define PROCGUARD_COMPAT_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "contract.h"

#define PG_MAX_CPUS 512

/* Set by the loader before load. */
const volatile __u32 pg_cpus __attribute__((weak)) = 1;
const volatile __u32 pg_page_bytes __attribute__((weak)) = 4096;

/* Guards on cgroups are wanted; without them the verifier drops what they need. */
const volatile __u32 pg_with_cgroups __attribute__((weak)) = 1;

/* Where each CPU's copy of per-CPU memory lies; learnt by a program of control.bpf.c. The kernel
 * gives BPF no way to another CPU's counter of an arbitrary percpu_counter; its own per-CPU map
 * shows the distance, which is the same for all per-CPU memory. */
extern __u64 pg_cpu_offset[PG_MAX_CPUS];
extern __u32 pg_exact_sums; /* the offsets are known */

/* The struct that embeds what `pointer` points to as its `member`. CO-RE looks each type that is
 * the root of an access up by a walk through the kernel's whole BTF, before the first program is
 * loaded: what lies within another struct is reached from there. */
#define pg_container_of(pointer, type, member)                                                     \
	((type *)((void *)(pointer)-bpf_core_field_offset(type, member)))

/* A hook's pointer argument as a number: functions of their own take no kernel pointers. */
static __always_inline __u64 pg_address(__u64 *argument)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), argument);
	return address;
}

/* The process an address space belongs to. NULL: it is being torn down, or CONFIG_MEMCG is off. */
static __always_inline struct task_struct *pg_mm_owner(struct mm_struct *mm)
{
	if (!bpf_core_field_exists(mm->owner))
		return NULL;
	return mm->owner;
}

/* The same for an address space that was found by probes: its owner's tgid, or 0. */
static __always_inline __u32 pg_mm_owner_tgid(struct mm_struct *mm)
{
	if (!bpf_core_field_exists(mm->owner))
		return 0;
	return BPF_CORE_READ(mm, owner, tgid);
}

/* 6.2 (f1a7941243c1): rss_stat became an array of percpu_counters. */
static __always_inline int pg_has_counter_array(void)
{
	struct mm_struct *mm = NULL;

	return bpf_core_field_exists(mm->rss_stat);
}

/* One entry of mm->rss_stat[] in pages. Its plain count lags by up to a batch (32 pages or more) a
 * CPU. Read count first: beside a flush the sum is then too small, never too large, and the
 * flushing CPU's own event repairs it. Base + index * size: CO-RE would scale a variable index by
 * the size in our header. */
static __attribute__((noinline)) __s64 pg_rss_pages(struct mm_struct *mm, __u32 i)
{
	__u64 count = (__u64)__builtin_preserve_access_index(&mm->rss_stat[0].count);
	__u64 counters = (__u64)__builtin_preserve_access_index(&mm->rss_stat[0].counters);
	__u64 size = (__u64)__builtin_preserve_access_index(&mm->rss_stat[1].count) - count;
	__u64 parts = 0;
	__s64 sum = 0;

	bpf_probe_read_kernel(&sum, sizeof(sum), (void *)(count + i * size));
	bpf_probe_read_kernel(&parts, sizeof(parts), (void *)(counters + i * size));
	if (!pg_exact_sums)
		return sum;
	for (__u32 cpu = 0; cpu < PG_MAX_CPUS && cpu < pg_cpus; cpu++) {
		__s32 part = 0;

		bpf_probe_read_kernel(&part, sizeof(part), (void *)(parts + pg_cpu_offset[cpu]));
		sum += part;
	}
	return sum;
}

/* Not inlined: the compiler would move the address, which has no meaning on a newer kernel, out of
 * the branch that guards it.
 *
 * Before 6.2 a thread keeps up to 64 page events a member to itself. `synced`: the hook runs while
 * this thread hands them over; then they are in the mm already and still in the thread. */
static __attribute__((noinline)) __s64 pg_rss_pages_before_6_2(struct mm_struct *mm, __u32 i,
							       struct task_struct *task, int synced)
{
	struct mm_struct___before_6_2 *old = (void *)mm;
	__u64 base = (__u64)__builtin_preserve_access_index(&old->rss_stat);
	long pages = 0;
	int mine = 0;

	bpf_probe_read_kernel(&pages, sizeof(pages), (void *)(base + i * sizeof(pages)));
	if (task && !synced && bpf_core_field_exists(task->rss_stat)) {
		base = (__u64)__builtin_preserve_access_index(&task->rss_stat);
		bpf_probe_read_kernel(&mine, sizeof(mine), (void *)(base + i * sizeof(mine)));
	}
	return pages + mine;
}

/* RSS of one part, in bytes; exact where pg_exact_sums says so. `me`: the current task if the
 * address space is its own, else NULL. Addresses, not pointers: only probes read them, since every
 * look through a kernel pointer costs the verifier a search of the kernel's whole BTF. */
__attribute__((weak)) __attribute__((noinline)) __u64 pg_rss_bytes(__u64 mm, __u32 part, __u64 me,
								   int synced)
{
	/* The kernel counts swap entries between anon and shmem. */
	__u32 i = part == PG_RSS_SHMEM ? 3 : part;
	__s64 pages;

	if (!pg_has_counter_array())
		pages = pg_rss_pages_before_6_2((void *)mm, i, (void *)me, synced);
	else
		pages = pg_rss_pages((void *)mm, i);
	return pages > 0 ? (__u64)pages * pg_page_bytes : 0;
}

/* The kernel's member numbers: 0 file, 1 anon, 2 swap entries, 3 shmem. PG_RSS_PARTS: not RSS. */
static __always_inline __u32 pg_rss_part(__u32 kernel_member)
{
	switch (kernel_member) {
	case 0:
		return PG_RSS_FILE;
	case 1:
		return PG_RSS_ANON;
	case 3:
		return PG_RSS_SHMEM;
	default:
		return PG_RSS_PARTS;
	}
}

/* Does the whole thread group end with this task? Since 6.16 ("exit: move and extend
 * sched_process_exit() tracepoint") the hook's second argument tells, and the tracepoint's record
 * has a field for it, which is how we know. Before, `live` has been counted down, and a second
 * thread of a group that ends at once may see 0 too: the caller lets one win. */
static __always_inline int pg_group_dead(__u64 *ctx, struct task_struct *task)
{
	struct trace_event_raw_sched_process_exit *record = NULL;

	if (bpf_core_field_exists(record->group_dead))
		return ctx[1] & 1;
	return BPF_CORE_READ(task, signal, live.counter) == 0;
}

#define PG_PF_EXITING	     0x00000004
#define PG_PF_KTHREAD	     0x00200000
#define PG_TASK_DEAD	     0x00000080
#define PG_TASK_NEW	     0x00000800
#define PG_SIGNAL_GROUP_EXIT 0x00000004
#define PG_SIGNAL_UNKILLABLE 0x00000040

/* Is the thread past the point where it takes signals and its exit is being told? */
static __always_inline int pg_is_exiting(struct task_struct *task)
{
	return BPF_CORE_READ(task, flags) & PG_PF_EXITING;
}

/* Kernel threads are nobody's to guard, in whatever cgroup they are. */
static __always_inline int pg_is_kernel_thread(struct task_struct *task)
{
	return BPF_CORE_READ(task, flags) & PG_PF_KTHREAD;
}

/* Has the task never run? Its task_newtask may still be running, on another CPU. */
static __always_inline int pg_is_new(struct task_struct *task)
{
	return BPF_CORE_READ(task, __state) & PG_TASK_NEW;
}

/* Is the whole process on its way out (exit_group, a fatal signal)? */
static __always_inline int pg_group_exits(struct task_struct *task)
{
	return BPF_CORE_READ(task, signal, flags) & PG_SIGNAL_GROUP_EXIT;
}

/* Is it the init of a pid namespace? It does not get signals it has no handler for, SIGKILL from
 * above excepted. */
static __always_inline int pg_is_namespace_init(struct task_struct *task)
{
	return BPF_CORE_READ(task, signal, flags) & PG_SIGNAL_UNKILLABLE;
}

/* Run-queue wait so far, ns. Without CONFIG_SCHED_INFO it reads 0 and counts as blocked time. */
static __always_inline __u64 pg_run_delay(struct task_struct *task)
{
	if (!bpf_core_field_exists(task->sched_info.run_delay))
		return 0;
	return BPF_CORE_READ(task, sched_info.run_delay);
}

#endif
