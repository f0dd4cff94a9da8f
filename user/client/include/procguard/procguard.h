/* SPDX-License-Identifier: Apache-2.0
 *
 * libprocguard: process guards for blocks of code, as a C ABI. A *guard* is a limit and a ladder of
 * steps; a thread *enters* it, works, may report progress, and *leaves* it. When the limit is
 * broken a monitor thread takes the steps: exceptions (which the entered thread takes up itself, or
 * a callback hands to an interpreter) and signals to the entered thread.
 *
 * Programs in C++ use <procguard/procguard.hpp>, which this is the base of.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC, sizes bytes. All functions may be called from any
 * thread at any time, but not from signal handlers. After fork() the child's entries are void:
 * their handles do nothing there, and the child's own first entry starts a monitor of its own.
 */
#ifndef PROCGUARD_PROCGUARD_H
#define PROCGUARD_PROCGUARD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PROCGUARD_API __attribute__((visibility("default")))

enum procguard_resource {
  PROCGUARD_TIMEOUT = 0,       /* wall time since the entry or the last progress */
  PROCGUARD_MEMORY = 2,        /* RSS of the process */
  PROCGUARD_MEMORY_GROWTH = 3, /* RSS of the process above what it was at the entry */
};

enum procguard_interrupt {
  PROCGUARD_EXCEPTION = 0,             /* exception, exception, exception */
  PROCGUARD_SIGNAL = 1,                /* SIGINT, SIGTERM, SIGTERM or SIGKILL */
  PROCGUARD_EXCEPTION_THEN_SIGNAL = 2, /* exception, SIGINT, SIGTERM or SIGKILL */
};

/* An entered guard. All 0: none. A handle that was left, or that a fork has made void, is harmless
 * wherever one is taken. */
typedef struct procguard_entry {
  void* slot;
  uint64_t generation;
} procguard_entry;

enum procguard_action { PROCGUARD_ACTION_EXCEPTION = 1, PROCGUARD_ACTION_SIGNAL = 2 };

/* One step that was taken. */
typedef struct procguard_trip {
  size_t size; /* sizeof(procguard_trip) of the library */
  uint64_t guard;
  uint32_t resource; /* enum procguard_resource */
  uint32_t step;     /* 0, 1, 2 */
  uint32_t action;   /* enum procguard_action */
  uint32_t signal;   /* 0: an exception */
  uint32_t last;     /* 1: the ladder's last step; the guard does nothing more */
  uint32_t
      withdrawn;     /* 1: the exception was not taken up before the block was left or progressed */
  uint64_t limit;    /* ns or bytes, as given */
  uint64_t observed; /* the level at the step, to be compared with limit */
  uint64_t elapsed_ns; /* since the entry */
  uint64_t due_ns;     /* when the step was due */
  uint64_t at_ns;      /* when it was taken */
} procguard_trip;

/* Hears of every step of a guard that has it, on a thread of the library's own which may wait as
 * long as it likes (for an interpreter's lock): clock and further steps go on. The entry may have
 * been left meanwhile; procguard_user() tells. */
typedef void (*procguard_deliver)(procguard_entry entry, const procguard_trip* trip);

/* For a `deliver` that had to wait: the next step that it would be called with, which it is not any
 * more. 1; 0: there is none yet. */
PROCGUARD_API int procguard_next_delivery(procguard_deliver deliver, procguard_entry* entry,
                                          procguard_trip* trip);

typedef struct procguard_guard procguard_guard;

/* Set `size` to sizeof(procguard_options), all else to 0, then what is wanted. */
typedef struct procguard_options {
  size_t size;
  uint32_t resource;          /* enum procguard_resource */
  uint32_t interrupt_type;    /* enum procguard_interrupt */
  uint32_t send_kill;         /* 1: the last signal is SIGKILL */
  uint32_t flags;             /* PROCGUARD_PULL | PROCGUARD_BREAK_SYSCALLS */
  uint64_t limit;             /* ns or bytes; a timeout of 0 fires at once */
  uint64_t grace_ns;          /* memory: how long it may be over the limit before step 0 */
  uint64_t step_grace_ns;     /* between steps; 0: 15 s for timeouts, 5 s for memory; least 10 ms */
  uint64_t check_interval_ns; /* memory without BPF: how stale a reading may be; 0: 500 ms */
  const char* name;           /* under 48 bytes; NULL: none */
  procguard_deliver deliver;  /* may be NULL */
} procguard_options;

/* The thread takes exceptions up itself, by procguard_take(). Else `deliver` brings them to it. */
#define PROCGUARD_PULL 1u
/* An exception step also ends a blocking system call of the thread with EINTR: by a real-time
 * signal that nobody used, which gets a handler that does nothing. */
