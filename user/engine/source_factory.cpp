// SPDX-License-Identifier: Apache-2.0
#include "engine/source_factory.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "engine/bpf_source.h"
#include "engine/procfs_source.h"
#include "sys/caps.h"
#include "sys/namespaces.h"

namespace procguard::engine {
namespace {

// Empty where nothing is missing. Asked first: trying to load takes milliseconds and the kernel's
// answer names no capability.
std::string missing_capabilities() {
  auto capabilities = sys::read_capabilities();
  if (!capabilities) {
    return {};  // the kernel will say
  }
  std::string names;
  for (const std::string& name : sys::missing_for_bpf(capabilities.value())) {
    names += (names.empty() ? "" : " and ") + name;
  }
  return names.empty() ? names : "BPF needs " + names;
}

Result<std::unique_ptr<Source>> make_bpf(const SourceRequest& request, const core::Clock& clock) {
  if (const std::string missing = missing_capabilities(); !missing.empty()) {
    return Error(missing, EPERM);
  }
  // BPF programs see the kernel's pid numbers: elsewhere ours name other processes.
  if (!sys::in_host_pid_namespace()) {
    return Error("BPF needs the host's pid namespace, and this is another one", EPERM);
  }
  BpfSourceOptions options;
  options.load.cgroups = request.cgroups;
  options.load.memory = request.memory;
  options.account_memory = request.memory;
  auto source = BpfSource::create(clock, options);
  if (!source) {
    return source.error();
  }
  return std::unique_ptr<Source>(std::move(source).value());
}

}  // namespace

Result<ChosenSource> make_source(const SourceRequest& request, const core::Clock& clock) {
  ChosenSource chosen;
  if (request.kind != SourceKind::kProcfs) {
    auto bpf = make_bpf(request, clock);
    if (bpf) {
      chosen.source = std::move(bpf).value();
      return chosen;
    }
    if (request.kind == SourceKind::kBpf) {
      return bpf.error().in("source bpf");
    }
    chosen.weaker_because = bpf.error().message();
  }
  auto procfs = ProcfsSource::create(clock, default_procfs_options());
  if (!procfs) {
    return procfs.error().in("source procfs");
  }
  chosen.source = std::move(procfs).value();
  return chosen;
}

}  // namespace procguard::engine
