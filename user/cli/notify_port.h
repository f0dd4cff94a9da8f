// SPDX-License-Identifier: Apache-2.0
// NotifyPort: the socket that the command finds as NOTIFY_SOCKET (sd_notify(3)). WATCHDOG=1 from a
// member of the target is progress of the guard; what else members say goes on to the service
// manager that run itself was started by, if there is one. One thread; wakes nobody by itself.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::cli {

// What one datagram says. Lines that are about the watchdog are ours; the others are `rest`.
struct Notice {
  bool progress = false;
  std::string rest;
};
Notice read_notice(std::string_view datagram);

// The other end: progress for whoever listens at `address`, from this process, which is known to be
// a member only while it lives: waits until it was heard, for some seconds.
Result<void> notify_progress(const std::string& address);

class NotifyPort {
 public:
  using IsMember = std::function<bool(pid_t pid, uid_t uid)>;

  // `manager`: the NOTIFY_SOCKET that this process was given; empty: none.
  static Result<NotifyPort> open(std::string manager);

  int fd() const { return socket_.get(); }
  // As NOTIFY_SOCKET names it.
  const std::string& address() const { return address_; }

  // Takes what has come, some at a time. True: there was progress.
  bool take(const IsMember& is_member);

 private:
  NotifyPort(sys::Fd socket, std::string address, std::string manager)
      : socket_(std::move(socket)), address_(std::move(address)), manager_(std::move(manager)) {}
  void pass_on(const std::string& text, const std::vector<sys::Fd>& fds) const;

  sys::Fd socket_;
  std::string address_;
  std::string manager_;
};

}  // namespace procguard::cli
