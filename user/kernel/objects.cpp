// SPDX-License-Identifier: Apache-2.0
#include "kernel/objects.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "bpf/contract.h"
#include "kernel/shared.h"
#include "kernel/skeleton.h"
#include "procguard.skel.h"
#include "sys/files.h"

namespace procguard::kernel {
namespace {

constexpr const char* kSharedMap = "shared";  // the programs' globals

// What wrote the pins. The one struct that no version may change.
struct AbiRecord {
  std::uint32_t magic = 0x70726f63;
  std::uint32_t abi = PG_ABI;
  std::uint64_t layout = 0;  // of the globals
  char version[16] = PROCGUARD_VERSION;
};

AbiRecord own_abi() {
  AbiRecord record;
  record.layout = shared_layout();
  return record;
}

// libbpf's last warning, to say more than an errno does. Only set while load() runs.
thread_local std::string* warning = nullptr;

int keep_warning(enum libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_WARN && warning != nullptr && warning->empty()) {
    std::array<char, 512> text{};
    std::vsnprintf(text.data(), text.size(), format, args);
    *warning = text.data();
    while (!warning->empty() && warning->back() == '\n') {
      warning->pop_back();
    }
  }
  return 0;
}

// Between open and load: what this kernel is like, and what is wanted.
Result<void> prepare(const Skeleton<procguard_bpf>& skeleton, const LoadOptions& options) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 1) {
    return Error::system("counting CPUs", -cpus);
  }
  auto* constants = skeleton->rodata;
  constants->pg_cpus = static_cast<__u32>(cpus);
  constants->pg_page_bytes = static_cast<__u32>(::sysconf(_SC_PAGESIZE));
  constants->pg_with_cgroups = options.cgroups ? 1 : 0;
  const auto& maps = skeleton->maps;
  bpf_map__set_max_entries(maps.watches, options.watches);
  bpf_map__set_max_entries(maps.processes, options.processes);
  bpf_map__set_max_entries(maps.threads, options.threads);
  bpf_map__set_max_entries(maps.cgroups, options.watches);  // one each at most
  bpf_map__set_max_entries(maps.guards, options.guards);
  bpf_map__set_max_entries(maps.labels, options.guards);
  const auto& programs = skeleton->progs;
  bpf_program__set_autoload(programs.pg_cgroup_attach_task, options.cgroups);
  bpf_program__set_autoload(programs.pg_cgroup_rmdir, options.cgroups);
  bpf_program__set_autoload(programs.pg_rss_stat, options.memory);
  bpf_program__set_autoload(programs.pg_learn_cpu_offsets, options.memory);
  bpf_program__set_autoload(programs.pg_failsafe_switch, options.failsafe);
  bpf_program__set_autoload(programs.pg_failsafe_tick, options.failsafe);
  return {};
}

std::string below(const std::string& dir, const std::string& name) {
  std::string path = dir;
  path += '/';
  path += name;
  return path;
}

sys::Fd duplicate(int fd) {
  return sys::Fd(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

Result<void> make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::system("making " + path, errno);
  }
  return {};
}

Result<void> require_bpffs(const std::string& path) {
  struct statfs about {};
  if (::statfs(path.c_str(), &about) != 0) {
    return Error::system(path, errno);
  }
  if (static_cast<std::uint64_t>(about.f_type) != BPF_FS_MAGIC) {
    return Error(path +
                     ": not on a BPF file system (expected a directory below one: mount -t bpf bpf "
                     "/sys/fs/bpf)",
                 EINVAL);
  }
  return {};
}

Result<void> pin_one(int fd, const std::string& path) {
  if (bpf_obj_pin(fd, path.c_str()) != 0) {
    return Error::system("pinning " + path, errno);
  }
  return {};
}

Result<void> pin_abi(const std::string& dir) {
  const sys::Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "procguard_abi", sizeof(__u32),
                                   sizeof(AbiRecord), 1, nullptr));
  const __u32 zero = 0;
  const AbiRecord record = own_abi();
  if (!map || bpf_map_update_elem(map.get(), &zero, &record, BPF_ANY) != 0) {
    return Error::system("making the map " + dir + "/abi", errno);
  }
  return pin_one(map.get(), dir + "/abi");
}

Result<void> check_abi(const std::string& dir) {
  const sys::Fd map(bpf_obj_get((dir + "/abi").c_str()));
  if (!map) {
    return Error::system(dir + "/abi", errno);
  }
  bpf_map_info info{};
  __u32 length = sizeof(info);
  const __u32 zero = 0;
  AbiRecord found;
  if (bpf_obj_get_info_by_fd(map.get(), &info, &length) != 0 || info.value_size != sizeof(found) ||
      bpf_map_lookup_elem(map.get(), &zero, &found) != 0) {
    return Error(dir + "/abi: not procguard's", EPROTO);
  }
  const AbiRecord own = own_abi();
  if (found.magic != own.magic || found.abi != own.abi || found.layout != own.layout) {
    const std::string version(found.version, ::strnlen(found.version, sizeof(found.version)));
    return Error(dir + ": pinned by procguard " + version + " with ABI " +
                     std::to_string(found.abi) + ", this is " PROCGUARD_VERSION " with ABI " +
                     std::to_string(own.abi) +
                     ": run the one that pinned it, or 'procguard agent --teardown' to release "
                     "its guards",
                 EPROTO);
  }
  return {};
}

