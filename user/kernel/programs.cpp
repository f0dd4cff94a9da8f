// SPDX-License-Identifier: Apache-2.0
#include "kernel/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "kernel/attachments.h"
#include "kernel/decode.h"
#include "kernel/map.h"
#include "kernel/mapping.h"
#include "kernel/shared.h"
#include "sys/fd.h"

namespace procguard::kernel {
namespace {

// A slot of a BPF array map is its value rounded up to 8 bytes; pg_watch is a multiple of it, so a
// mapped array of them is an array.
static_assert(sizeof(pg_watch) % 8 == 0);

Result<std::uint32_t> entries_of(int map) {
  bpf_map_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(map, &info, &length) != 0) {
    return Error::system("asking about a BPF map", errno);
  }
  return info.max_entries;
}

class ProgramsOverObjects final : public Programs {
 public:
  explicit ProgramsOverObjects(Objects objects)
      : objects_(std::move(objects)), attachments_(objects_) {}
  ~ProgramsOverObjects() override { ring_buffer__free(ring_); }
  ProgramsOverObjects(const ProgramsOverObjects&) = delete;
  ProgramsOverObjects& operator=(const ProgramsOverObjects&) = delete;

  Result<void> map_all();
  Result<void> learn_cpu_offsets();
  void adopt_links(const std::string& dir) { attachments_.adopt(dir); }

  Result<void> pin(const std::string& dir) override;
  Result<void> attach(Group group) override { return attachments_.attach(group); }
  void detach(Group group) override { attachments_.detach(group); }
  bool attached(Group group) const override { return attachments_.attached(group); }
  bool attach_aside(Group group) override { return attachments_.attach_aside(group); }
  bool detach_aside(Group group) override { return attachments_.detach_aside(group); }
  bool exact_sums() const override { return *shared_.exact_sums != 0; }
  std::span<pg_watch> watches() override {
    return {static_cast<pg_watch*>(watches_.data()), watch_count_};
  }
  pg_agent& agent() override { return *shared_.agent; }
  const pg_losses& losses() const override {
    return *static_cast<const pg_losses*>(losses_.data());
  }
  Result<void> enrol(pg_enrol request, std::uint32_t only) override;
  Result<void> add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) override;
  void remove_cgroup(std::uint64_t cgroup_id) override;
  void clear() override;
  std::optional<pg_process> process(std::uint32_t tgid) const override {
    return process_map().find(tgid);
  }
  Result<std::vector<pg_process>> processes() const override { return process_map().values(); }
  std::optional<pg_thread> thread(std::uint32_t tid) const override {
    return HashView<__u32, pg_thread>(objects_.map("threads")).find(tid);
  }
  Result<std::vector<pg_thread>> threads() const override {
    return HashView<__u32, pg_thread>(objects_.map("threads")).values();
  }
  int ring_fd() const override { return ring_buffer__epoll_fd(ring_); }
  std::size_t consume(const std::function<void(const pg_edge&)>& handler) override;
  void trace(std::string_view line) override;
  void tell(const pg_event& event) override;
  void publish(const pg_guard& guard) override;
  Result<std::vector<pg_guard>> guards() const override {
    return HashView<__u64, pg_guard>(objects_.map("guards")).values();
  }
  std::size_t guards_max() const override { return guards_max_; }
  void put_labels(std::uint64_t guard, std::string_view text) override;
  std::string labels(std::uint64_t guard) const override;

 private:
  HashView<__u32, pg_process> process_map() const {
    return HashView<__u32, pg_process>(objects_.map("processes"));
  }
  Result<sys::Fd> enrol_link(std::uint32_t only);
  Result<void> enrol_pass(int link);

  Objects objects_;
  Attachments attachments_;
  Mapping watches_;
  std::size_t watch_count_ = 0;
  std::size_t guards_max_ = 0;
  Mapping losses_;
  Mapping globals_;
  SharedGlobals shared_;
  sys::Fd enrol_all_;  // the iterator over all tasks
  ring_buffer* ring_ = nullptr;
  const std::function<void(const pg_edge&)>* handler_ = nullptr;
  std::size_t malformed_ = 0;
};

