// SPDX-License-Identifier: Apache-2.0
#include "engine/process_facts.h"

#include <utility>

#include "sys/cgroup.h"
#include "sys/files.h"

namespace procguard::engine {

namespace {

class Facts {
 public:
  explicit Facts(sys::ProcRoot proc) : proc_(std::move(proc)) {
    if (const auto mounts = proc_.mounts()) {
      mounts_ = sys::find_cgroup_mounts(mounts.value());
    }
  }

  ProcessFacts operator()(pid_t pid, int signal) const {
    ProcessFacts facts;
    if (const auto stat = proc_.stat(pid)) {
      facts.kernel_thread = stat.value().kernel_thread();
    }
    const auto status = proc_.status(pid);
    if (!status) {
      return facts;
    }
    facts.namespace_init = status.value().namespace_init();
    facts.handles_signal = status.value().catches(signal);
    facts.frozen_or_traced =
        status.value().tracer_pid != 0 || frozen_v2(pid) || frozen_v1(pid, status.value().state);
    return facts;
  }

 private:
  bool frozen_v2(pid_t pid) const {
    const auto line = proc_.cgroup(pid);
    if (!line) {
      return false;
    }
    const auto directory = sys::cgroup_directory(mounts_, line.value());
    const auto events = directory ? sys::read_file(*directory + "/cgroup.events")
                                  : Result<std::string>(std::string());
    return events && sys::parse_cgroup_event(events.value(), "frozen").value_or(false);
  }

  // Its frozen tasks sleep uninterruptibly in a function of this name.
  bool frozen_v1(pid_t pid, char state) const {
    return state == 'D' && proc_.wchan(pid, pid).find("refrigerator") != std::string::npos;
  }

  sys::ProcRoot proc_;
  sys::CgroupMounts mounts_;
};

}  // namespace

FactsReader process_facts(sys::ProcRoot proc) {
  return Facts(std::move(proc));
}

}  // namespace procguard::engine
