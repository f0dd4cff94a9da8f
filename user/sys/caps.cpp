// SPDX-License-Identifier: Apache-2.0
#include "sys/caps.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>

#include "sys/files.h"
#include "sys/procfs_parse.h"

namespace procguard::sys {

namespace {

constexpr std::array<const char*, 41> kNames = {"CAP_CHOWN",
                                                "CAP_DAC_OVERRIDE",
                                                "CAP_DAC_READ_SEARCH",
                                                "CAP_FOWNER",
                                                "CAP_FSETID",
                                                "CAP_KILL",
                                                "CAP_SETGID",
                                                "CAP_SETUID",
                                                "CAP_SETPCAP",
                                                "CAP_LINUX_IMMUTABLE",
                                                "CAP_NET_BIND_SERVICE",
                                                "CAP_NET_BROADCAST",
                                                "CAP_NET_ADMIN",
                                                "CAP_NET_RAW",
                                                "CAP_IPC_LOCK",
                                                "CAP_IPC_OWNER",
                                                "CAP_SYS_MODULE",
                                                "CAP_SYS_RAWIO",
                                                "CAP_SYS_CHROOT",
                                                "CAP_SYS_PTRACE",
                                                "CAP_SYS_PACCT",
                                                "CAP_SYS_ADMIN",
                                                "CAP_SYS_BOOT",
                                                "CAP_SYS_NICE",
                                                "CAP_SYS_RESOURCE",
                                                "CAP_SYS_TIME",
                                                "CAP_SYS_TTY_CONFIG",
                                                "CAP_MKNOD",
                                                "CAP_LEASE",
                                                "CAP_AUDIT_WRITE",
                                                "CAP_AUDIT_CONTROL",
                                                "CAP_SETFCAP",
                                                "CAP_MAC_OVERRIDE",
                                                "CAP_MAC_ADMIN",
                                                "CAP_SYSLOG",
                                                "CAP_WAKE_ALARM",
                                                "CAP_BLOCK_SUSPEND",
                                                "CAP_AUDIT_READ",
                                                "CAP_PERFMON",
                                                "CAP_BPF",
                                                "CAP_CHECKPOINT_RESTORE"};
static_assert(kNames.size() == CAP_CHECKPOINT_RESTORE + 1);

// The kernel's fixed inode number of the initial user namespace.
constexpr std::string_view kInitialUserNamespace = "user:[4026531837]";

ResourceLimit limit_of(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) {
    return {};
  }
  const auto value = [](rlim_t raw) {
    return raw == RLIM_INFINITY ? kUnlimited : static_cast<std::uint64_t>(raw);
  };
  return {value(limit.rlim_cur), value(limit.rlim_max)};
}

// The kernel may know more of them than its header said when this was compiled.
Result<void> shrink_bounding_set(std::uint64_t keep) {
  for (int i = 0; i < 64; ++i) {
    const int held = ::prctl(PR_CAPBSET_READ, i, 0, 0, 0);
    if (held < 0) {
      break;  // the first number that is no capability
    }
    const bool keeps = ((keep >> i) & 1U) != 0;
    if (held == 1 && !keeps && ::prctl(PR_CAPBSET_DROP, i, 0, 0, 0) != 0) {
      return Error::system("dropping " + capability_name(i) + " from the bounding set", errno);
    }
  }
  return {};
}

// The sets of the calling thread.
Result<void> reduce_to(std::uint64_t keep) {
  // The C library has no wrappers; version 3 takes two halves of 32 bits.
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> halves{};
  if (::syscall(SYS_capget, &header, halves.data()) != 0) {
    return Error::system("reading own capabilities", errno);
  }
  const auto reduce = [](__user_cap_data_struct& half, std::uint64_t part) {
    half.effective &= static_cast<__u32>(part);
    half.permitted &= static_cast<__u32>(part);
    half.inheritable &= static_cast<__u32>(part);
  };
  reduce(halves[0], keep);
  reduce(halves[1], keep >> 32);
  // The kernel takes out of the ambient set what is no longer permitted and inheritable.
  if (::syscall(SYS_capset, &header, halves.data()) != 0) {
    return Error::system("giving up capabilities", errno);
  }
  return {};
}

}  // namespace

