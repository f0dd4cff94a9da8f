// SPDX-License-Identifier: Apache-2.0
// What procguard doctor looks at.
#include <grp.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <thread>

#include "cli/doctor.h"
#include "proto/client.h"
#include "sys/files.h"
#include "sys/namespaces.h"
#include "sys/procfs.h"

namespace procguard::cli {
namespace {

std::string mounted_at(const std::vector<sys::Mount>& mounts, const std::string& type) {
  for (const auto& mount : mounts) {
    if (mount.type == type) {
      return mount.point;
    }
  }
  return {};
}

std::uint64_t read_number(const std::string& path) {
  const auto text = sys::read_file(path);
  std::uint64_t value = 0;
  if (text) {
    std::from_chars(text.value().data(), text.value().data() + text.value().size(), value);
  }
  return value;
}

void look_for_agent(Facts& facts) {
  const char* elsewhere = std::getenv("PROCGUARD_SOCKET");
  facts.agent_socket =
      elsewhere != nullptr && *elsewhere != '\0' ? elsewhere : proto::kDefaultSocket;
  const auto client = proto::Client::connect(facts.agent_socket, 5 * core::kSecond);
  facts.agent_error = client ? 0 : client.error().code();
  struct stat about {};
  if (::stat(facts.agent_socket.c_str(), &about) == 0 && (about.st_mode & S_IWGRP) != 0) {
    const struct group* entry = ::getgrgid(about.st_gid);
    facts.agent_group = entry != nullptr ? entry->gr_name : std::to_string(about.st_gid);
  }
}

}  // namespace

Facts collect_facts() {
  Facts facts;
  utsname names{};
  if (::uname(&names) == 0) {
    facts.release = static_cast<const char*>(names.release);
    facts.machine = static_cast<const char*>(names.machine);
  }
  facts.features = kernel::probe_features();
  if (const auto capabilities = sys::read_capabilities()) {
    facts.capabilities = capabilities.value();
  }
  facts.host_pid_namespace = sys::in_host_pid_namespace();
  facts.lockdown = sys::read_lockdown();
  if (const auto mounts = sys::ProcRoot().mounts()) {
    facts.cgroups = sys::find_cgroup_mounts(mounts.value());
    facts.tracefs = mounted_at(mounts.value(), "tracefs");
    facts.bpffs = mounted_at(mounts.value(), "bpf");
  }
  if (facts.cgroups.v2) {
    facts.cgroup_writable = ::access(facts.cgroups.v2->point.c_str(), W_OK) == 0;
  }
  facts.limits = sys::read_resource_limits();
  look_for_agent(facts);
  facts.pid_max = read_number("/proc/sys/kernel/pid_max");
  // In a thread of its own: this one shall not become a real-time thread.
  std::thread([&facts] { facts.scheduling = sys::request_sched_fifo(); }).join();
  return facts;
}

}  // namespace procguard::cli
