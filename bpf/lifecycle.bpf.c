// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Lifecycle: who is a member. Membership is inherited in task_newtask, before the child has run or
 * touched a page; kept across exec, whichever thread calls it; and ended in sched_process_exit when
 * the whole thread group is dead, before its pid can be used again.
 *
 * What if ...
 *   a map is full?        The loss is counted and every watch the newcomer should belong to is
 * marked degraded: user space says so and goes on with /proc. the leader exits first? Its thread
 * entry goes; the process entry and the bit of its pid stay. a zombie lingers?     It ended for us
 * when it died; its memory went then.
 */
#include "enrol.bpf.h"

#define PG_CLONE_VM	0x00000100
#define PG_CLONE_PARENT 0x00008000
#define PG_CLONE_THREAD 0x00010000

#define PG_MAX_CHILDREN 65536 /* of one process, looked at when it ends */

/* A forked child: member of its parent's trees and of the guarded cgroups it was born in. It shares
 * its parent's pages until it execs, and until then counts only what it grows: where the parent
 * counts, and where its end will be seen from the child's being its child. */
static __always_inline void pg_enter_child(struct task_struct *task, __u64 address,
					   struct pg_process *parent, __u64 clone_flags, __u64 now)
{
	struct pg_process *p = pg_new_process(task, BPF_CORE_READ(task, tgid),
					      BPF_CORE_READ(task, real_parent, tgid));

	if (!p) {
		pg_count_loss(processes);
		pg_degrade(parent);
		if (pg_with_cgroups && pg_cgroup_watches)
			pg_join_cgroups(NULL, pg_cgroup_of(task));
		return;
	}
	if (clone_flags & PG_CLONE_VM) {
		p->flags = PG_PROCESS_BORROWS_MM;
	} else {
		pg_read_rss(p, (__u64)BPF_CORE_READ(task, mm), 0);
	}
	if (parent && !(clone_flags & (PG_CLONE_VM | PG_CLONE_PARENT))) {
		p->base_bytes = pg_plain_bytes(p);
		p->flags = PG_PROCESS_SHARES;
	}
	for (int i = 0; parent && i < PG_MEMBERSHIPS; i++) {
		struct pg_watch *w = pg_watch_of(parent->member[i].watch);

		if (w && w->scope == PG_SCOPE_TREE)
			pg_join(p, w->id);
	}
	if (pg_with_cgroups && pg_cgroup_watches)
		pg_join_cgroups(p, pg_cgroup_of(task));
	pg_enter_thread(address, p);
	pg_book_process(p, now);
}

SEC("tp_btf/task_newtask")
int pg_task_newtask(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u64 clone_flags = ctx[1];
	__u32 parent_tgid = bpf_get_current_pid_tgid() >> 32;
	struct pg_process *parent = NULL;

	if (pg_is_watched(parent_tgid))
		parent = bpf_map_lookup_elem(&processes, &parent_tgid);
	else if (!pg_with_cgroups || !pg_cgroup_watches)
		return 0;
	if (clone_flags & PG_CLONE_THREAD) {
		if (parent)
			pg_enter_thread(pg_address(&ctx[0]), parent);
	} else if (parent || (pg_with_cgroups && pg_is_guarded_cgroup(pg_cgroup_of(task)) &&
			      !pg_is_kernel_thread(task))) {
		pg_enter_child(task, pg_address(&ctx[0]), parent, clone_flags, bpf_ktime_get_ns());
	}
	if (parent)
		pg_kill_if_doomed(parent);
	return 0;
}

struct pg_children {
	struct list_head *at;
	struct list_head *head;
	__u32 dying;	 /* tgid of a parent that ends; 0: it has a new address space */
	__u32 inherited; /* one child has taken over the address space */
};

/* An ending process counts no more for what its child counts for from now on: the same pages must
 * not count twice for a moment and cross a limit. */
PG_FUNCTION pg_hand_over(__u32 dying, __u64 now)
{
	struct pg_process *p = bpf_map_lookup_elem(&processes, &dying);

	if (!dying || !p)
		return 0;
	p->base_bytes = pg_plain_bytes(p);
	pg_book_process(p, now);
	return 0;
}

/* A child that borrows an address space is left alone with it. Until 6.16 the kernel has named a
 * new owner by now; after that it does so later, and takes the first child too. */
static __always_inline int pg_inherits_mm(struct pg_children *children, __u32 tgid,
					  struct mm_struct *mm)
{
	__u32 owner = pg_mm_owner_tgid(mm);

	return owner == tgid ||
	       (children->dying && owner == children->dying && !children->inherited);
}

