// SPDX-License-Identifier: Apache-2.0
#include "kernel/attachments.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

namespace procguard::kernel {
namespace {

struct ProgramRow {
  const char* name;
  Group group;
};
constexpr ProgramRow kPrograms[] = {
    {"pg_task_newtask", Group::kLifecycle},
    {"pg_sched_process_exec", Group::kLifecycle},
    {"pg_sched_process_exit", Group::kLifecycle},
    {"pg_cgroup_attach_task", Group::kLifecycle},
    {"pg_cgroup_rmdir", Group::kLifecycle},
    {"pg_sched_switch", Group::kScheduler},
    {"pg_sched_stat_runtime", Group::kScheduler},
    {"pg_rss_stat", Group::kMemory},
    {"pg_sys_exit", Group::kDoom},
    {"pg_failsafe_switch", Group::kFailsafe},
    {"pg_failsafe_tick", Group::kFailsafe},
};

}  // namespace

void Attachments::adopt(const std::string& dir) {
  pins_ = dir;
  for (const ProgramRow& row : kPrograms) {
    if (sys::Fd link(bpf_obj_get(link_path(dir, row.name).c_str())); link) {
      links_of(row.group)[row.name] = std::move(link);
    }
  }
}

// Also completes a group of which an earlier process attached a part. On any thread.
Result<void> Attachments::open(Group group, Links& links) const {
  for (const ProgramRow& row : kPrograms) {
    const int program = objects_.program(row.name);
    if (row.group != group || program < 0 || links.contains(row.name)) {
      continue;
    }
    sys::Fd link(bpf_raw_tracepoint_open(nullptr, program));
    const int code = errno;
    if (link && !pins_.empty() &&
        bpf_obj_pin(link.get(), link_path(pins_, row.name).c_str()) != 0) {
      link.reset();
    }
    if (!link) {
      remove(links);
      return Error::system(std::string("attaching ") + row.name, code);
    }
    links[row.name] = std::move(link);
  }
  if (links.empty()) {
    return Error::system("attaching programs that were not loaded", ENOENT);
  }
  return {};
}

void Attachments::remove(Links& links) const {
  for (const auto& [program, link] : links) {
    if (!pins_.empty()) {
      ::unlink(link_path(pins_, program).c_str());
    }
  }
  links.clear();
}

Result<void> Attachments::attach(Group group) {
  wait_for_aside(group);
  return open(group, links_of(group));
}

void Attachments::detach(Group group) {
  wait_for_aside(group);
  remove(links_of(group));
}

void Attachments::wait_for_aside(Group group) {
  if (aside_.valid() && aside_group_ == group) {
    links_of(group) = aside_.get();
  }
}

bool Attachments::aside_is_done() {
  if (!aside_.valid()) {
    return true;
  }
  if (aside_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    return false;
  }
  links_of(aside_group_) = aside_.get();
  return true;
}

bool Attachments::attach_aside(Group group) {
  if (!aside_is_done()) {
    return false;
  }
  if (attached(group)) {
    return true;
  }
  aside_group_ = group;
  aside_ = std::async(std::launch::async,
                      [this, group, links = std::exchange(links_of(group), {})]() mutable {
                        static_cast<void>(open(group, links));
                        return std::move(links);
                      });
  return true;
}

bool Attachments::detach_aside(Group group) {
  if (!aside_is_done()) {
    return false;
  }
  aside_group_ = group;
  aside_ =
      std::async(std::launch::async, [this, links = std::exchange(links_of(group), {})]() mutable {
        remove(links);
        return std::move(links);
      });
  return true;
}

}  // namespace procguard::kernel
