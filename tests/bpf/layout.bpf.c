/* SPDX-License-Identifier: Apache-2.0
 *
 * Every struct of the contract, as the BPF compiler lays it out: types get into an object's BTF
 * only by variables. Read by layout_test.cpp, never loaded.
 */
#include "contract.h"

struct pg_threshold threshold;
struct pg_failsafe failsafe;
struct pg_agent agent;
struct pg_limit_ns limit_ns;
struct pg_limit_bytes limit_bytes;
struct pg_guard_row guard_row;
struct pg_labels labels_value;
struct pg_usage usage;
struct pg_ended_thread ended_thread;
struct pg_watch watch;
struct pg_membership membership;
struct pg_process process;
struct pg_thread thread;
struct pg_edge edge;
struct pg_enrol enrol;
struct pg_trace_line trace_line;
struct pg_losses losses;
struct pg_step step;
struct pg_limit limit;
struct pg_guard guard;
struct pg_event event;
