// SPDX-License-Identifier: Apache-2.0
// Chooses where usage comes from. Called once, from the thread that will own the source.
#pragma once

#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "engine/source.h"

namespace procguard::engine {

enum class SourceKind { kAuto, kBpf, kProcfs };

struct ChosenSource {
  std::unique_ptr<Source> source;
  // Why it is weaker than it could be: auto was asked for and BPF cannot be had. Empty: it is not.
  std::string weaker_because;
};

struct SourceRequest {
  SourceKind kind = SourceKind::kAuto;
  bool memory = false;   // RSS is asked for: by a limit or by a reader
  bool cgroups = false;  // the target is a cgroup
};

// auto: BPF where this process may have it and it loads, else /proc. bpf: BPF or an error that
// names what is missing.
Result<ChosenSource> make_source(const SourceRequest& request, const core::Clock& clock);

}  // namespace procguard::engine
