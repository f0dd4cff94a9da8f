// SPDX-License-Identifier: Apache-2.0
// Attachments: which programs are attached, by group. When it goes they are detached, unless they
// are pinned. One thread.
#pragma once

#include <array>
#include <future>
#include <map>
#include <string>

#include "core/result.h"
#include "kernel/objects.h"
#include "kernel/programs.h"
#include "sys/fd.h"

namespace procguard::kernel {

class Attachments {
 public:
  explicit Attachments(const Objects& objects) : objects_(objects) {}

  // What is attached from now on is pinned below `dir`.
  void pin(const std::string& dir) { pins_ = dir; }
  // Takes over what another process attached and pinned.
  void adopt(const std::string& dir);
  // See Programs.
  Result<void> attach(Group group);
  void detach(Group group);
  bool attached(Group group) const { return !links_of(group).empty(); }
  bool attach_aside(Group group);
  bool detach_aside(Group group);

 private:
  using Links = std::map<std::string, sys::Fd>;  // by program

  Links& links_of(Group group) { return links_[static_cast<std::size_t>(group)]; }
  const Links& links_of(Group group) const { return links_[static_cast<std::size_t>(group)]; }
  Result<void> open(Group group, Links& links) const;
  void remove(Links& links) const;
  void wait_for_aside(Group group);
  bool aside_is_done();

  const Objects& objects_;
  std::string pins_;  // empty: nothing is pinned
  std::array<Links, kGroups> links_;
  Group aside_group_ = Group::kDoom;
  std::future<Links> aside_;  // what is attached of that group in the end; last: it ends first
};

}  // namespace procguard::kernel
