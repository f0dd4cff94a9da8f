/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The contract between the kernel side and user space: every struct that both see.
 * Fixed-width fields, explicit padding, no pointers; C and C++. Change a layout and you
 * change PG_ABI. Units stand in the field names: _ns is CLOCK_MONOTONIC or a length of time in
 * nanoseconds, _bytes is bytes. start_ns of a process or thread is its start_boottime.
 *
 * Vocabulary: a *guard* (target + limits + ladder) is user space's; the kernel knows only
 * *watches*: a target and the thresholds nearest to its present levels. User space maps any number
 * of guards onto a watch.
 */
#ifndef PROCGUARD_CONTRACT_H
#define PROCGUARD_CONTRACT_H

#ifdef __bpf__
#include "vmlinux.h"
#else
#include <linux/types.h>
#endif

#define PG_ABI 2

#ifdef __cplusplus
#define PG_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define PG_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

#define PG_COMM_LEN    16
#define PG_NAME_LEN    48
#define PG_MEMBERSHIPS 8 /* watches a process can be a member of at the same time */
/* ... of them for owners whom kill(2)'s uid rule binds: the others are not to be kept out by them
 */
#define PG_BOUND_MEMBERSHIPS 6
#define PG_STEPS	     8 /* steps of a ladder */
#define PG_LABELS_LEN	     256

enum pg_scope {
	PG_SCOPE_NONE = 0,
	PG_SCOPE_THREAD = 1,
	PG_SCOPE_PROCESS = 2,
	PG_SCOPE_TREE = 3,
	PG_SCOPE_CGROUP = 4,
};

enum pg_resource {
	PG_TIMEOUT = 0,
	PG_CPU = 1,
	PG_MEMORY = 2,
	PG_MEMORY_GROWTH = 3,
	PG_RESOURCES = 4,
};

/* The parts of RSS. The kernel's own numbering has swap entries between anon and shmem. */
enum pg_rss_part {
	PG_RSS_FILE = 0,
	PG_RSS_ANON = 1,
	PG_RSS_SHMEM = 2,
	PG_RSS_PARTS = 3,
};

/* What a thread that is not runnable waits in. */
enum pg_blocked {
	PG_BLOCKED_SLEEP = 0, /* interruptible: sleep, poll, lock, socket */
	PG_BLOCKED_DISK = 1,  /* uninterruptible ("D"): disk, some locks of the kernel */
	PG_BLOCKED_OTHER = 2, /* stopped, traced, frozen, parked */
	PG_BLOCKED_STATES = 3,
};

/* A threshold on a level. Kernel and user space both run pg_threshold_update() on it, so a crossing
 * has one time whoever saw it. over_since_ns is also the state: 0 = not over. */
struct pg_threshold {
	__u64 limit;	     /* bytes or ns; 0 = unused */
	__u64 over_since_ns; /* when the level last rose over the limit */
	__u64 episodes;	     /* how often it did */
	/* The kernel's own first step: this signal goes to a member that runs while the level is
	 * over, once a member and episode, until user space takes the episode over. */
	__u64 closed_episode; /* the last episode taken over by user space */
	__u64 acted_ns;	      /* when the kernel last sent the signal */
	__u32 acted_pid;      /* to which process */
	__u32 signal;	      /* 0 = no kernel step */
	/* User space's bookmarks, here so that its next instance finds them. */
	__u64 set_over_since_ns; /* over_since_ns right after this limit was put in force */
	__u64 seen_acted_ns;	 /* the kernel step that user space knows of */
	__u64 seen_episode;
};

/* The last step of a ladder, by the kernel itself, while no agent runs: each bound is that of the
 * nearest guard that asked for it. Once acted_ns is set the watch has had it. */
struct pg_failsafe {
	struct pg_threshold memory; /* its signal is the step */
	__u64 memory_grace_ns;
	__u64 due_ns; /* CLOCK_MONOTONIC; 0 = none */
	__u64 cpu_ns; /* compared with pg_watch.cpu_ns; 0 = none */
	__u64 acted_ns;
	__u32 acted_pid;
	__u32 acted_resource; /* enum pg_resource */
	__u32 due_signal;
	__u32 cpu_signal;
};

