/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The kernel types that bpf/ needs, and of each only the fields it reads. Kept by hand: CO-RE finds
 * the real offsets in the BTF of the kernel that runs, so order, gaps and architecture do not
 * matter here; names and kinds do. tests/bpf/vmlinux_btf_test.cpp proves every field against the
 * BTF of real kernels. A type that changed between kernels has a flavour (___suffix), which only
 * bpf/compat.bpf.h uses.
 */
#ifndef PROCGUARD_VMLINUX_H
#define PROCGUARD_VMLINUX_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef _Bool bool;
enum {
	false = 0,
	true = 1,
};

/* Values of the kernel's UAPI that are no types. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERF_EVENT_ARRAY = 4,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1024,
};

#define BPF_F_CURRENT_CPU 0xffffffffULL

enum pid_type {
	PIDTYPE_PID = 0,
	PIDTYPE_TGID = 1,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	__u32 val;
} kuid_t;

struct list_head {
	struct list_head *next;
};

struct percpu_counter {
	__s64 count;
	__s32 *counters;
};

struct task_struct;

struct mm_struct {
	struct task_struct *owner; /* CONFIG_MEMCG */
	struct percpu_counter rss_stat[4];
};

/* Before 6.2 (f1a7941243c1 "mm: convert mm's rss stats into percpu_counter"). */
struct mm_rss_stat {
	atomic_long_t count[4];
};

struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct task_rss_stat {
	int count[4];
};

struct kernfs_node {
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* of the v2 hierarchy, whatever v1 ones there are */
};

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	struct list_head thread_head;
};

struct cred {
	kuid_t uid;
	kuid_t suid;
};

struct sched_info {
	unsigned long long run_delay; /* CONFIG_SCHED_INFO */
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct list_head children;
	struct list_head sibling;
	struct task_struct *group_leader;
	struct list_head thread_node;
	struct signal_struct *signal;
	const struct cred *cred;
	struct css_set *cgroups;
	struct sched_info sched_info;
	__u64 start_boottime;
	char comm[16];
	struct task_rss_stat rss_stat; /* before 6.2: what is not yet in the mm */
};

struct bpf_array {
	void *pptrs[0];
};

struct trace_event_raw_sched_process_exit {
	bool group_dead; /* since 6.16 */
};

#pragma clang attribute pop

#endif
