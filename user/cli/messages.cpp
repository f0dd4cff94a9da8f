// SPDX-License-Identifier: Apache-2.0
#include "cli/messages.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/clock.h"
#include "core/guard.h"
#include "core/signals.h"
#include "core/units.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

bool is_memory(std::uint32_t resource) {
  return resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
}

std::string what_happened(const pg_event& step) {
  const std::string resource = core::resource_name(step.resource);
  if (step.resource == PG_TIMEOUT) {
    return resource + " of " + core::format_duration(step.limit) + " reached";
  }
  const auto amount = [&](std::uint64_t value) {
    return is_memory(step.resource) ? core::format_size(value) : core::format_duration(value);
  };
  return resource + " " + amount(step.observed) + " over limit " + amount(step.limit);
}

std::string what_was_done(const pg_event& step) {
  const std::string signal = core::signal_full_name(static_cast<int>(step.signal));
  switch (step.result) {
    case PG_RESULT_SENT:
      return signal + (step.by == PG_BY_KERNEL ? " sent by the kernel" : " sent");
    case PG_RESULT_MERGED:
      return signal + " was sent for another limit just before";
    case PG_RESULT_DRY_RUN:
      return signal + " not sent (dry run)";
    case PG_RESULT_GONE:
      return signal + " not sent: nobody is left";
    case PG_RESULT_PENDING:
      return signal + " sent, pending: the target is frozen or traced";
    case PG_RESULT_IGNORED:
      return signal + " not sent: a namespace's init without a handler ignores it";
    case PG_RESULT_REFUSED:
      return signal + " refused: " + std::strerror(static_cast<int>(step.error));
    default:
      return signal + " " + core::result_name(step.result) +
             (step.error != 0 ? ": " + std::string(std::strerror(static_cast<int>(step.error)))
                              : "");
  }
}

std::string when(const pg_event& step, core::Ns since) {
  const core::Ns late = core::saturating_sub(step.at_ns, since);
  if (late < core::kMicrosecond && step.resource != PG_TIMEOUT) {
    return " at the crossing";
  }
  const core::Ns shown = late < core::kMicrosecond ? late : late - late % core::kMicrosecond;
  return " " + core::format_duration(shown) +
         (step.resource == PG_TIMEOUT ? " after it was due" : " after the crossing");
}

}  // namespace

std::string trip_text(std::string_view guard, const pg_event& step, core::Ns since,
                      const Named& process) {
  std::string text(guard);
  text += ": " + what_happened(step) + " in pid " + std::to_string(process.pid);
  if (!process.comm.empty()) {
    text += " (" + sys::printable(process.comm) + ")";
  }
  text += ": " + what_was_done(step);
  const bool sent = step.result == PG_RESULT_SENT || step.result == PG_RESULT_PENDING;
  return sent ? text + when(step, since) : text;
}

std::string above_ram_text(std::string_view guard, std::uint64_t limit_bytes,
                           std::uint64_t ram_bytes) {
  return std::string(guard) + ": memory limit " + core::format_size(limit_bytes) +
         " is above the " + core::format_size(ram_bytes) + " of RAM of this machine";
}

void Messages::put(std::string_view text) {
  waiting_.push_back("procguard: " + std::string(text) + "\n");
  if (waiting_.size() > kMaxWaiting) {
    waiting_.pop_front();
  }
  flush(0);
}

void Messages::flush(int patience_ms) {
  while (!waiting_.empty()) {
    // A pipe that is ready has room for PIPE_BUF bytes: more than a line has.
    pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, patience_ms) != 1) {
      return;
    }
    const std::string& line = waiting_.front();
    if (::write(fd_, line.data(), line.size()) < 0 && (errno == EINTR || errno == EAGAIN)) {
      return;  // with the next line
    }
    waiting_.pop_front();  // written, or there is nobody to read it
  }
}

}  // namespace procguard::cli