/* What threads used. Times of a live thread's present slice or sleep are not in it yet. */
struct pg_usage {
	__u64 cpu_ns;
	__u64 runnable_wait_ns;
	__u64 blocked_ns[PG_BLOCKED_STATES];
	__u64 voluntary_switches;
	__u64 involuntary_switches;
	__u64 grown_bytes[PG_RSS_PARTS]; /* RSS they caused to grow, by enum pg_rss_part */
	__u64 shrunk_bytes[PG_RSS_PARTS];
};

/* The thread that grew the memory most, of those that have ended: a target that the kernel's own
 * step ended leaves no other trace of who it was. */
struct pg_ended_thread {
	__u32 tid;
	__u32 tgid;
	__u32 busy; /* somebody is writing it */
	__u32 padding;
	struct pg_usage usage;
	char comm[PG_COMM_LEN];
};

enum pg_watch_flags {
	PG_WATCH_DOOMED = 1 << 0,   /* every member that runs or is born is killed */
	PG_WATCH_DEGRADED = 1 << 1, /* a bound was hit: members may be missing */
	PG_WATCH_ANY_UID = 1 << 2, /* the owner has CAP_KILL: kill(2)'s uid rule does not bind it */
	PG_WATCH_EMPTY = 1 << 3,   /* had members, and the last one has ended */
	PG_WATCH_REMOVED = 1 << 4, /* the cgroup's directory has been removed */
};

/* A watched target. Slot of a mappable array; id = generation << 32 | slot, 0 = free slot. */
struct pg_watch {
	__u64 id;
	__u64 cgroup_id; /* scope cgroup: the v2 directory's inode number */
	__u32 scope;	 /* enum pg_scope */
	__u32 flags;	 /* enum pg_watch_flags */
	__u32 owner_uid;
	__u32 edge_unread; /* a record for this watch lies in the ring; the reader clears it first
			    */
	__s64 processes;   /* live members */
	__s64 memory_bytes;
	__s64 memory_plain_bytes; /* sum of RSS, a forked child's shared pages counted again */
	__s64 memory_peak_bytes;
	__s64 memory_plain_peak_bytes;
	struct pg_threshold memory[2]; /* user space picks which limits stand here */
	struct pg_threshold cpu;
	__s64 cpu_ns; /* of all members since they were enrolled, ended ones included */
	struct pg_ended_thread largest;
	struct pg_usage ended; /* of ended threads; cpu_ns too */
	struct pg_failsafe failsafe;
};

/* Who controls the watches, and what its next instance goes on from. */
struct pg_agent {
	__u32 tgid;		 /* 0: whoever loaded the programs, which end with it */
	__u32 orphaned;		 /* no agent runs: failsafe steps are the kernel's */
	__u64 orphaned_since_ns; /* when the last one ended */
	__u64 failsafe_next_ns;	 /* the earliest pg_failsafe.due_ns, or when to look again */
	__u64 next_guard;	 /* ids are never used again */
	__u32 watch_generation;
	__u32 padding;
};

/* A process as member of a watch. What it counts for is kept here, not derived: a membership that
 * begins or ends beside a page fault repairs itself at the next event. */
struct pg_membership {
	__u64 watch; /* pg_watch.id; 0 = free, PG_MEMBERSHIP_BUSY */
	__u64 counted_bytes;
	__u64 plain_bytes;
	__u64 acted_episode[2]; /* the kernel step was sent to this process, by memory threshold */
};

/* Somebody is beginning or ending the membership. */
#define PG_MEMBERSHIP_BUSY (1ULL << 63)

enum pg_process_flags {
	PG_PROCESS_BORROWS_MM = 1 << 0, /* vfork or CLONE_VM: the address space is its parent's */
	PG_PROCESS_SHARES = 1 << 1,	/* forked and not yet exec'd: base_bytes are its parent's */
	PG_PROCESS_EXECED = 1 << 2,
	PG_PROCESS_ENDED = 1 << 3,
	PG_PROCESS_DEAD = 1 << 4,    /* all threads have ended; some of it not here yet */
	PG_PROCESS_CROSSED = 1 << 5, /* it moved a watch over a threshold; not told yet */
};

