// SPDX-License-Identifier: Apache-2.0
#include "kernel/shared.h"

#include <cstddef>
#include <initializer_list>

#include "procguard.skel.h"

namespace procguard::kernel {
namespace {

using Globals = procguard_bpf::procguard_bpf__bss;

}  // namespace

std::size_t shared_bytes() {
  return sizeof(Globals);
}

SharedGlobals shared_globals(void* mapping) {
  auto* globals = static_cast<Globals*>(mapping);
  return {.watched = &globals->pg_watched,
          .watched_bytes = sizeof(globals->pg_watched),
          .cgroup_watches = &globals->pg_cgroup_watches,
          .exact_sums = &globals->pg_exact_sums,
          .enrol_request = &globals->pg_enrol_request,
          .agent = &globals->pg_agent,
          .event_told = &globals->pg_event_told};
}

std::uint64_t shared_layout() {
  constexpr std::uint64_t kPrime = 1099511628211ULL;  // FNV-1a over what matters
  std::uint64_t hash = 14695981039346656037ULL;
  for (const std::size_t number :
       {sizeof(Globals), offsetof(Globals, pg_watched), offsetof(Globals, pg_cgroup_watches),
        offsetof(Globals, pg_exact_sums), offsetof(Globals, pg_enrol_request),
        offsetof(Globals, pg_agent), offsetof(Globals, pg_event_told), sizeof(pg_watch),
        sizeof(pg_process), sizeof(pg_thread), sizeof(pg_guard)}) {
    hash = (hash ^ number) * kPrime;
  }
  return hash;
}

}  // namespace procguard::kernel
