// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Control: programs that user space runs, not the kernel. Learning where per-CPU memory lies,
 * entering tasks that are alive before a watch, and lines for the trace pipe.
 */
#include "enrol.bpf.h"

__u64 pg_watched[PG_PID_MAX / 64];
__u32 pg_cgroup_watches;
__u64 pg_cpu_offset[PG_MAX_CPUS];
__u32 pg_exact_sums;

/* Set by user space, but for `orphaned`: that is lifecycle's when the agent ends. */
struct pg_agent pg_agent;

/* What the present pass of pg_enrol_tasks looks for; one at a time. */
struct pg_enrol pg_enrol_request;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} anchor SEC(".maps");

__u64 pg_laundry;

/* A pointer as a number: the verifier forgets what it was once it went through a global. */
static __always_inline __u64 pg_launder(void *pointer)
{
	*(volatile __u64 *)&pg_laundry = (__u64)pointer;
	return *(volatile __u64 *)&pg_laundry;
}

/* The distance from a per-CPU address to each CPU's copy, from a map whose per-CPU address and
 * copies are both to be had. Fails under lockdown=confidentiality: sums stay inexact then. */
SEC("syscall")
int pg_learn_cpu_offsets(void *ctx)
{
	struct bpf_array *array = (struct bpf_array *)pg_launder(&anchor);
	__u64 base = 0;
	__u32 zero = 0;

	if (bpf_core_read(&base, sizeof(base), &array->pptrs[0]) || !base)
		return 1;
	for (__u32 cpu = 0; cpu < PG_MAX_CPUS && cpu < pg_cpus; cpu++) {
		void *copy = bpf_map_lookup_percpu_elem(&anchor, &zero, cpu);

		if (!copy)
			return 1;
		pg_cpu_offset[cpu] = pg_launder(copy) - base;
	}
	pg_exact_sums = 1;
	return 0;
}

/* Does this process belong to the watch that is being set up? */
static __always_inline int pg_wanted(struct task_struct *leader, const struct pg_watch *w)
{
	__u32 tgid = leader->tgid, parent_tgid;
	struct pg_process *parent;

	if (pg_with_cgroups && w->scope == PG_SCOPE_CGROUP)
		return pg_is_below_cgroup(pg_cgroup_of(leader), w->cgroup_id);
	if (tgid == pg_enrol_request.tgid)
		return 1;
	if (w->scope != PG_SCOPE_TREE)
		return 0;
	parent_tgid = BPF_CORE_READ(leader, real_parent, tgid);
	parent = bpf_map_lookup_elem(&processes, &parent_tgid);
	return parent && pg_is_member(parent, w->id);
}

/* A watch on one thread, which can bear one: true if it has it now. */
static __always_inline int pg_watch_thread(struct pg_watch *w, __u32 tgid)
{
	__u32 tid = pg_enrol_request.tid;
	struct pg_thread *t = bpf_map_lookup_elem(&threads, &tid);

	if (!t || t->tgid != tgid)
		return 0;
	if (t->watch != w->id && pg_watch_of(t->watch)) {
		__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
		pg_count_loss(memberships);
		return 1;
	}
	t->watch = w->id;
	return 1;
}

/* Enrols what is alive. A tree needs passes until one enrols nobody: children may come before their
 * parents here, while whoever forks from now on is followed by the hooks. A child that is just
 * being made may not have been, and is theirs for the moment: one more pass. */
SEC("iter/task")
int pg_enrol_tasks(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[1];
	struct pg_watch *w = pg_watch_of(pg_enrol_request.watch);
	struct pg_process *p;
	__u64 now, start_ns;
	__u32 tgid;

	if (!task || !w || task->pid != task->tgid || !pg_wanted(task, w) ||
	    pg_is_kernel_thread(task))
		return 0;
	if (pg_is_new(task)) {
		pg_enrol_request.waiting++;
		return 0;
	}
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		return 0;
	tgid = task->tgid;
	start_ns = BPF_CORE_READ(task, start_boottime);
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p || p->start_ns != start_ns)
		p = pg_enrol(task);
	else if (!pg_hold(p, start_ns))
		return 0;
	if (!p) {
		if (BPF_CORE_READ(task, signal, live.counter) != 0)
			__sync_fetch_and_or(&w->flags, PG_WATCH_DEGRADED);
		return 0;
	}
	/* Also for a known one: the memory program may not have been attached until now. */
	if (!(p->flags & PG_PROCESS_BORROWS_MM))
		pg_read_rss(p, pg_mm_of(task), 0);
	now = bpf_ktime_get_ns();
	if (w->scope != PG_SCOPE_THREAD || pg_watch_thread(w, tgid))
		pg_enrol_request.enrolled += pg_join(p, w->id);
	pg_book_process(p, now);
	pg_enrolled(task, p, now);
	return 0;
}

/* The event that pg_tell_event tells: a raw tracepoint's program gets numbers only. */
struct pg_event pg_event_told;

/* Events for `bpftool map event_pipe`. A program that user space runs may not write such an array
 * unless it is one for tracing. -ENOENT: nobody listens. */
SEC("raw_tp")
int pg_tell_event(void *ctx)
{
	return bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &pg_event_told,
				     sizeof(pg_event_told));
}

SEC("syscall")
int pg_trace_event(struct pg_trace_line *line)
{
	bpf_printk("%s", line->text);
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
