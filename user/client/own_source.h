// SPDX-License-Identifier: Apache-2.0
// Where a program's memory readings are to come from, and the sources that it can make by itself.
#pragma once

#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "engine/source.h"

namespace procguard::engine {
class BpfSource;
class ProcfsSource;
}  // namespace procguard::engine

namespace procguard::client {

class AgentSource;

enum class Wish { kAuto, kAgent, kBpf, kProcfs };

// What the environment says. Not for the monitor: the program may be changing it, and has no way to
// keep a thread that it does not know of from reading meanwhile.
struct Wanted {
  Result<Wish> source = Wish::kAuto;  // PROCGUARD_SOURCE; an error: it is none of them
  std::string socket;                 // PROCGUARD_SOCKET, or where agents listen
};
Wanted read_environment();

// A source, and which it is: one of the three is set.
struct Readings {
  std::unique_ptr<engine::Source> source;
  AgentSource* agent = nullptr;
  engine::BpfSource* bpf = nullptr;
  engine::ProcfsSource* procfs = nullptr;
  std::string weaker_because;  // of kAuto; empty where nobody has to hear of it
};
// For this process alone. kAuto: BPF where it can be had, else /proc.
Result<Readings> make_own_source(Wish wanted, const core::Clock& clock);

// Where readings would come from if they began now; by the environment.
const char* likely_source_name();

}  // namespace procguard::client
