// SPDX-License-Identifier: Apache-2.0
#include "cli/doctor.h"

#include <linux/capability.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

using Version = std::pair<int, int>;
constexpr Version kOldestTested{6, 1};
constexpr std::uint64_t kFewFiles = 256;
constexpr std::size_t kIndent = 24;  // of what is said about a check

constexpr const char* kFallsBack =
    "guards by time work; memory and CPU time are read from /proc, up to every 100 ms "
    "(--source procfs)";

Check ok(std::string id, std::string found, std::string means) {
  return {std::move(id), CheckStatus::kOk, std::move(found), std::move(means), ""};
}

// "6.1.0-18-amd64" -> 6, 1; 0, 0 for what is none.
Version version_of(const std::string& release) {
  Version version;
  const char* end = release.data() + release.size();
  const auto major = std::from_chars(release.data(), end, version.first);
  if (major.ec == std::errc() && major.ptr != end && *major.ptr == '.') {
    std::from_chars(major.ptr + 1, end, version.second);
  }
  return version;
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const auto& word : words) {
    text += (text.empty() ? "" : between) + word;
  }
  return text;
}

std::string number_or_unlimited(std::uint64_t value) {
  return value == sys::kUnlimited ? "unlimited" : std::to_string(value);
}

Check check_kernel(const Facts& facts) {
  const std::string found = facts.release + " (" + facts.machine + ")";
  if (version_of(facts.release) < kOldestTested) {
    return {"kernel", CheckStatus::kWarn, found, "procguard is tested on 6.1 and newer",
            "where a check below fails, use a newer kernel"};
  }
  return ok("kernel", found, "procguard is tested on 6.1 and newer");
}