/* Key: tgid (u32). Identity: (tgid, start_ns). The entry ends when the last thread has. */
struct pg_process {
	__u64 start_ns;
	__u64 exec_ns;	  /* CLOCK_MONOTONIC of the last exec since enrolled, else 0 */
	__u64 base_bytes; /* RSS shared with the parent since the fork */
	__u64 rss_bytes[PG_RSS_PARTS];
	__u64 rss_peak_bytes;
	__u64 remote_grown_bytes; /* changed by others: reclaim, ptrace, process_madvise */
	__u64 remote_shrunk_bytes;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 threads; /* entered and not ended, and who works on this entry meanwhile */
	__u32 flags;   /* enum pg_process_flags */
	struct pg_membership member[PG_MEMBERSHIPS];
	char comm[PG_COMM_LEN];
};

/* Key: tid (u32). */
struct pg_thread {
	__u64 start_ns;
	__u64 off_since_ns;	 /* switched out then; 0 = on a CPU */
	__u64 off_ns;		 /* length of the last time off CPU, not yet divided */
	__u64 run_delay_seen_ns; /* the kernel's run-queue wait that is already counted */
	__u64 watch;		 /* a watch on this thread alone; 0 = none */
	__u32 tid;
	__u32 tgid;
	__u32 off_state; /* enum pg_blocked, or PG_OFF_RUNNABLE */
	__u32 exiting;	 /* it has left its process and is on its last run: see departed */
	struct pg_usage usage;
	__u64 departed[PG_MEMBERSHIPS]; /* watches that the CPU time of its last run counts for */
	char comm[PG_COMM_LEN];
};
#define PG_OFF_RUNNABLE PG_BLOCKED_STATES

/* The only record in the ring: "look at this watch". At most one unread a watch. */
struct pg_edge {
	__u32 abi;
	__u32 size;
	__u64 watch;
	__u64 at_ns;
};

/* What enrol_tasks looks for: tasks that are alive before the watch. */
struct pg_enrol {
	__u64 watch;
	__u32 enrolled; /* out: processes that became members in this pass */
	__u32 waiting;	/* out: ... that are just being made, and may have to */
	__u32 tgid;	/* scopes thread, process, tree: the root */
	__u32 tid;	/* scope thread */
};

#define PG_TRACE_LEN 240

/* Context of pg_trace_event: a line for the kernel's trace pipe. */
struct pg_trace_line {
	char text[PG_TRACE_LEN];
};

/* What could not be kept, by reason. All 0 on a healthy host. */
struct pg_losses {
	__u64 edges;	 /* ring full: user space re-reads all levels */
	__u64 processes; /* map full: a process is not a member of what it should be */
	__u64 threads;	 /* map full: a thread is not accounted */
	__u64 memberships;
	__u64 signals; /* the kernel step could not be sent */
};

PG_ASSERT_SIZE(struct pg_threshold, 72);
PG_ASSERT_SIZE(struct pg_failsafe, 120);
PG_ASSERT_SIZE(struct pg_agent, 40);
PG_ASSERT_SIZE(struct pg_usage, 104);
PG_ASSERT_SIZE(struct pg_ended_thread, 136);
PG_ASSERT_SIZE(struct pg_watch, 656);
PG_ASSERT_SIZE(struct pg_membership, 40);
PG_ASSERT_SIZE(struct pg_process, 424);
PG_ASSERT_SIZE(struct pg_thread, 240);
PG_ASSERT_SIZE(struct pg_edge, 24);
PG_ASSERT_SIZE(struct pg_enrol, 24);
PG_ASSERT_SIZE(struct pg_trace_line, 240);
PG_ASSERT_SIZE(struct pg_losses, 40);

#include "contract_guard.h"

#endif
