// SPDX-License-Identifier: Apache-2.0
#include "sys/sched_fifo.h"

#include <sched.h>

#include <cerrno>
#include <cstring>

namespace procguard::sys {

namespace {

std::string policy_name(int policy) {
  switch (policy) {
    case SCHED_OTHER:
      return "SCHED_OTHER";
    case SCHED_FIFO:
      return "SCHED_FIFO";
    case SCHED_RR:
      return "SCHED_RR";
    case SCHED_BATCH:
      return "SCHED_BATCH";
    case SCHED_IDLE:
      return "SCHED_IDLE";
    default:
      return "policy " + std::to_string(policy);
  }
}

}  // namespace

std::string Scheduling::describe() const {
  std::string text = policy_name(policy);
  if (priority != 0) {
    text += " " + std::to_string(priority);
  }
  if (reset_on_fork) {
    text += ", reset on fork";
  }
  if (error != 0) {
    text += std::string(" (SCHED_FIFO refused: ") + std::strerror(error) + ")";
  }
  return text;
}

Scheduling current_scheduling() {
  Scheduling now;
  const int policy = ::sched_getscheduler(0);
  if (policy >= 0) {
    now.policy = policy & ~SCHED_RESET_ON_FORK;
    now.reset_on_fork = (policy & SCHED_RESET_ON_FORK) != 0;
  }
  sched_param param{};
  if (::sched_getparam(0, &param) == 0) {
    now.priority = param.sched_priority;
  }
  return now;
}

Scheduling request_sched_fifo() {
  sched_param param{};
  param.sched_priority = 1;
  const int error =
      ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0 ? 0 : errno;
  Scheduling now = current_scheduling();
  now.error = error;
  return now;
}

}  // namespace procguard::sys