#define PROCGUARD_BREAK_SYSCALLS 2u

/* NULL and a message in `error` (truncated to `error_size`) if an option is out of range. */
PROCGUARD_API procguard_guard* procguard_guard_new(const procguard_options* options, char* error,
                                                   size_t error_size);
PROCGUARD_API procguard_guard* procguard_guard_ref(procguard_guard* guard);
/* Entries hold their guard: it may be given up while it is entered. NULL: nothing. */
PROCGUARD_API void procguard_guard_unref(procguard_guard* guard);
PROCGUARD_API uint64_t procguard_guard_id(const procguard_guard* guard);

/* Enters the guard for the calling thread; `user` comes back from procguard_user(). The first
 * memory guard waits until readings are to be had (tens of ms with BPF). 0; or an errno value:
 * EAGAIN (no thread could be started), ENOSYS (PROCGUARD_SOURCE asks for a source that cannot be
 * had), EINVAL (it names none), what open(2) says (memory_growth, and the memory that there is now
 * cannot be read: no descriptor is free, or no /proc). */
PROCGUARD_API int procguard_enter(procguard_guard* guard, void* user, procguard_entry* entry);
/* No step begins once this has begun to return; one that is being taken is waited for. `withdrawn`
 * (may be NULL) is filled if an exception was not taken up. Any thread may leave for another.
 * PROCGUARD_WITHDRAWN | PROCGUARD_SIGNALLED as it applies; -1: it was not entered (any more). */
PROCGUARD_API int procguard_leave(procguard_entry entry, procguard_trip* withdrawn);
#define PROCGUARD_WITHDRAWN 1 /* an exception was pending */
#define PROCGUARD_SIGNALLED 2 /* a signal was sent while it was entered */

/* For work that pauses and goes on, perhaps in another thread (coroutines): a suspended entry
 * belongs to no thread. Its clock goes on; an exception that becomes due is pending and told to
 * `deliver`, signals wait until it is resumed. Resuming makes it the calling thread's innermost
 * entry. 0; -1: it was not entered (any more), or is (not) suspended already. */
PROCGUARD_API int procguard_suspend(procguard_entry entry);
PROCGUARD_API int procguard_resume(procguard_entry entry);

/* Progress: the timeout counts from now, the ladder from its foot. 0: done. 1: an exception was
 * pending. With PROCGUARD_PULL, for this or another entry of the calling thread: nothing is done,
 * take it. Else for this entry: it is withdrawn, and progress done. */
PROCGUARD_API int procguard_progress(procguard_entry entry);
/* Progress for all of the guard's entries: the calling thread's innermost if it has one, else
 * everybody's. Returns as procguard_progress(). */
PROCGUARD_API int procguard_guard_progress(procguard_guard* guard);

/* Takes up what is pending for the calling thread, the outermost entry's first: 1 and the step in
 * `trip`; 0 if there is nothing. Only guards with PROCGUARD_PULL. */
PROCGUARD_API int procguard_take(procguard_trip* trip);
/* Takes up what is pending for one entry, of any guard. */
PROCGUARD_API int procguard_take_entry(procguard_entry entry, procguard_trip* trip);
PROCGUARD_API int procguard_is_pending(procguard_entry entry);

/* The calling thread's innermost entry of a timeout guard (of this guard), or none. */
PROCGUARD_API procguard_entry procguard_innermost_timeout(void);
PROCGUARD_API procguard_entry procguard_innermost_of(const procguard_guard* guard);
/* What was given to procguard_enter(); NULL if the entry was left. */
PROCGUARD_API void* procguard_user(procguard_entry entry);
PROCGUARD_API int procguard_is_entered(procguard_entry entry);
/* The kernel's number of the thread that entered it; 0 if it was left or is suspended. */
PROCGUARD_API int procguard_thread_id(procguard_entry entry);

/* The guard's last step, in any of its entries: 1, or 0 if there was none. */
PROCGUARD_API int procguard_last_trip(procguard_guard* guard, procguard_trip* trip);

/* Sleeps until the time has passed (0) or something is pending for the calling thread (1). */
PROCGUARD_API int procguard_sleep(uint64_t ns);

/* Where memory readings come from: "agent", "bpf" or "procfs". Before the first memory guard: where
 * they would. PROCGUARD_SOURCE=auto|agent|bpf|procfs in the environment decides; auto is the agent
 * at PROCGUARD_SOCKET (/run/procguard/agent.sock) if it accepts this process, else BPF where this
 * process may have it. May change while guards are entered: an agent can end and come back. */
PROCGUARD_API const char* procguard_source(void);
PROCGUARD_API const char* procguard_version(void);

#ifdef __cplusplus
}
#endif

#endif