/* A forked child is alone with the pages it shared with its parent: they count now. */
static long pg_release_child(__u32 index, struct pg_children *children)
{
	struct list_head *node = children->at;
	struct task_struct *child = pg_container_of(node, struct task_struct, sibling);
	struct pg_process *p = NULL;
	struct mm_struct *mm;
	__u64 now;
	__u32 tgid;

	if (!node || node == children->head)
		return 1;
	children->at = BPF_CORE_READ(child, sibling.next);
	tgid = BPF_CORE_READ(child, tgid);
	if (pg_is_watched(tgid))
		p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p || !pg_hold(p, BPF_CORE_READ(child, start_boottime)))
		return 0;
	now = bpf_ktime_get_ns();
	mm = BPF_CORE_READ(child, mm);
	if (p->flags & PG_PROCESS_SHARES && p->base_bytes) {
		pg_hand_over(children->dying, now);
		p->base_bytes = 0;
		pg_book_process(p, now);
	} else if (p->flags & PG_PROCESS_BORROWS_MM && pg_inherits_mm(children, tgid, mm)) {
		children->inherited = 1;
		pg_hand_over(children->dying, now);
		__sync_fetch_and_and(&p->flags, ~PG_PROCESS_BORROWS_MM);
		pg_read_rss(p, (__u64)mm, 0);
		pg_book_process(p, now);
	}
	pg_let_go(p, now);
	return 0;
}

/* The children of one thread: the kernel keeps them by the thread that made or adopted them. */
static __always_inline void pg_release_children(struct task_struct *task, __u32 dying)
{
	struct list_head *head = __builtin_preserve_access_index(&task->children);
	struct pg_children children = {
		.at = BPF_CORE_READ(task, children.next), .head = head, .dying = dying};

	bpf_loop(PG_MAX_CHILDREN, pg_release_child, &children, 0);
}

/* By a thread that is not the leader: it takes over the leader's pid, so its entry moves. Not
 * inlined: an entry on the stack of the hook, which calls deep, is more than some kernels allow. */
PG_FUNCTION pg_rekey_thread(__u32 old_tid, __u32 tid, __u64 start_ns)
{
	struct pg_thread *t = bpf_map_lookup_elem(&threads, &old_tid);
	struct pg_thread moved;

	if (!t) {
		bpf_map_delete_elem(&threads, &tid); /* the leader's */
		return 0;
	}
	moved = *t;
	moved.tid = tid;
	moved.start_ns = start_ns; /* taken over too */
	bpf_map_delete_elem(&threads, &old_tid);
	pg_clear_watched(old_tid);
	if (bpf_map_update_elem(&threads, &tid, &moved, BPF_ANY))
		pg_count_loss(threads);
	pg_set_watched(tid);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int pg_sched_process_exec(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 old_tid = (__u32)ctx[1];
	__u32 tid = task->pid, tgid = task->tgid;
	struct pg_process *p;
	struct pg_thread *t;
	__u64 now;

	if (!pg_is_watched(tgid))
		return 0;
	if (old_tid != tid)
		pg_rekey_thread(old_tid, tid, BPF_CORE_READ(task, start_boottime));
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (!p)
		return 0;
	now = bpf_ktime_get_ns();
	p->exec_ns = now;
	p->base_bytes = 0;
	p->flags = PG_PROCESS_EXECED;
	BPF_CORE_READ_STR_INTO(&p->comm, task, comm);
	t = bpf_map_lookup_elem(&threads, &tid);
	if (t)
		BPF_CORE_READ_STR_INTO(&t->comm, task, comm);
	pg_read_rss(p, (__u64)BPF_CORE_READ(task, mm), bpf_get_current_task());
	pg_book_process(p, now);
	pg_release_children(task, 0);
	return 0;
}

static __always_inline void pg_add_usage(struct pg_usage *sum, const struct pg_usage *u)
{
	__sync_fetch_and_add(&sum->cpu_ns, u->cpu_ns);
	__sync_fetch_and_add(&sum->runnable_wait_ns, u->runnable_wait_ns);
	__sync_fetch_and_add(&sum->voluntary_switches, u->voluntary_switches);
	__sync_fetch_and_add(&sum->involuntary_switches, u->involuntary_switches);
	for (int i = 0; i < PG_BLOCKED_STATES; i++)
		__sync_fetch_and_add(&sum->blocked_ns[i], u->blocked_ns[i]);
	for (int i = 0; i < PG_RSS_PARTS; i++) {
		__sync_fetch_and_add(&sum->grown_bytes[i], u->grown_bytes[i]);
		__sync_fetch_and_add(&sum->shrunk_bytes[i], u->shrunk_bytes[i]);
	}
}

/* Two threads that end at once must not mix: the one that finds it busy tries a few times more. */
PG_FUNCTION pg_keep_largest(struct pg_watch *w, const struct pg_thread *t)
{
	for (int i = 0; w && t && i < 8; i++) {
		if (pg_grown_bytes(&t->usage) <= pg_grown_bytes(&w->largest.usage))
			return 0;
		if (__sync_lock_test_and_set(&w->largest.busy, 1))
			continue;
		w->largest.tid = t->tid;
		w->largest.tgid = t->tgid;
		w->largest.usage = t->usage;
		__builtin_memcpy(w->largest.comm, t->comm, sizeof(t->comm));
		w->largest.busy = 0;
		return 0;
	}
	return 0;
}

/* Gives what a thread used to one watch; false if it does not count there. */
PG_FUNCTION pg_end_thread_for(__u64 watch, const struct pg_thread *t)
{
	struct pg_watch *w = pg_watch_of(watch);

	if (!w || !t || (w->scope == PG_SCOPE_THREAD && t->watch != watch))
		return 0;
	pg_add_usage(&w->ended, &t->usage);
	pg_keep_largest(w, t);
	return 1;
}

/* A thread has ended: what it used goes to its watches. It still runs, to take down its address
 * space if it is the last; its entry stays for that (see pg_sched_switch). */
static __always_inline int pg_end_thread(struct task_struct *task, struct pg_process *p, __u64 now)
{
	__u32 tid = task->pid;
	struct pg_thread *t = bpf_map_lookup_elem(&threads, &tid);
	struct pg_watch *w;

	if (!t || __sync_lock_test_and_set(&t->exiting, 1))
		return 0;
	pg_divide_off_time(t, pg_run_delay(task));
	BPF_CORE_READ_STR_INTO(&t->comm, task, comm); /* it may have named itself */
	w = pg_watch_of(t->watch);
	if (w) {
		__sync_fetch_and_or(&w->flags, PG_WATCH_EMPTY);
		pg_notify(w, now);
	}
	for (int i = 0; p && i < PG_MEMBERSHIPS; i++)
		if (p->member[i].watch && pg_end_thread_for(p->member[i].watch, t))
			t->departed[i] = p->member[i].watch;
	if (p)
		pg_let_go(p, now);
	return 1;
}

/* The agent has ended, however it did: what it guards with a failsafe is the kernel's from now on.
 */
static __always_inline void pg_orphan(void)
{
	pg_agent.orphaned_since_ns = bpf_ktime_get_ns();
	pg_agent.tgid = 0;
	pg_agent.failsafe_next_ns = 0; /* the first sweep sees what is due */
	pg_agent.orphaned = 1;
}

SEC("tp_btf/sched_process_exit")
int pg_sched_process_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = task->tgid;
	struct pg_process *p;
	__u64 now;
	int dead;

	if (tgid == pg_agent.tgid && pg_group_dead(ctx, task))
		pg_orphan();
	if (!pg_is_watched(tgid))
		return 0;
	now = bpf_ktime_get_ns();
	p = bpf_map_lookup_elem(&processes, &tgid);
	dead = pg_group_dead(ctx, task);
	if (p && dead)
		__sync_fetch_and_or(&p->flags, PG_PROCESS_DEAD);
	/* Else the kernel gives the thread's children to another thread of the process. */
	if (dead || pg_group_exits(task))
		pg_release_children(task, tgid);
	if (!pg_end_thread(task, p, now)) /* there was no room for its entry */
		pg_end_process(p, now);
	return 0;
}

