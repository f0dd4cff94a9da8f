// SPDX-License-Identifier: Apache-2.0
#include "kernel/features.h"

#include <bpf/btf.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "kernel/programs.h"

namespace procguard::kernel {
namespace {

using Types = std::unique_ptr<btf, decltype(&btf__free)>;

const btf_type* find_struct(const btf* types, const char* name) {
  int id = btf__find_by_name_kind(types, name, BTF_KIND_STRUCT);
  return id < 0 ? nullptr : btf__type_by_id(types, static_cast<__u32>(id));
}

// Looks through anonymous structs and unions too: the kernel randomises and groups with them.
bool has_member(const btf* types, const btf_type* type, std::string_view name) {
  if (type == nullptr || !btf_is_composite(type)) {
    return false;
  }
  const btf_member* members = btf_members(type);
  for (int i = 0; i < btf_vlen(type); i++) {
    std::string_view member = btf__name_by_offset(types, members[i].name_off);
    if (member == name ||
        (member.empty() && has_member(types, btf__type_by_id(types, members[i].type), name))) {
      return true;
    }
  }
  return false;
}

bool knows_signal_task(const btf* types) {
  return btf__find_by_name_kind(types, "bpf_send_signal_task", BTF_KIND_FUNC) > 0;
}

void read_types(const btf* types, Features& features) {
  features.mm_owner = has_member(types, find_struct(types, "mm_struct"), "owner");
  features.sched_info = has_member(types, find_struct(types, "sched_info"), "run_delay");
  features.signal_task = knows_signal_task(types);
  features.percpu_rss = find_struct(types, "mm_rss_stat") == nullptr;
}

}  // namespace

bool can_signal_task() {
  const Types types(btf__load_vmlinux_btf(), &btf__free);
  return types != nullptr && knows_signal_task(types.get());
}

Features probe_features() {
  Features features;
  Types types(btf__load_vmlinux_btf(), &btf__free);
  features.btf = types != nullptr;
  if (!features.btf) {
    features.error = std::string("reading the kernel's BTF: ") + std::strerror(errno);
    return features;
  }
  read_types(types.get(), features);
  auto programs =
      Programs::load(LoadOptions{.watches = 1, .processes = 16, .threads = 16, .failsafe = true});
  if (!programs) {
    features.error = programs.error().message();
    return features;
  }
  features.programs_load = true;
  features.exact_sums = programs.value()->exact_sums();
  for (Group group :
       {Group::kLifecycle, Group::kScheduler, Group::kMemory, Group::kDoom, Group::kFailsafe}) {
    if (auto attached = programs.value()->attach(group); !attached) {
      features.error = attached.error().message();
      return features;
    }
  }
  features.programs_attach = true;
  return features;
}

}  // namespace procguard::kernel
