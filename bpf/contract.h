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

#define PG_ABI	       2

#define PG_COMM_LEN    16
#define PG_NAME_LEN    48
#define PG_MEMBERSHIPS 8 /* watches a process can be a member of at the same time */
#define PG_STEPS       8 /* steps of a ladder */
#define PG_LABELS_LEN  256

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
	__u64 enrolled; /* out: processes that became members in this pass */
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

/* --- user space's own state, here because maps and protocol carry it --- */

enum pg_action {
	PG_ACTION_NONE = 0,
	PG_ACTION_EXCEPTION = 1,
	PG_ACTION_SIGNAL = 2,
};

enum pg_mode {
	PG_MODE_ENFORCE = 0,
	PG_MODE_MONITOR = 1, /* steps are recorded, not taken */
};

enum pg_by {
	PG_BY_NONE = 0,
	PG_BY_CONTROLLER = 1, /* user space */
	PG_BY_KERNEL = 2,
};

enum pg_result {
	PG_RESULT_NONE = 0,
	PG_RESULT_INTENT = 1, /* about to be taken: what an adopter finds if the controller died */
	PG_RESULT_SENT = 2,
	PG_RESULT_FAILED = 3,	/* no target took it */
	PG_RESULT_REFUSED = 4,	/* not permitted for some member */
	PG_RESULT_IGNORED = 5,	/* a pid namespace's init has no handler for it */
	PG_RESULT_PENDING = 6,	/* the target is frozen or traced */
	PG_RESULT_MERGED = 7,	/* the same signal went out for another limit just before */
	PG_RESULT_DRY_RUN = 8,	/* monitor mode */
	PG_RESULT_GONE = 9,	/* no target was left */
	PG_RESULT_UNKNOWN = 10, /* intent found, result not */
};

struct pg_step {
	__u32 action; /* enum pg_action */
	__u32 signal;
	__u64 wait_ns; /* until the next step; 0 = the limit's step_grace_ns */
};

enum pg_limit_phase {
	PG_LIMIT_NONE = 0,    /* no such limit */
	PG_LIMIT_WAITING = 1, /* within the limit */
	PG_LIMIT_OVER = 2,    /* over it, grace runs */
	PG_LIMIT_TRIPPED = 3, /* the ladder has begun */
	PG_LIMIT_DONE = 4,    /* the last step was taken; nothing more happens */
};

/* One limit of a guard with its own place on the ladder. */
struct pg_limit {
	__u64 limit; /* ns or bytes; memory_growth: above base */
	__u64 base;  /* what the level is counted from: start (timeout), CPU or RSS at entry */
	__u64 grace_ns;
	__u64 step_grace_ns;
	__u64 over_since_ns;
	__u64 due_ns;	  /* when the next step is due; 0 = not */
	__u64 tripped_ns; /* when step 0 was last due */
	__u64 observed;	  /* level at that step */
	__u32 episodes;	  /* how often step 0 was taken */
	__u32 next_step;
	__u32 phase; /* enum pg_limit_phase */
	__u32 padding;
};

/* Who made a guard, and with it how long it lives. */
enum pg_origin {
	PG_ORIGIN_LOCAL = 0,   /* no agent is involved */
	PG_ORIGIN_ATTACH = 1,  /* until its target ends or it is released */
	PG_ORIGIN_SESSION = 2, /* a client's: until its target ends or the client does */
};

enum pg_guard_flags {
	PG_GUARD_FAILSAFE = 1 << 0, /* the kernel takes the last step while no agent runs */
	PG_GUARD_PAUSED = 1 << 1,
	PG_GUARD_ANY_UID = 1 << 2, /* its owner may signal whom it likes */
	PG_GUARD_HELD = 1 << 3,	   /* armed by a client that says when it starts */
};

enum pg_guard_phase {
	PG_GUARD_ARMED = 1,
	PG_GUARD_RELEASED = 2, /* by its owner */
	PG_GUARD_ENDED = 3,    /* the target is gone */
};