/* A process moves between cgroups: one event a process, after the move. */
SEC("tp_btf/cgroup_attach_task")
int pg_cgroup_attach_task(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[2];
	__u32 tgid = task->tgid;
	struct pg_process *p;
	__u64 now, cgroup;

	if (!pg_cgroup_watches)
		return 0;
	cgroup = pg_cgroup_of(task);
	now = bpf_ktime_get_ns();
	p = pg_is_watched(tgid) ? bpf_map_lookup_elem(&processes, &tgid) : NULL;
	if (p) {
		if (!pg_hold(p, BPF_CORE_READ(task, start_boottime)))
			return 0;
		pg_leave_cgroups(p, cgroup, now);
	} else if (pg_is_guarded_cgroup(cgroup) && !pg_is_kernel_thread(task)) {
		p = pg_enrol(task);
	} else {
		return 0;
	}
	if (p || BPF_CORE_READ(task, signal, live.counter) != 0)
		pg_join_cgroups(p, cgroup);
	if (!p)
		return 0;
	pg_book_process(p, now);
	pg_enrolled(task, p, now);
	return 0;
}

/* (cgroup, path), in the v1 hierarchies too: their ids are others than those we guard. */
SEC("tp_btf/cgroup_rmdir")
int pg_cgroup_rmdir(__u64 *ctx)
{
	struct cgroup *cgroup = (struct cgroup *)ctx[0];
	struct pg_watch *w;
	__u64 *watch, id;

	if (!pg_cgroup_watches)
		return 0;
	id = BPF_CORE_READ(cgroup, kn, id);
	watch = bpf_map_lookup_elem(&cgroups, &id);
	w = watch ? pg_watch_of(*watch) : NULL;
	if (!w)
		return 0;
	__sync_fetch_and_or(&w->flags, PG_WATCH_REMOVED);
	pg_notify(w, bpf_ktime_get_ns());
	return 0;
}

/* Kills members of doomed trees and cgroups at their next return to user space: a fork bomb's
 * children die as their fork returns. Attached only while a doomed target lives. */
SEC("tp_btf/sys_exit")
int pg_sys_exit(__u64 *ctx)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct pg_process *p;

	if (!pg_is_watched(tgid))
		return 0;
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (p)
		pg_kill_if_doomed(p);
	return 0;
}

char LICENSE[] SEC("license") __attribute__((weak)) = "Dual BSD/GPL";