Result<Capabilities> read_capabilities(const std::string& proc_self) {
  const auto text = read_file(proc_self + "/status");
  if (!text) {
    return text.error().in("reading own capabilities");
  }
  const auto field = status_field(text.value(), "CapEff");
  Capabilities capabilities;
  const auto parsed =
      std::from_chars(field.data(), field.data() + field.size(), capabilities.effective, 16);
  if (field.empty() || parsed.ec != std::errc() || parsed.ptr != field.data() + field.size()) {
    return Error("reading own capabilities: no CapEff in " + proc_self + "/status");
  }
  // No such link: a kernel without user namespaces.
  const auto name_space = read_link(proc_self + "/ns/user");
  capabilities.initial_user_namespace = !name_space || name_space.value() == kInitialUserNamespace;
  return capabilities;
}

std::string capability_name(int capability) {
  const auto index = static_cast<std::size_t>(capability);
  return index < kNames.size() ? kNames[index] : "CAP_" + std::to_string(capability);
}

std::vector<std::string> capability_names(const Capabilities& capabilities) {
  std::vector<std::string> names;
  for (int i = 0; i < 64; ++i) {
    if (capabilities.has(i)) {
      names.push_back(capability_name(i));
    }
  }
  return names;
}

std::vector<std::string> missing_for_bpf(const Capabilities& capabilities) {
  std::vector<std::string> missing;
  const bool counts = capabilities.initial_user_namespace;
  for (const int wanted : {CAP_BPF, CAP_PERFMON}) {
    if (!counts || (!capabilities.has(wanted) && !capabilities.has(CAP_SYS_ADMIN))) {
      missing.push_back(capability_name(wanted));
    }
  }
  return missing;
}

bool may_signal_any(const Capabilities& capabilities) {
  return capabilities.has(CAP_KILL) && capabilities.initial_user_namespace;
}

Result<void> keep_only(std::span<const int> capabilities) {
  std::uint64_t keep = 0;
  for (const int capability : capabilities) {
    keep |= std::uint64_t{1} << capability;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::system("giving up new privileges", errno);
  }
  // First: it takes a capability that may be gone after the rest.
  if (auto shrunk = shrink_bounding_set(keep); !shrunk) {
    return shrunk;
  }
  return reduce_to(keep);
}

Result<void> give_up_all() {
  return reduce_to(0);
}

Lockdown parse_lockdown(std::string_view text) {
  if (text.find("[none]") != std::string_view::npos) {
    return Lockdown::kNone;
  }
  if (text.find("[integrity]") != std::string_view::npos) {
    return Lockdown::kIntegrity;
  }
  if (text.find("[confidentiality]") != std::string_view::npos) {
    return Lockdown::kConfidentiality;
  }
  return Lockdown::kUnknown;
}

Lockdown read_lockdown(const std::string& path) {
  const auto text = read_file(path);
  return text ? parse_lockdown(text.value()) : Lockdown::kUnknown;
}

const char* lockdown_name(Lockdown lockdown) {
  switch (lockdown) {
    case Lockdown::kNone:
      return "none";
    case Lockdown::kIntegrity:
      return "integrity";
    case Lockdown::kConfidentiality:
      return "confidentiality";
    case Lockdown::kUnknown:
      break;
  }
  return "unknown";
}

ResourceLimits read_resource_limits() {
  return {.open_files = limit_of(RLIMIT_NOFILE),
          .locked_memory_bytes = limit_of(RLIMIT_MEMLOCK),
          .processes = limit_of(RLIMIT_NPROC)};
}

}  // namespace procguard::sys
