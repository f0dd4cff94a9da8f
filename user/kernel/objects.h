// SPDX-License-Identifier: Apache-2.0
// Objects: the maps and programs of the BPF object, by name, as file descriptors. It does not
// matter where they came from: loaded by this process, or pinned below a directory by one before
// it.
//
// Below the directory: the maps by their names, programs/, links/, and `abi`, which says what wrote
// them. Single thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "sys/fd.h"

namespace procguard::kernel {

struct LoadOptions {
  std::uint32_t watches = 16;
  std::uint32_t processes = 16384;  // as many as can be members at once
  std::uint32_t threads = 32768;
  std::uint32_t guards = 1024;  // as many as can be published, and kept for the next instance
  bool cgroups = true;          // false: loads faster, guards no cgroups
  bool memory = true;           // false: no memory program can be attached, sums are inexact
  bool failsafe = false;        // true: the kernel's last step while no agent runs can be had
};

class Objects {
 public:
  // Error code EPERM: capabilities are missing.
  static Result<Objects> load(const LoadOptions& options);
  // What is pinned below `dir`. Error codes: ENOENT: nothing; EPROTO: by a procguard with another
  // ABI, which the message names.
  static Result<Objects> open(const std::string& dir);
  // Pins everything below `dir`, which is made if it is not there; it must lie on a bpffs. After
  // this all of it outlives the process.
  Result<void> pin(const std::string& dir) const;

  int map(const char* name) const { return find(maps_, name); }          // -1: there is none
  int program(const char* name) const { return find(programs_, name); }  // -1: not loaded

 private:
  using ByName = std::map<std::string, sys::Fd, std::less<>>;
  static int find(const ByName& fds, const char* name);

  ByName maps_;
  ByName programs_;
};

// Is anything pinned below `dir`?
bool is_pinned(const std::string& dir);
// Removes all that procguard pins below `dir`, whole or half made. What nobody holds ends with it.
Result<void> remove_pins(const std::string& dir);

// Where a program's link is pinned.
std::string link_path(const std::string& dir, const std::string& program);

}  // namespace procguard::kernel
