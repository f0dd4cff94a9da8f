// SPDX-License-Identifier: Apache-2.0
// The command line of `procguard attach`: argv in, checked options out. Pure.
#pragma once

#include <string>
#include <vector>

#include "cli/agent_options.h"
#include "cli/target.h"

namespace procguard::cli {

struct AttachOptions : AgentOptions {
  TargetWords target;
  core::GuardSpec guard;
  std::string labels;  // "K=V" lines
};

Result<AttachOptions> parse_attach_options(const std::vector<std::string>& args);

// The request that goes with a target's descriptor.
proto::AttachBody attach_body(const AttachOptions& options, const Target& target);

}  // namespace procguard::cli