// The mappings and the ring.
Result<void> ProgramsOverObjects::map_all() {
  const auto count = entries_of(objects_.map("watches"));
  if (!count) {
    return count.error();
  }
  watch_count_ = count.value();
  const auto guards = entries_of(objects_.map("guards"));
  if (!guards) {
    return guards.error();
  }
  guards_max_ = guards.value();
  if (auto mapped = watches_.map(objects_.map("watches"), sizeof(pg_watch) * watch_count_,
                                 PROT_READ | PROT_WRITE);
      !mapped) {
    return mapped;
  }
  if (auto mapped = losses_.map(objects_.map("losses"), sizeof(pg_losses), PROT_READ); !mapped) {
    return mapped;
  }
  if (auto mapped = globals_.map(objects_.map("shared"), shared_bytes(), PROT_READ | PROT_WRITE);
      !mapped) {
    return mapped;
  }
  shared_ = shared_globals(globals_.data());
  auto on_record = [](void* self, void* data, size_t size) -> int {
    auto* programs = static_cast<ProgramsOverObjects*>(self);
    if (auto edge = decode_edge(data, size); edge && programs->handler_ != nullptr) {
      (*programs->handler_)(*edge);
    } else {
      programs->malformed_++;
    }
    return 0;
  };
  ring_ = ring_buffer__new(objects_.map("edges"), on_record, this, nullptr);
  if (ring_ == nullptr) {
    return Error::system("opening the ring buffer", errno);
  }
  return {};
}

Result<void> ProgramsOverObjects::learn_cpu_offsets() {
  LIBBPF_OPTS(bpf_test_run_opts, options);
  const int program = objects_.program("pg_learn_cpu_offsets");
  if (program < 0) {
    return {};  // not wanted
  }
  // A program that answers "no" is no error: sums are inexact then, and exact_sums() says so.
  if (bpf_prog_test_run_opts(program, &options) != 0) {
    return Error::system("running pg_learn_cpu_offsets", errno);
  }
  return {};
}

Result<void> ProgramsOverObjects::pin(const std::string& dir) {
  if (auto pinned = objects_.pin(dir); !pinned) {
    return pinned;
  }
  attachments_.pin(dir);
  return {};
}

// The iterator's link: over all tasks, or over one (6.1, f0d74c4da1f0).
Result<sys::Fd> ProgramsOverObjects::enrol_link(std::uint32_t only) {
  bpf_iter_link_info about{};
  about.task.tid = only;
  LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = only == 0 ? nullptr : &about,
              .iter_info_len = only == 0 ? 0U : static_cast<__u32>(sizeof(about)));
  sys::Fd link(bpf_link_create(objects_.program("pg_enrol_tasks"), 0, BPF_TRACE_ITER, &options));
  if (!link) {
    return Error::system("attaching pg_enrol_tasks", errno);
  }
  return link;
}

Result<void> ProgramsOverObjects::enrol_pass(int link) {
  const sys::Fd pass(bpf_iter_create(link));
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
  return {};
}

