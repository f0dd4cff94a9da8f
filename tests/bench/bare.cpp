// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/bare.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "bench/bare.skel.h"
#include "sys/pidfd.h"

namespace procguard::bench {
namespace {

constexpr int kPatienceMs = 5000;

struct Unlink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

}  // namespace

struct Bare::Loaded {
  kernel::Skeleton<bare_bpf> skeleton;
  std::vector<std::unique_ptr<bpf_link, Unlink>> links{};
};

Bare::Bare(std::unique_ptr<Loaded> loaded) : loaded_(std::move(loaded)) {}
Bare::~Bare() = default;

Result<std::unique_ptr<Bare>> Bare::load() {
  auto skeleton = kernel::Skeleton<bare_bpf>::open();
  if (!skeleton) {
    return skeleton.error();
  }
  if (auto loaded = skeleton->load(); !loaded) {
    return loaded.error();
  }
  return std::unique_ptr<Bare>(
      new Bare(std::unique_ptr<Loaded>(new Loaded{.skeleton = std::move(skeleton).value()})));
}

bare_bpf* Bare::operator->() const {
  return loaded_->skeleton.get();
}

Result<void> Bare::attach(bpf_program* program) {
  std::unique_ptr<bpf_link, Unlink> link(bpf_program__attach(program));
  if (link == nullptr) {
    return Error::system(std::string("attaching ") + bpf_program__name(program), errno);
  }
  loaded_->links.push_back(std::move(link));
  return {};
}

void Bare::detach_all() {
  loaded_->links.clear();
}

Result<std::unique_ptr<BareCrossing>> BareCrossing::create() {
  auto bare = Bare::load();
  if (!bare) {
    return bare.error();
  }
  std::unique_ptr<BareCrossing> made(new BareCrossing(std::move(bare).value()));
  Bare& programs = *made->bare_;
  if (auto attached = programs.attach(programs->progs.bare_crossing); !attached) {
    return attached.error();
  }
  made->ring_ =
      ring_buffer__new(bpf_map__fd(programs->maps.crossings), on_record, made.get(), nullptr);
  if (made->ring_ == nullptr) {
    return Error::system("opening the ring buffer", errno);
  }
  return made;
}

BareCrossing::~BareCrossing() {
  ring_buffer__free(ring_);
}

int BareCrossing::on_record(void* self, void* data, std::size_t size) {
  auto* crossing = static_cast<BareCrossing*>(self);
  static_cast<void>(sys::send_signal(crossing->pidfd_, crossing->signal_));
  if (size >= sizeof(crossing->crossed_ns_)) {
    std::memcpy(&crossing->crossed_ns_, data, sizeof(crossing->crossed_ns_));
  }
  return 0;
}

void BareCrossing::arm(pid_t pid, int pidfd, int signal, std::uint64_t anon_bytes) {
  auto* shared = (*bare_)->bss;
  pidfd_ = pidfd;
  signal_ = signal;
  crossed_ns_ = 0;
  shared->crossing_anon_pages = anon_bytes / 4096;
  shared->crossing_told = 0;
  __atomic_store_n(&shared->crossing_tgid, static_cast<__u32>(pid), __ATOMIC_SEQ_CST);
}

Result<core::Ns> BareCrossing::signal_at_crossing() {
  while (crossed_ns_ == 0) {
    const int records = ring_buffer__poll(ring_, kPatienceMs);
    if (records == 0) {
      return Error("the bare program saw no crossing");
    }
    if (records < 0 && records != -EINTR) {
      return Error::system("polling the ring buffer", -records);
    }
  }
  return crossed_ns_;
}

void BareCrossing::disarm() {
  __atomic_store_n(&(*bare_)->bss->crossing_tgid, 0U, __ATOMIC_SEQ_CST);
}

}  // namespace procguard::bench
