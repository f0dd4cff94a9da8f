// SPDX-License-Identifier: Apache-2.0
#include "client/shown.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.h"

namespace procguard::client {
namespace {

// Each store is seen after those before it, which is all that a reader of versions needs; on most
// machines it is a plain one.
template <typename T>
void store(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_release);
}

// A slot is being written while this lives.
class Writing {
 public:
  explicit Writing(proto::PageSlot& slot) : slot_(slot) { store(slot_.version, slot_.version + 1); }
  Writing(const Writing&) = delete;
  Writing& operator=(const Writing&) = delete;
  ~Writing() { store(slot_.version, slot_.version + 1); }

 private:
  proto::PageSlot& slot_;
};

// One that nobody has; nullptr: there is none.
proto::PageSlot* take_slot(proto::Page& page) {
  const std::atomic_ref<std::uint32_t> used(page.header.used);
  std::uint32_t next = used.load(std::memory_order_relaxed);
  do {
    if (next >= proto::kPageSlots) {
      return nullptr;
    }
  } while (!used.compare_exchange_weak(next, next + 1, std::memory_order_relaxed));
  return &page.slot[next];
}

std::atomic_ref<std::uint64_t> not_shown(proto::Page& page) {
  return std::atomic_ref<std::uint64_t>(page.header.not_shown);
}

}  // namespace

SessionPage& SessionPage::instance() {
  static SessionPage page;
  return page;
}

Result<int> SessionPage::descriptor() {
  if (page_ != nullptr) {
    return fd_;
  }
  sys::Fd fd(::memfd_create("procguard-session", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) {
    return Error::system("memfd_create", errno);
  }
  if (::ftruncate(fd.get(), sizeof(proto::Page)) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return Error::system("making the page of the session", errno);
  }
  void* mapped =
      ::mmap(nullptr, sizeof(proto::Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) {
    return Error::system("mapping the page of the session", errno);
  }
  page_ = static_cast<proto::Page*>(mapped);
  page_->header.magic = proto::kPageMagic;
  page_->header.abi = PG_ABI;
  page_->header.slots = proto::kPageSlots;
  fd_ = fd.release();
  return fd_;
}

void SessionPage::abandon() {
  close();
  if (page_ != nullptr) {
    ::munmap(page_, sizeof(proto::Page));
    ::close(fd_);
  }
  page_ = nullptr;
  fd_ = -1;
}

void Shown::put(proto::Page& page, const ShownGuard& guard) {
  slot_ = slot_ == nullptr ? take_slot(page) : slot_;
  if (slot_ == nullptr) {
    if (state_ == kHidden) {
      not_shown(page).fetch_add(1, std::memory_order_relaxed);
      state_ = kCounted;
    }
    return;
  }
  const Writing writing(*slot_);
  store(slot_->tid, guard.tid);
  store(slot_->resource, guard.resource);
  store(slot_->limit, guard.limit);
  store(slot_->base, guard.base);
  store(slot_->grace_ns, guard.grace_ns);
  store(slot_->guard, guard.guard);
  store(slot_->next_step, guard.next_step);
  store(slot_->steps, guard.steps);
  store(slot_->state, std::uint32_t{proto::kSlotEntered});
  state_ = kShown;
}

void Shown::clear() {
  if (state_ == kShown) {
    const Writing writing(*slot_);
    store(slot_->state, std::uint32_t{proto::kSlotFree});
  }
  state_ = kHidden;
}

}  // namespace procguard::client
