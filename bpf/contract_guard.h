/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The part of the contract that is user space's own state: guards and their events. Here because
 * maps and protocol carry it. Include contract.h.
 */
#ifndef PROCGUARD_CONTRACT_GUARD_H
#define PROCGUARD_CONTRACT_GUARD_H

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

PG_ASSERT_SIZE(struct pg_step, 16);
PG_ASSERT_SIZE(struct pg_limit, 80);
PG_ASSERT_SIZE(struct pg_guard, 640);
PG_ASSERT_SIZE(struct pg_limit_ns, 80);
PG_ASSERT_SIZE(struct pg_limit_bytes, 80);
PG_ASSERT_SIZE(struct pg_guard_row, 640);
PG_ASSERT_SIZE(struct pg_labels, 256);
PG_ASSERT_SIZE(struct pg_event, 128);

#endif
