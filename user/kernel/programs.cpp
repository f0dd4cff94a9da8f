// SPDX-License-Identifier: Apache-2.0
#include "kernel/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "kernel/decode.h"
#include "kernel/map.h"
#include "kernel/skeleton.h"
#include "procguard.skel.h"
#include "sys/fd.h"

namespace procguard::kernel {
namespace {

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

// A mapping of one BPF array map.
class Mapping {
 public:
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data_ != nullptr) {
      ::munmap(data_, size_);
    }
  }

  Result<void> map(int fd, std::size_t bytes, int protection) {
    auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page;
    void* data = ::mmap(nullptr, size_, protection, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      return Error::system("mapping a BPF array", errno);
    }
    data_ = data;
    return {};
  }

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

// A slot of a BPF array map is its value rounded up to 8 bytes; pg_watch is a multiple of it, so a
// mapped array of them is an array.
static_assert(sizeof(pg_watch) % 8 == 0);

class LoadedPrograms final : public Programs {
 public:
  explicit LoadedPrograms(Skeleton<procguard_bpf> skeleton) : skeleton_(std::move(skeleton)) {}
  ~LoadedPrograms() override { ring_buffer__free(ring_); }
  LoadedPrograms(const LoadedPrograms&) = delete;
  LoadedPrograms& operator=(const LoadedPrograms&) = delete;

  Result<void> prepare(const LoadOptions& options);
  Result<void> load() { return skeleton_.load(); }
  Result<void> finish(const LoadOptions& options);

  Result<void> attach(Group group) override;
  void detach(Group group) override { links_[static_cast<std::size_t>(group)].clear(); }
  bool exact_sums() const override { return skeleton_->bss->pg_exact_sums != 0; }
  std::span<pg_watch> watches() override {
    return {static_cast<pg_watch*>(watches_.data()), watch_count_};
  }
  const pg_losses& losses() const override {
    return *static_cast<const pg_losses*>(losses_.data());
  }
  Result<void> enrol(pg_enrol request) override;
  Result<void> add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) override;
  void remove_cgroup(std::uint64_t cgroup_id) override;
  std::optional<pg_process> process(std::uint32_t tgid) const override {
    return process_map().find(tgid);
  }
  Result<std::vector<pg_process>> processes() const override { return process_map().values(); }
  Result<std::vector<pg_thread>> threads() const override {
    return HashView<__u32, pg_thread>(bpf_map__fd(skeleton_->maps.threads)).values();
  }
  int ring_fd() const override { return ring_buffer__epoll_fd(ring_); }
  std::size_t consume(const std::function<void(const pg_edge&)>& handler) override;
  void trace(std::string_view line) override;
  void publish(const pg_guard& guard) override;

 private:
  struct Unlink {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  using Link = std::unique_ptr<bpf_link, Unlink>;

  HashView<__u32, pg_process> process_map() const {
    return HashView<__u32, pg_process>(bpf_map__fd(skeleton_->maps.processes));
  }
  std::vector<bpf_program*> programs_of(Group group) const;
  Result<void> learn_cpu_offsets();