Result<void> ProgramsOverObjects::enrol(pg_enrol request, std::uint32_t only) {
  pg_enrol& shared = *shared_.enrol_request;
  sys::Fd own;
  if (only != 0 || !enrol_all_) {
    auto link = enrol_link(only);
    if (!link) {
      return link.error();
    }
    (only != 0 ? own : enrol_all_) = std::move(link).value();
  }
  const int link = only != 0 ? own.get() : enrol_all_.get();
  constexpr timespec kMoment{.tv_sec = 0, .tv_nsec = 100'000};
  constexpr int kMoments = 20;
  for (int waits = 0, passes = 0; passes == 0 || shared.enrolled > 0 || shared.waiting > 0;
       ++passes) {
    // Who is waited for is being made, perhaps by a thread that waits for our CPU; or for ever, by
    // one that wants it so.
    if (passes > 0 && shared.waiting > 0) {
      if (++waits > kMoments) {
        return Error("a process is still being made", EAGAIN);
      }
      ::nanosleep(&kMoment, nullptr);
    }
    request.enrolled = 0;
    request.waiting = 0;
    shared = request;
    if (auto passed = enrol_pass(link); !passed) {
      return passed;
    }
  }
  return {};
}

Result<void> ProgramsOverObjects::add_cgroup(std::uint64_t cgroup_id, std::uint64_t watch) {
  const HashView<__u64, __u64> map(objects_.map("cgroups"));
  // Counted before it is there, and until after it was: who dies in between leaves a count that is
  // too high, which costs time and not a guard.
  const std::uint32_t more = map.find(cgroup_id) ? 0 : 1;
  *shared_.cgroup_watches += more;
  if (auto put = map.put(cgroup_id, watch); !put) {
    *shared_.cgroup_watches -= more;
    return put.error().in("watching cgroup id " + std::to_string(cgroup_id));
  }
  return {};
}

void ProgramsOverObjects::remove_cgroup(std::uint64_t cgroup_id) {
  const HashView<__u64, __u64> map(objects_.map("cgroups"));
  if (map.find(cgroup_id)) {
    map.erase(cgroup_id);
    *shared_.cgroup_watches -= 1;
  }
}

void ProgramsOverObjects::clear() {
  for (const char* name : {"processes", "threads"}) {
    const int map = objects_.map(name);
    __u32 key = 0;
    while (bpf_map_get_next_key(map, nullptr, &key) == 0) {
      bpf_map_delete_elem(map, &key);
    }
  }
  std::memset(shared_.watched, 0, shared_.watched_bytes);
}

std::size_t ProgramsOverObjects::consume(const std::function<void(const pg_edge&)>& handler) {
  handler_ = &handler;
  malformed_ = 0;
  ring_buffer__consume(ring_);
  handler_ = nullptr;
  return malformed_;
}

void ProgramsOverObjects::trace(std::string_view text) {
  pg_trace_line line{};
  std::memcpy(line.text, text.data(), std::min(text.size(), sizeof(line.text) - 1));
  LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &line, .ctx_size_in = sizeof(line));
  // Nobody depends on the trace pipe: a failure to write there must not disturb guarding.
  bpf_prog_test_run_opts(objects_.program("pg_trace_event"), &options);
}

void ProgramsOverObjects::tell(const pg_event& event) {
  *shared_.event_told = event;
  LIBBPF_OPTS(bpf_test_run_opts, options);
  // Nor on this one.
  bpf_prog_test_run_opts(objects_.program("pg_tell_event"), &options);
}

void ProgramsOverObjects::publish(const pg_guard& guard) {
  const int map = objects_.map("guards");
  if (guard.phase == PG_GUARD_RELEASED || guard.phase == PG_GUARD_ENDED) {
    bpf_map_delete_elem(map, &guard.id);
  } else {
    bpf_map_update_elem(map, &guard.id, &guard, BPF_ANY);
  }
}

void ProgramsOverObjects::put_labels(std::uint64_t guard, std::string_view text) {
  const int map = objects_.map("labels");
  if (text.empty()) {
    bpf_map_delete_elem(map, &guard);
    return;
  }
  pg_labels labels{};
  std::memcpy(labels.text, text.data(), std::min(text.size(), sizeof(labels.text) - 1));
  bpf_map_update_elem(map, &guard, &labels, BPF_ANY);
}

std::string ProgramsOverObjects::labels(std::uint64_t guard) const {
  const auto found = HashView<__u64, pg_labels>(objects_.map("labels")).find(guard);
  return found ? std::string(found->text, ::strnlen(found->text, sizeof(found->text)))
               : std::string();
}

}  // namespace

Result<std::unique_ptr<Programs>> Programs::load(const LoadOptions& options) {
  auto objects = Objects::load(options);
  if (!objects) {
    return objects.error();
  }
  auto programs = std::make_unique<ProgramsOverObjects>(std::move(objects).value());
  if (auto mapped = programs->map_all(); !mapped) {
    return mapped.error();
  }
  if (auto learnt = programs->learn_cpu_offsets(); !learnt) {
    return learnt.error();
  }
  return std::unique_ptr<Programs>(std::move(programs));
}

Result<std::unique_ptr<Programs>> Programs::adopt(const std::string& dir) {
  auto objects = Objects::open(dir);
  if (!objects) {
    return objects.error();
  }
  auto programs = std::make_unique<ProgramsOverObjects>(std::move(objects).value());
  if (auto mapped = programs->map_all(); !mapped) {
    return mapped.error();
  }
  programs->adopt_links(dir);
  return std::unique_ptr<Programs>(std::move(programs));
}

}  // namespace procguard::kernel
