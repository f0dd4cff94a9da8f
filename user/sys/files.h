// SPDX-License-Identifier: Apache-2.0
// Small whole files: /proc, cgroup and sysfs entries. Any thread. Errors name the path; the code is
// the errno. `dir` is a directory fd or AT_FDCWD, as in openat(2).
#pragma once

#include <fcntl.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace procguard::sys {

// More than this in one such file is not what we asked for (a cgroup.procs of 4M pids fits).
inline constexpr std::size_t kMaxFileBytes = 64U << 20;

Result<std::string> read_file(const std::string& path, int dir = AT_FDCWD);

// One write(2) of the whole text into an existing file: what kernel interfaces expect.
Result<void> write_file(const std::string& path, std::string_view text, int dir = AT_FDCWD);

// Names of the entries without "." and "..", in no order. With `directories_only` the rest is left
// out.
Result<std::vector<std::string>> list_directory(const std::string& path, int dir = AT_FDCWD,
                                                bool directories_only = false);

// The target of a symbolic link.
Result<std::string> read_link(const std::string& path);

}  // namespace procguard::sys
