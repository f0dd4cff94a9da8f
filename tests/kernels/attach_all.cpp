// SPDX-License-Identifier: Apache-2.0
// Loads the whole BPF object and attaches every group of programs, as the guest of a kernel test:
// one line a group; exit status 1 if the kernel took any of them not.
#include <array>
#include <cstdio>

#include "kernel/programs.h"

int main() {
  using procguard::kernel::Group;
  struct Named {
    Group group;
    const char* name;
  };
  constexpr std::array<Named, procguard::kernel::kGroups> kAll = {{
      {Group::kLifecycle, "lifecycle"},
      {Group::kScheduler, "scheduler"},
      {Group::kMemory, "memory"},
      {Group::kDoom, "doom"},
      {Group::kFailsafe, "failsafe"},
  }};

  auto programs = procguard::kernel::Programs::load({.failsafe = true});
  if (!programs) {
    std::printf("load: %s\n", programs.error().message().c_str());
    return 1;
  }
  std::printf("load: ok, %s sums\n", programs.value()->exact_sums() ? "exact" : "lagging");
  int status = 0;
  for (const auto& [group, name] : kAll) {
    const auto attached = programs.value()->attach(group);
    std::printf("%s: %s\n", name, attached ? "ok" : attached.error().message().c_str());
    status = attached ? status : 1;
  }
  return status;
}
