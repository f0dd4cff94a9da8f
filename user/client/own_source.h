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

// What PROCGUARD_SOURCE says.
enum class Wish { kAuto, kAgent, kBpf, kProcfs };
Result<Wish> wish();

// PROCGUARD_SOCKET, or where agents listen.
std::string agent_socket();

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

// Where readings would come from if they began now.
const char* likely_source_name();

}  // namespace procguard::client