/* The whole state of a guard. */
struct pg_guard {
	__u32 abi;
	__u32 size;
	__u64 id;
	__u64 watch; /* 0 = none: procfs, or a time-only guard inside a program */
	__u64 armed_ns;
	__u64 target_start_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 tid;
	__u32 scope;
	__u32 mode;
	__u32 owner_uid;
	__u32 phase;
	__u32 steps; /* in the ladder */
	__u32 last_signal;
	__u64 last_signal_ns;
	struct pg_step ladder[PG_STEPS];
	struct pg_limit limit[PG_RESOURCES]; /* by enum pg_resource */
	/* the step being taken or taken last */
	__u32 step_resource;
	__u32 step_index;
	__u32 step_result; /* enum pg_result */
	__u32 step_by;	   /* enum pg_by */
	__u64 step_at_ns;
	__u64 paused_ns; /* when it was paused; 0 = it is not */
	__u64 paused_cpu_ns;
	__u64 ended_ns; /* when it was released or its target had ended */
	__u32 flags;	/* enum pg_guard_flags */
	__u32 origin;	/* enum pg_origin */
	char name[PG_NAME_LEN];
};

/* pg_guard under names that carry units, for whoever reads the map: the same bytes, which the
 * asserts below and a test of the layouts prove. */
struct pg_limit_ns {
	__u64 limit_ns;
	__u64 base_ns;
	__u64 grace_ns;
	__u64 step_grace_ns;
	__u64 over_since_ns;
	__u64 due_ns;
	__u64 tripped_ns;
	__u64 observed_ns;
	__u32 episodes;
	__u32 next_step;
	enum pg_limit_phase phase;
	__u32 padding;
};

struct pg_limit_bytes {
	__u64 limit_bytes;
	__u64 base_bytes;
	__u64 grace_ns;
	__u64 step_grace_ns;
	__u64 over_since_ns;
	__u64 due_ns;
	__u64 tripped_ns;
	__u64 observed_bytes;
	__u32 episodes;
	__u32 next_step;
	enum pg_limit_phase phase;
	__u32 padding;
};

struct pg_guard_row {
	__u32 abi;
	__u32 size_bytes;
	__u64 id;
	__u64 watch;
	__u64 armed_ns;
	__u64 target_start_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 tid;
	enum pg_scope scope;
	enum pg_mode mode;
	__u32 owner_uid;
	enum pg_guard_phase phase;
	__u32 steps;
	__u32 last_signal;
	__u64 last_signal_ns;
	struct pg_step ladder[PG_STEPS];
	struct pg_limit_ns timeout;
	struct pg_limit_ns cpu;
	struct pg_limit_bytes memory;
	struct pg_limit_bytes memory_growth;
	enum pg_resource step_resource;
	__u32 step_index;
	enum pg_result step_result;
	enum pg_by step_by;
	__u64 step_at_ns;
	__u64 paused_ns;
	__u64 paused_cpu_ns;
	__u64 ended_ns;
	__u32 flags;
	enum pg_origin origin;
	char name[PG_NAME_LEN];
};

/* What users call a guard by beside its name: "K=V" lines, as text that ends with a NUL. */
struct pg_labels {
	char text[PG_LABELS_LEN];
};

enum pg_event_kind {
	PG_EVENT_ARMED = 1,
	PG_EVENT_OVER = 2,
	PG_EVENT_BACK_UNDER = 3,
	PG_EVENT_STEP = 4,
	PG_EVENT_RELEASED = 5,
	PG_EVENT_TARGET_EXITED = 6,
	PG_EVENT_DEGRADED = 7,
	PG_EVENT_CHANGED = 8, /* a limit was set; resource, limit: to what */
	PG_EVENT_PAUSED = 9,
	PG_EVENT_RESUMED = 10,
	PG_EVENT_AGENT_GAP = 11, /* nobody controlled from `due_ns` to `at_ns` */
	PG_EVENT_LOST = 12,	 /* `observed` events could not be kept or told */
};

/* One guard event; the trace line, the log and the report derive from it. */
struct pg_event {
	__u32 abi;
	__u32 kind; /* enum pg_event_kind */
	__u64 at_ns;
	__u64 guard;
	__u64 limit;
	__u64 observed;
	__u64 due_ns;
	__u32 resource;
	__u32 pid;
	__u32 step;
	__u32 action;
	__u32 signal;
	__u32 by;
	__u32 result;
	__u32 error; /* errno of a failed step, else 0 */
	char name[PG_NAME_LEN];
};

#ifdef __cplusplus
#define PG_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define PG_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

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
PG_ASSERT_SIZE(struct pg_step, 16);
PG_ASSERT_SIZE(struct pg_limit, 80);
PG_ASSERT_SIZE(struct pg_guard, 640);
PG_ASSERT_SIZE(struct pg_limit_ns, 80);
PG_ASSERT_SIZE(struct pg_limit_bytes, 80);
PG_ASSERT_SIZE(struct pg_guard_row, 640);
PG_ASSERT_SIZE(struct pg_labels, 256);
PG_ASSERT_SIZE(struct pg_event, 128);

#endif
