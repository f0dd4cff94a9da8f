// SPDX-License-Identifier: Apache-2.0
// What the agent is told: the command line of `procguard agent`, and a TOML file under it. Pure but
// for reading the file.
//
//   [agent]   socket_group, max_guards_per_uid, max_guards, max_processes, max_threads,
//   max_watches,
//             log ("text", "json", "journal")
//   [ceiling] timeout, cpu, memory, memory_growth ("24h", "8G"), scopes = ["process", "tree"]
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/authority.h"
#include "agent/log.h"
#include "core/result.h"

namespace procguard::agent {

struct Config {
  std::string file;  // empty: none
  std::string socket = proto::kDefaultSocket;
  std::string pin_dir = "/sys/fs/bpf/procguard";
  std::string socket_group = "procguard";  // a group that does not exist: root only
  LogFormat log = LogFormat::kText;
  std::uint32_t max_guards = 131072;
  std::uint32_t max_watches = 16384;
  std::uint32_t max_processes = 32768;
  std::uint32_t max_threads = 65536;
  Ceiling ceiling;
};

struct AgentRequest {
  Config config;
  bool teardown = false;
  std::string help;  // not empty: print this and do nothing else
};

// `args`: what follows the word "agent". What is on the command line wins over the file; a file
// that was not named and is not there (/etc/procguard/procguard.toml) is none. An error says where
// (file, line, key) and what was expected; an unknown key is one.
Result<AgentRequest> parse_agent_options(const std::vector<std::string>& args);

// The file alone, over what `config` has.
Result<void> read_config(const std::string& path, Config& config);

}  // namespace procguard::agent