  Skeleton<procguard_bpf> skeleton_;
  std::array<std::vector<Link>, kGroups> links_;
  Mapping watches_;
  std::size_t watch_count_ = 0;
  Mapping losses_;
  ring_buffer* ring_ = nullptr;
  const std::function<void(const pg_edge&)>* handler_ = nullptr;
  std::size_t malformed_ = 0;
};

// Between open and load: what this kernel is like, and what is wanted.
Result<void> LoadedPrograms::prepare(const LoadOptions& options) {
  int cpus = libbpf_num_possible_cpus();
  if (cpus < 1) {
    return Error::system("counting CPUs", -cpus);
  }
  auto* constants = skeleton_->rodata;
  constants->pg_cpus = static_cast<__u32>(cpus);
  constants->pg_page_bytes = static_cast<__u32>(::sysconf(_SC_PAGESIZE));
  constants->pg_with_cgroups = options.cgroups ? 1 : 0;
  auto& maps = skeleton_->maps;
  bpf_map__set_max_entries(maps.watches, options.watches);
  bpf_map__set_max_entries(maps.processes, options.processes);
  bpf_map__set_max_entries(maps.threads, options.threads);
  bpf_program__set_autoload(skeleton_->progs.pg_cgroup_attach_task, options.cgroups);
  bpf_program__set_autoload(skeleton_->progs.pg_rss_stat, options.memory);
  return {};
}

// After load: the mappings, the ring, the per-CPU offsets.
Result<void> LoadedPrograms::finish(const LoadOptions& options) {
  watch_count_ = options.watches;
  if (auto mapped = watches_.map(bpf_map__fd(skeleton_->maps.watches),
                                 sizeof(pg_watch) * options.watches, PROT_READ | PROT_WRITE);
      !mapped) {
    return mapped;
  }
  if (auto mapped = losses_.map(bpf_map__fd(skeleton_->maps.losses), sizeof(pg_losses), PROT_READ);
      !mapped) {
    return mapped;
  }
  auto on_record = [](void* self, void* data, size_t size) -> int {
    auto* programs = static_cast<LoadedPrograms*>(self);
    if (auto edge = decode_edge(data, size); edge && programs->handler_ != nullptr) {
      (*programs->handler_)(*edge);
    } else {
      programs->malformed_++;
    }
    return 0;
  };
  ring_ = ring_buffer__new(bpf_map__fd(skeleton_->maps.edges), on_record, this, nullptr);
  if (ring_ == nullptr) {
    return Error::system("opening the ring buffer", errno);
  }
  return learn_cpu_offsets();
}

Result<void> LoadedPrograms::learn_cpu_offsets() {
  LIBBPF_OPTS(bpf_test_run_opts, options);
  int fd = bpf_program__fd(skeleton_->progs.pg_learn_cpu_offsets);
  // A program that answers "no" is no error: sums are inexact then, and exact_sums() says so.
  if (bpf_prog_test_run_opts(fd, &options) != 0) {
    return Error::system("running pg_learn_cpu_offsets", errno);
  }
  return {};
}

std::vector<bpf_program*> LoadedPrograms::programs_of(Group group) const {
  const auto& programs = skeleton_->progs;
  switch (group) {
    case Group::kLifecycle: {
      std::vector<bpf_program*> all{programs.pg_task_newtask, programs.pg_sched_process_exec,
                                    programs.pg_sched_process_exit};
      if (bpf_program__autoload(programs.pg_cgroup_attach_task)) {
        all.push_back(programs.pg_cgroup_attach_task);
      }
      return all;
    }
    case Group::kScheduler:
      return {programs.pg_sched_switch, programs.pg_sched_stat_runtime};
    case Group::kMemory:
      return {programs.pg_rss_stat};
    case Group::kDoom:
      return {programs.pg_sys_exit};
  }
  return {};
}

Result<void> LoadedPrograms::attach(Group group) {
  auto& links = links_[static_cast<std::size_t>(group)];
  if (!links.empty()) {
    return {};
  }
  for (bpf_program* program : programs_of(group)) {
    Link link(bpf_program__attach(program));
    if (link == nullptr) {
      int code = errno;
      links.clear();
      return Error::system(std::string("attaching ") + bpf_program__name(program), code);
    }
    links.push_back(std::move(link));
  }
  return {};
}

Result<void> LoadedPrograms::enrol(pg_enrol request) {
  auto& shared = skeleton_->bss->pg_enrol_request;
  Link link(bpf_program__attach_iter(skeleton_->progs.pg_enrol_tasks, nullptr));
  if (link == nullptr) {
    return Error::system("attaching pg_enrol_tasks", errno);
  }
  for (int passes = 0; passes == 0 || shared.enrolled > 0; ++passes) {
    // Whom the last passes waited for is being made, perhaps by a thread that waits for our CPU.
    if (passes > 1) {
      constexpr timespec kMoment{.tv_sec = 0, .tv_nsec = 100'000};
      ::nanosleep(&kMoment, nullptr);
    }
    request.enrolled = 0;
    shared = request;
    sys::Fd pass(bpf_iter_create(bpf_link__fd(link.get())));
    std::array<char, 16> nothing{};
    if (!pass) {
      return Error::system("starting the task iterator", errno);
    }
    // The program writes nothing: one read runs it to its end.
    while (::read(pass.get(), nothing.data(), nothing.size()) < 0) {
      if (errno != EAGAIN && errno != EINTR) {
        return Error::system("iterating over tasks", errno);
      }
    }
  }
  return {};
}

Result<void> LoadedPrograms::add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) {
  HashView<__u64, __u64> map(bpf_map__fd(skeleton_->maps.cgroups));
  if (auto put = map.put(cgroup_id, watch); !put) {
    return put.error().in("watching cgroup id " + std::to_string(cgroup_id));
  }
  skeleton_->bss->pg_cgroup_watches++;
  return {};
}

void LoadedPrograms::remove_cgroup(std::uint64_t cgroup_id) {
  HashView<__u64, __u64> map(bpf_map__fd(skeleton_->maps.cgroups));
  if (map.find(cgroup_id)) {
    skeleton_->bss->pg_cgroup_watches--;
    map.erase(cgroup_id);
  }
}

std::size_t LoadedPrograms::consume(const std::function<void(const pg_edge&)>& handler) {
  handler_ = &handler;
  malformed_ = 0;
  ring_buffer__consume(ring_);
  handler_ = nullptr;
  return malformed_;
}

void LoadedPrograms::trace(std::string_view text) {
  pg_trace_line line{};
  std::memcpy(line.text, text.data(), std::min(text.size(), sizeof(line.text) - 1));
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &line, .ctx_size_in = sizeof(line));
  // Nobody depends on the trace pipe: a failure to write there must not disturb guarding.
  bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.pg_trace_event), &options);
}

void LoadedPrograms::publish(const pg_guard& guard) {
  int fd = bpf_map__fd(skeleton_->maps.guards);
  if (guard.phase == PG_GUARD_ARMED) {
    bpf_map_update_elem(fd, &guard.id, &guard, BPF_ANY);
  } else {
    bpf_map_delete_elem(fd, &guard.id);
  }
}

}  // namespace

Result<std::unique_ptr<Programs>> Programs::load(const LoadOptions& options) {
  std::string reason;
  warning = &reason;
  libbpf_set_print(keep_warning);
  auto explain = [&reason](const Error& error) {
    warning = nullptr;
    return reason.empty() ? error : Error(error.message() + " (" + reason + ")", error.code());
  };
  auto skeleton = Skeleton<procguard_bpf>::open();
  if (!skeleton) {
    return explain(skeleton.error());
  }
  auto loaded = std::make_unique<LoadedPrograms>(std::move(skeleton).value());
  if (auto prepared = loaded->prepare(options); !prepared) {
    return explain(prepared.error());
  }
  if (auto done = loaded->load(); !done) {
    return explain(done.error());
  }
  if (auto finished = loaded->finish(options); !finished) {
    return explain(finished.error());
  }
  warning = nullptr;
  return std::unique_ptr<Programs>(std::move(loaded));
}

}  // namespace procguard::kernel