// Opens all that is pinned in one directory.
template <typename ByName>
Result<void> open_all(const std::string& dir, ByName& fds) {
  auto names = sys::list_directory(dir);
  if (!names) {
    return names.error();
  }
  for (const std::string& name : names.value()) {
    struct stat about {};
    const std::string path = below(dir, name);
    if (name == "abi" || ::lstat(path.c_str(), &about) != 0 || S_ISDIR(about.st_mode)) {
      continue;
    }
    sys::Fd fd(bpf_obj_get(path.c_str()));
    if (!fd) {
      return Error::system("opening " + path, errno);
    }
    fds[name] = std::move(fd);
  }
  return {};
}

}  // namespace

Result<Objects> Objects::load(const LoadOptions& options) {
  std::string reason;
  warning = &reason;
  libbpf_set_print(keep_warning);
  const auto explain = [&reason](const Error& error) {
    warning = nullptr;
    return reason.empty() ? error : Error(error.message() + " (" + reason + ")", error.code());
  };
  auto skeleton = Skeleton<procguard_bpf>::open();
  if (!skeleton) {
    return explain(skeleton.error());
  }
  if (auto prepared = prepare(skeleton.value(), options); !prepared) {
    return explain(prepared.error());
  }
  if (auto loaded = skeleton->load(); !loaded) {
    return explain(loaded.error());
  }
  warning = nullptr;
  // Only the descriptors are kept: what libbpf knows of the object is megabytes.
  Objects objects;
  bpf_object* object = skeleton.value()->obj;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const bool globals = map == skeleton.value()->maps.bss;
    if (bpf_map__is_internal(map) && !globals) {
      continue;
    }
    objects.maps_[globals ? kSharedMap : bpf_map__name(map)] = duplicate(bpf_map__fd(map));
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (bpf_program__autoload(program)) {
      objects.programs_[bpf_program__name(program)] = duplicate(bpf_program__fd(program));
    }
  }
  for (const ByName* fds : {&objects.maps_, &objects.programs_}) {
    for (const auto& [name, fd] : *fds) {
      if (!fd) {
        return Error::system("holding " + name, EMFILE);
      }
    }
  }
  return objects;
}

Result<Objects> Objects::open(const std::string& dir) {
  if (auto checked = check_abi(dir); !checked) {
    return checked.error();
  }
  Objects objects;
  if (auto maps = open_all(dir, objects.maps_); !maps) {
    return maps.error();
  }
  if (auto programs = open_all(dir + "/programs", objects.programs_); !programs) {
    return programs.error();
  }
  return objects;
}

Result<void> Objects::pin(const std::string& dir) const {
  if (auto made = make_directory(dir); !made) {
    return made;
  }
  if (auto checked = require_bpffs(dir); !checked) {
    return checked;
  }
  for (const char* below : {"/programs", "/links"}) {
    if (auto made = make_directory(dir + below); !made) {
      return made;
    }
  }
  for (const auto& [name, fd] : maps_) {
    if (auto pinned = pin_one(fd.get(), below(dir, name)); !pinned) {
      return pinned;
    }
  }
  for (const auto& [name, fd] : programs_) {
    if (auto pinned = pin_one(fd.get(), below(dir + "/programs", name)); !pinned) {
      return pinned;
    }
  }
  return pin_abi(dir);  // last: it says that the rest is there
}

int Objects::find(const ByName& fds, const char* name) {
  const auto found = fds.find(name);
  return found == fds.end() ? -1 : found->second.get();
}

bool is_pinned(const std::string& dir) {
  return ::access((dir + "/abi").c_str(), F_OK) == 0;
}

Result<void> remove_pins(const std::string& dir) {
  struct stat about {};
  if (::stat(dir.c_str(), &about) != 0) {
    return errno == ENOENT ? Result<void>{} : Error::system(dir, errno);
  }
  if (auto checked = require_bpffs(dir); !checked) {
    return checked;
  }
  ::unlink((dir + "/abi").c_str());  // first: the rest is not to be adopted any more
  for (const std::string& folder : {dir + "/links", dir + "/programs", dir}) {
    const bool top = folder == dir;
    const auto names = sys::list_directory(folder);
    if (!names) {
      continue;
    }
    for (const std::string& name : names.value()) {
      ::unlink(below(folder, name).c_str());
    }
    if (!top && ::rmdir(folder.c_str()) != 0 && errno != ENOENT) {
      return Error::system("removing " + folder, errno);
    }
  }
  return {};
}

std::string link_path(const std::string& dir, const std::string& program) {
  return dir + "/links/" + program;
}

}  // namespace procguard::kernel