Check check_btf(const Facts& facts) {
  if (!facts.features.btf) {
    return {"btf", CheckStatus::kMissing, "the kernel does not describe its types",
            "no BPF program can be fitted to it",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y (all current distributions)"};
  }
  return ok("btf", "the kernel describes its types", "BPF programs can be fitted to it");
}

Check check_capabilities(const Facts& facts) {
  const auto missing = sys::missing_for_bpf(facts.capabilities);
  if (missing.empty()) {
    return ok("capabilities",
              facts.capabilities.has(CAP_SYS_ADMIN) ? "CAP_SYS_ADMIN" : "CAP_BPF and CAP_PERFMON",
              "BPF programs may be loaded");
  }
  const bool inside = !facts.capabilities.initial_user_namespace;
  return {"capabilities", CheckStatus::kMissing,
          joined(missing, " and ") + (missing.size() > 1 ? " are" : " is") + " missing" +
              (inside ? " (capabilities of a user namespace do not count)" : ""),
          "BPF programs may not be loaded",
          inside ? "run procguard outside of the user namespace (rootless container)"
                 : "run as root, or: setcap cap_bpf,cap_perfmon+ep $(command -v procguard)"};
}

Check check_pid_namespace(const Facts& facts) {
  if (facts.host_pid_namespace) {
    return ok("pid_namespace", "the host's", "pids mean the same here and in the kernel");
  }
  return {"pid_namespace", CheckStatus::kMissing, "a container's",
          "BPF programs see other pids than this process, so they are not used",
          "run procguard on the host, or in a container with its pid namespace (--pid=host)"};
}

Check check_lockdown(const Facts& facts) {
  const std::string found = sys::lockdown_name(facts.lockdown);
  if (facts.lockdown == sys::Lockdown::kConfidentiality) {
    return {"lockdown", CheckStatus::kWarn, found,
            "BPF programs may not read kernel memory: RSS sums are not exact, some programs may "
            "not load",
            "lockdown=integrity on the kernel's command line, if your rules allow it"};
  }
  if (facts.lockdown == sys::Lockdown::kUnknown) {
    return ok("lockdown", "not told (securityfs is not mounted, or the kernel has no lockdown)",
              "whether BPF programs load is tried below");
  }
  return ok("lockdown", found, "BPF programs may read kernel memory");
}

Check check_programs(const Facts& facts) {
  const auto& features = facts.features;
  if (features.programs_load && features.programs_attach) {
    return ok("programs", "all load and attach",
              "limits are compared in the kernel, nothing polls (--source bpf)");
  }
  if (!sys::missing_for_bpf(facts.capabilities).empty() || !features.btf) {
    return {"programs", CheckStatus::kMissing, "do not load without what is missing above",
            kFallsBack, "see above"};
  }
  const std::string reason = features.error.empty() ? "" : ": " + sys::printable(features.error);
  return {"programs", CheckStatus::kMissing,
          (features.programs_load ? "do not attach" : "do not load") + reason, kFallsBack,
          "please report this with the output of doctor --json"};
}

// The rest is known only once the programs could be loaded.
bool tried(const Facts& facts) {
  return facts.features.programs_load;
}

Check not_tried(std::string id, std::string means) {
  return {std::move(id), CheckStatus::kWarn, "not known: the programs do not load",
          std::move(means), "see above"};
}

Check check_sums(const Facts& facts) {
  const std::string id = "exact_sums";
  if (!tried(facts)) {
    return not_tried(id, "how exact memory limits are is not known");
  }
  if (facts.features.exact_sums) {
    return ok(id, "RSS is read exactly",
              "a memory limit is seen crossed at the page that crosses it");
  }
  return {id, CheckStatus::kWarn, "RSS lags by up to 32 pages a CPU and kind of page",
          "a memory limit may be overshot by that much",
          facts.lockdown == sys::Lockdown::kConfidentiality
              ? "see lockdown, or set memory limits lower by that much"
              : "set memory limits lower by that much"};
}

Check check_rss_events(const Facts& facts) {
  const std::string id = "rss_events";
  if (!facts.features.btf) {
    return not_tried(id, "how soon a memory limit is seen crossed is not known");
  }
  if (facts.features.percpu_rss) {
    return ok(id, "every change of RSS is seen (6.2 and newer)", "no page goes unnoticed");
  }
  return {id, CheckStatus::kWarn, "about every 64th change of RSS of a thread is seen (before 6.2)",
          "a memory limit may be overshot by about 256 KiB a thread", "use kernel 6.2 or newer"};
}

Check check_owner(const Facts& facts) {
  const std::string id = "mm_owner";
  if (!facts.features.btf) {
    return not_tried(id, "whether memory can be guarded is not known");
  }
  if (facts.features.mm_owner) {
    return ok(id, "the kernel knows whose an address space is (CONFIG_MEMCG)",
              "memory can be guarded");
  }
  return {id, CheckStatus::kMissing, "the kernel does not know whose an address space is",
          "memory cannot be guarded by BPF; use --source procfs for memory limits",
          "use a kernel with CONFIG_MEMCG=y"};
}

Check check_sched_info(const Facts& facts) {
  const std::string id = "sched_info";
  if (!facts.features.btf) {
    return not_tried(id, "whether reports tell waiting for a CPU from being blocked is not known");
  }
  if (facts.features.sched_info) {
    return ok(id, "the kernel counts the wait for a CPU (CONFIG_SCHED_INFO)",
              "reports tell a starved thread from a blocked one");
  }
  return {id, CheckStatus::kWarn, "the kernel does not count the wait for a CPU",
          "reports count it as blocked time",
          "use a kernel with CONFIG_SCHED_INFO=y (CONFIG_SCHEDSTATS or TASK_DELAY_ACCT)"};
}

Check check_cgroups(const Facts& facts) {
  const auto& cgroups = facts.cgroups;
  if (!cgroups.v2) {
    return {
        "cgroup", CheckStatus::kWarn, "no cgroup v2 hierarchy is mounted",
        "--scope cgroup and --cgroup do not work; threads, processes and trees do",
        "mount -t cgroup2 none /sys/fs/cgroup (or boot with systemd.unified_cgroup_hierarchy=1)"};
  }
  std::string found = "v2 at " + sys::printable(cgroups.v2->point);
  if (!cgroups.v1_points.empty()) {
    found += ", beside " + std::to_string(cgroups.v1_points.size()) + " v1 hierarchies";
  }
  if (!facts.cgroup_writable) {
    return {"cgroup", CheckStatus::kWarn, found + ", not writable",
            "existing cgroups can be guarded; --cgroup works where you may write",
            "run as root, or have a subtree delegated (systemd: Delegate=yes)"};
  }
  return ok("cgroup", found,
            "cgroups can be guarded; memory is counted by procguard itself, not by controllers");
}

Check check_tracefs(const Facts& facts) {
  if (facts.tracefs.empty()) {
    return {"tracefs", CheckStatus::kWarn, "not mounted",
            "guard events cannot be read with bpftool prog tracelog; all else works",
            "mount -t tracefs tracefs /sys/kernel/tracing"};
  }
  return ok("tracefs", "at " + sys::printable(facts.tracefs),
            "guard events can be read with bpftool prog tracelog");
}

Check check_bpffs(const Facts& facts) {
  if (facts.bpffs.empty()) {
    return {"bpffs", CheckStatus::kWarn, "not mounted",
            "maps cannot be pinned; guards of run do not need that",
            "mount -t bpf bpf /sys/fs/bpf"};
  }
  return ok("bpffs", "at " + sys::printable(facts.bpffs), "maps can be pinned");
}

Check check_open_files(const Facts& facts) {
  const auto& limit = facts.limits.open_files;
  const std::string found =
      number_or_unlimited(limit.soft) + " (at most " + number_or_unlimited(limit.hard) + ")";
  if (limit.soft < kFewFiles) {
    return {"open_files", CheckStatus::kWarn, found,
            "few members of a tree can be held open; the others are looked up at each signal",
            "ulimit -n 1024"};
  }
  return ok("open_files", found, "half of them are used to hold members of a tree");
}

Check check_locked_memory(const Facts& facts) {
  const std::string found =
      number_or_unlimited(facts.limits.locked_memory_bytes.soft) +
      (facts.limits.locked_memory_bytes.soft == sys::kUnlimited ? "" : " bytes");
  if (version_of(facts.release) < Version{5, 11}) {
    return {"locked_memory", CheckStatus::kWarn, found,
            "this kernel counts BPF maps as locked memory", "ulimit -l unlimited"};
  }
  return ok("locked_memory", found, "BPF maps are not counted as locked memory (since 5.11)");
}

Check check_pid_max(const Facts& facts) {
  return ok("pid_max", facts.pid_max == 0 ? "not known" : std::to_string(facts.pid_max),
            "pids come back after so many; members are held by pidfds, not by numbers");
}

Check check_scheduling(const Facts& facts) {
  const std::string found = facts.scheduling.describe();
  if (facts.scheduling.policy == SCHED_FIFO) {
    return ok("realtime", found, "procguard gets a CPU even if the guarded work uses all of them");
  }
  return {"realtime", CheckStatus::kWarn, found,
          "where the kernel does not take the first step itself, a signal may be some "
          "milliseconds late on a busy machine",
          "run as root, or with CAP_SYS_NICE or an RLIMIT_RTPRIO of 1"};
}

const char* status_name(CheckStatus status) {
  switch (status) {
    case CheckStatus::kOk:
      return "ok";
    case CheckStatus::kWarn:
      return "warn";
    case CheckStatus::kMissing:
      break;
  }
  return "missing";
}

}  // namespace

