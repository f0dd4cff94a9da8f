// SPDX-License-Identifier: Apache-2.0
#include "client/own_source.h"

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "engine/bpf_source.h"
#include "engine/procfs_source.h"
#include "proto/client.h"
#include "proto/messages.h"
#include "sys/caps.h"
#include "sys/namespaces.h"
#include "sys/seqpacket.h"

namespace procguard::client {
namespace {

constexpr std::pair<const char*, Wish> kWishes[] = {
    {"", Wish::kAuto},   {"auto", Wish::kAuto},     {"agent", Wish::kAgent},
    {"bpf", Wish::kBpf}, {"procfs", Wish::kProcfs},
};

std::string environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

bool may_have_bpf() {
  const auto capabilities = sys::read_capabilities();
  return capabilities && sys::missing_for_bpf(capabilities.value()).empty() &&
         sys::in_host_pid_namespace();
}

Result<std::unique_ptr<engine::BpfSource>> make_bpf(const core::Clock& clock) {
  if (!may_have_bpf()) {
    return Error("BPF needs CAP_BPF, CAP_PERFMON and the host's pid namespace", EPERM);
  }
  engine::BpfSourceOptions options;
  // One process: the maps hold it and what it forks while it is being looked at.
  options.load.watches = 1;
  options.load.processes = 64;
  options.load.threads = 4096;
  options.load.cgroups = false;
  options.account_memory = true;
  options.account_time = false;
  return engine::BpfSource::create(clock, options);
}

Result<Wish> wish_of(const std::string& text) {
  for (const auto& [name, wanted] : kWishes) {
    if (text == name) {
      return wanted;
    }
  }
  return Error("PROCGUARD_SOURCE: '" + text + "' is none of auto, agent, bpf, procfs", EINVAL);
}

}  // namespace

Wanted read_environment() {
  const std::string socket = environment("PROCGUARD_SOCKET");
  return {.source = wish_of(environment("PROCGUARD_SOURCE")),
          .socket = socket.empty() ? proto::kDefaultSocket : socket};
}

Result<Readings> make_own_source(Wish wanted, const core::Clock& clock) {
  Readings own;
  if (wanted != Wish::kProcfs) {
    auto made = make_bpf(clock);
    if (made) {
      own.bpf = made->get();
      own.source = std::move(made).value();
      return own;
    }
    if (wanted == Wish::kBpf) {
      return made.error().in("source bpf");
    }
    if (made.error().code() != EPERM) {
      own.weaker_because = made.error().message();
    }
  }
  auto made = engine::ProcfsSource::create(clock, engine::default_procfs_options());
  if (!made) {
    return made.error().in("source procfs");
  }
  own.procfs = made->get();
  own.source = std::move(made).value();
  return own;
}

namespace {

bool an_agent_listens(const std::string& path) {
  const auto socket = sys::SeqPacket::connect(path, false);
  return socket && proto::Client::check_server(socket.value(), path);
}

}  // namespace

const char* likely_source_name() {
  const Wanted wanted = read_environment();
  if (!wanted.source || wanted.source.value() == Wish::kProcfs) {
    return "procfs";
  }
  const Wish wish = wanted.source.value();
  if (wish == Wish::kAgent || (wish == Wish::kAuto && an_agent_listens(wanted.socket))) {
    return "agent";
  }
  return wish == Wish::kBpf || may_have_bpf() ? "bpf" : "procfs";
}

}  // namespace procguard::client
