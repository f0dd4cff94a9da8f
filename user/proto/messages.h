// SPDX-License-Identifier: Apache-2.0
// The messages of the control socket: fixed-width structs over SOCK_SEQPACKET, one record a
// message.
//
//   record = Header, then `count` bodies of the kind that the operation has, then nothing.
//
// A record is right only if its length is exactly that; anything else is answered with an error, or
// ends the connection where not even a Header can be read. Numbers are little-endian, as on every
// machine this runs on; times are CLOCK_MONOTONIC in ns, sizes bytes. Strings are NUL-padded
// fields; the last byte is NUL. A target is never named by a number that the sender made up: it
// comes as a descriptor (SCM_RIGHTS), in the order of the bodies that say they have one; only root
// in the agent's own pid namespace may give a number.
//
// The structs of the contract header are part of this: its PG_ABI stands in each Header.
// Documentation for other clients: user/docs/protocol.md.
#pragma once

#include <cstdint>
#include <type_traits>

#include "bpf/contract.h"

namespace procguard::proto {

inline constexpr std::uint32_t kMagic = 0x70675031;  // "1Pgp"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::size_t kMaxRecord = std::size_t{64} * 1024;  // bytes, both ways
inline constexpr std::size_t kMaxFds = 64;                         // a record
inline constexpr std::size_t kErrorText = 232;

inline constexpr const char* kDefaultSocket = "/run/procguard/agent.sock";

enum class Op : std::uint16_t {
  kNone = 0,
  kError = 1,        // reply: one ErrorBody
  kStatus = 2,       // no body; reply: one StatusBody
  kAttach = 3,       // AttachBody each; reply: an ArmedBody each, in order
  kStart = 4,        // StartBody: for guards that were attached as held; reply: GuardBody each
  kList = 5,         // ListBody; reply: RowBody, up to a record full; then again from the last id
  kShow = 6,         // RefBody; reply: one ShowBody, then ThreadBody each in records of op kThreads
  kThreads = 7,      // reply only
  kSet = 8,          // SetBody each; reply: GuardBody each
  kPause = 9,        // RefBody each; reply: GuardBody each
  kResume = 10,      // the same
  kRelease = 11,     // the same
  kProgress = 12,    // the same
  kEvents = 13,      // EventsBody; reply: EventBody, as many records as it takes, the last one with
                     // kEnd; with kFollow more records as events happen
  kSession = 14,     // SessionBody, a memfd with the page of a program (see page.h): its guards are
                     // shown in lists, its memory is watched; reply: one SessionReply
  kThresholds = 15,  // ThresholdsBody: on the session's own process; reply: one LevelBody
  kLevel = 16,       // reply to kThresholds; also sent unasked when a threshold was crossed
};

enum Flags : std::uint16_t {
  kEnd = 1 << 0,     // nothing follows
  kFollow = 1 << 1,  // kEvents: go on as they happen
};

struct Header {
  std::uint32_t magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint16_t abi = PG_ABI;
  std::uint16_t op = 0;
  std::uint16_t flags = 0;
  std::uint32_t count = 0;    // bodies
  std::uint32_t request = 0;  // the client's number; the reply has the same, 0 in what is unasked
  std::uint32_t size = 0;     // of one body, as the sender knows it
};

// What went wrong. The numbers are the exit codes of the command line, where kBusy is 4.
enum class Status : std::uint32_t {
  kOk = 0,
  kNotFound = 1,      // no such guard, process, cgroup
  kInvalid = 2,       // the request makes no sense
  kNotPermitted = 4,  // by authority, ceiling or quota
  kUnsupported = 5,   // the kernel or this agent cannot
  kBusy = 6,          // try again later: too many requests, no room
};

struct ErrorBody {
  std::uint32_t status = 0;  // Status
  std::uint32_t index = 0;   // of the body it is about; those before it were carried out
  std::int32_t code = 0;     // errno, or 0
  std::uint32_t padding = 0;
  char text[kErrorText] = {};
};

enum AttachFlags : std::uint32_t {
  kHasFd = 1 << 0,     // a pidfd, or the directory of a cgroup, comes along; else `pid` names it
  kHeld = 1 << 1,      // armed, but its clocks start with kStart (run: after the exec)
  kSession = 1 << 2,   // ends with the connection that made it
  kFailsafe = 1 << 3,  // the kernel takes the last step while no agent runs
  kMonitor = 1 << 4,   // steps are recorded, not taken
};

struct AttachBody {
  std::uint32_t flags = 0;  // AttachFlags
  std::uint32_t scope = 0;  // enum pg_scope
  std::uint32_t pid = 0;    // in the agent's pid namespace; 0 where a descriptor comes along
  std::uint32_t tid = 0;    // scope thread, in the agent's pid namespace
  std::uint64_t limit[PG_RESOURCES] = {};  // by enum pg_resource; 0 = none
  std::uint64_t grace_ns = 0;
  std::uint64_t step_grace_ns = 0;  // 0 = default
  std::uint32_t steps = 0;
  std::uint32_t padding = 0;
  pg_step ladder[PG_STEPS] = {};
  char name[PG_NAME_LEN] = {};
  char labels[PG_LABELS_LEN] = {};  // "K=V" lines
};

struct ArmedBody {
  std::uint64_t id = 0;
  std::uint64_t target_start_ns = 0;
  std::uint32_t pid = 0;  // in the agent's pid namespace
  std::uint32_t padding = 0;
};

// Which guard: by id, or by name where id is 0.
struct RefBody {
  std::uint64_t id = 0;
  char name[PG_NAME_LEN] = {};
};

struct StartBody {
  std::uint64_t id = 0;
  std::uint64_t at_ns = 0;  // 0 = when the exec was, by the kernel, else now
};

struct SetBody {
  RefBody guard;
  std::uint64_t limit[PG_RESOURCES] = {};  // 0 = leave as it is
};

struct GuardBody {
  pg_guard guard{};
};

struct ListBody {
  std::uint64_t after = 0;
  std::uint32_t ended = 0;  // 1: ended guards too
  std::uint32_t padding = 0;
};

// One line of a list: a guard with what its target uses now.
struct RowBody {
  pg_guard guard{};
  std::uint64_t now_ns = 0;
  std::uint64_t cpu_ns = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint64_t processes = 0;
  std::uint32_t degraded = 0;
  std::uint32_t session_pid = 0;  // of the program it belongs to; 0: it is no session's
  char comm[PG_COMM_LEN] = {};    // of the target's first process
};

struct ShowBody {
  RowBody row;
  std::uint64_t memory_plain_bytes = 0;
  std::uint64_t memory_plain_peak_bytes = 0;
  std::uint64_t exec_ns = 0;
  pg_usage usage{};
  char labels[PG_LABELS_LEN] = {};
  char cgroup[256] = {};  // path, cut if it is longer
};

struct ThreadBody {
  std::uint32_t pid = 0;
  std::uint32_t tid = 0;
  char comm[PG_COMM_LEN] = {};
  std::uint32_t state = 0;  // the letter of /proc/PID/stat
  std::uint32_t padding = 0;
  pg_usage usage{};
};

struct EventsBody {
  std::uint64_t since_seq = 0;      // events with a higher number
  std::uint64_t since_real_ns = 0;  // and not before this time (CLOCK_REALTIME)
  std::uint64_t guard = 0;          // of this one; 0 = all
};

inline constexpr std::uint32_t kReachedPids = 14;

struct EventBody {
  std::uint64_t seq = 0;  // 1, 2, ...; with a gap where events were lost to this client
  std::uint64_t real_ns = 0;
  pg_event event{};
  std::uint32_t scope = 0;
  std::uint32_t owner_uid = 0;
  std::uint32_t mode = 0;
  std::uint32_t reached = 0;  // processes that got the signal, of which the first are listed
  std::uint32_t refused = 0;
  std::uint32_t padding = 0;
  std::uint32_t reached_pids[kReachedPids] = {};
  std::uint32_t refused_pids[kReachedPids] = {};
  std::uint64_t over_since_ns = 0;
  std::uint64_t base = 0;
};

struct StatusBody {
  std::uint32_t pid = 0;
  std::uint32_t may = 0;  // 1: the asker may do everything
  std::uint64_t started_ns = 0;
  std::uint64_t guards = 0;
  std::uint64_t ended = 0;
  std::uint64_t sessions = 0;
  std::uint64_t connections = 0;
  std::uint64_t watches = 0;
  std::uint64_t watches_max = 0;
  std::uint64_t events = 0;
  std::uint64_t events_lost = 0;
  pg_losses losses{};
  std::uint64_t gap_ns = 0;  // how long nobody controlled before this agent; 0 = first start
  std::uint64_t adopted = 0;
  std::uint32_t exact_sums = 0;
  std::uint32_t failsafe_sleepers = 0;  // 1: the kernel reaches sleeping targets (6.13)
  char version[16] = {};
  char pin_dir[128] = {};
};

struct SessionBody {
  std::uint32_t flags = 0;
  std::uint32_t padding = 0;
};

struct SessionReply {
  std::uint64_t id = 0;
  std::uint32_t pid = 0;
  std::uint32_t padding = 0;
};

struct ThresholdsBody {
  std::uint64_t bytes[2] = {};  // 0 = none
};

struct LevelBody {
  std::uint64_t memory_bytes = 0;
  std::uint64_t over_since_ns[2] = {};
  std::uint64_t set_over_since_ns[2] = {};
  std::uint64_t episodes[2] = {};
};

static_assert(sizeof(Header) == 24);
static_assert(sizeof(ErrorBody) == 248);
static_assert(sizeof(AttachBody) == 504);
static_assert(sizeof(RefBody) == 56);
static_assert(sizeof(RowBody) == 704);
static_assert(sizeof(ThreadBody) == 136);
static_assert(sizeof(EventBody) == 296);
static_assert(sizeof(LevelBody) == 56);

template <typename Body>
inline constexpr std::size_t kMostBodies = (kMaxRecord - sizeof(Header)) / sizeof(Body);

}  // namespace procguard::proto