std::vector<Check> diagnose(const Facts& facts) {
  std::vector<Check> checks{
      check_kernel(facts),        check_btf(facts),        check_capabilities(facts),
      check_pid_namespace(facts), check_lockdown(facts),   check_programs(facts),
      check_sums(facts),          check_rss_events(facts), check_owner(facts),
      check_sched_info(facts),    check_cgroups(facts),    check_tracefs(facts),
      check_bpffs(facts),         check_open_files(facts), check_locked_memory(facts),
      check_pid_max(facts),       check_scheduling(facts)};
  for (Check& check : diagnose_agent(facts)) {
    checks.push_back(std::move(check));
  }
  return checks;
}

int doctor_status(const std::vector<Check>& checks) {
  return std::any_of(checks.begin(), checks.end(),
                     [](const Check& check) { return check.status == CheckStatus::kMissing; })
             ? kDoctorMissing
             : 0;
}

std::string doctor_text(const Facts& facts, const std::vector<Check>& checks) {
  std::string text = "procguard " PROCGUARD_VERSION " on Linux " + facts.release + "\n\n";
  for (const Check& check : checks) {
    std::string line = status_name(check.status);
    line.resize(9, ' ');
    line += check.id;
    line.resize(kIndent, ' ');
    text += line + check.found + "\n";
    const std::string indent(kIndent, ' ');
    text += indent + check.means + "\n";
    text += check.fix.empty() ? "" : indent + "To do: " + check.fix + "\n";
  }
  text += doctor_status(checks) == 0
              ? "\nAll that procguard needs works here.\n"
              : std::string("\nSomething that procguard needs is missing: ") + kFallsBack + ".\n";
  return text;
}

std::string doctor_json(const Facts& facts, const std::vector<Check>& checks) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    list.push_back({{"id", check.id},
                    {"status", status_name(check.status)},
                    {"found", check.found},
                    {"means", check.means},
                    {"fix", check.fix.empty() ? nlohmann::ordered_json(nullptr)
                                              : nlohmann::ordered_json(check.fix)}});
  }
  const nlohmann::ordered_json all = {{"schema", 1},
                                      {"version", PROCGUARD_VERSION},
                                      {"kernel", facts.release},
                                      {"machine", facts.machine},
                                      {"ok", doctor_status(checks) == 0},
                                      {"checks", std::move(list)}};
  // What was read from the system may be no UTF-8: never throw for that.
  return all.dump(2, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int doctor_main(bool json) {
  const Facts facts = collect_facts();
  const auto checks = diagnose(facts);
  const std::string text = json ? doctor_json(facts, checks) : doctor_text(facts, checks);
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
    return 1;
  }
  return doctor_status(checks);
}

}  // namespace procguard::cli
