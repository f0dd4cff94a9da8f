// SPDX-License-Identifier: Apache-2.0
#include "cli/container.h"

#include <algorithm>
#include <vector>

#include "cli/agent_link.h"
#include "sys/files.h"
#include "sys/procfs_parse.h"

namespace procguard::cli {
namespace {

constexpr int kMaxDepth = 32;
constexpr std::size_t kMostNamed = 3;  // in an error

bool is_hex(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
}

// An id is a directory's name, or part of one.
bool is_id(std::string_view id) {
  return !id.empty() && id.front() != '.' && std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return c > ' ' && c < 0x7f && c != '/' && c != '*' && c != '?';
  });
}

struct Found {
  std::vector<std::string> exact;
  std::vector<std::string> prefix;
};

// Directories that vanish meanwhile, or may not be read, are not the one.
void look(const std::string& directory, std::string_view id, int depth, Found& found) {
  const auto names = sys::list_directory(directory, AT_FDCWD, /*directories_only=*/true);
  if (!names || depth > kMaxDepth) {
    return;
  }
  for (const std::string& name : names.value()) {
    std::string path = directory;
    path.append("/").append(name);
    const IdMatch match = match_container(name, id);
    if (match != IdMatch::kNo) {
      (match == IdMatch::kExact ? found.exact : found.prefix).push_back(path);
    }
    look(path, id, depth + 1, found);
  }
}

Error ambiguous(const std::string& id, std::vector<std::string> paths) {
  std::sort(paths.begin(), paths.end());
  std::string text = "container '" + sys::printable(id) + "' may be any of " +
                     std::to_string(paths.size()) + " cgroups (give more of the id, or --cgroup):";
  for (std::size_t i = 0; i < std::min(paths.size(), kMostNamed); ++i) {
    text += " " + sys::printable(paths[i]);
  }
  return Error(text + (paths.size() > kMostNamed ? " ..." : ""), kAgentUsage);
}

}  // namespace

IdMatch match_container(std::string_view directory, std::string_view id) {
  if (directory == id) {
    return IdMatch::kExact;
  }
  std::string_view stem = directory;
  const bool scope = stem.ends_with(".scope");
  if (scope) {
    stem.remove_suffix(std::string_view(".scope").size());
  }
  if (!scope && !stem.starts_with("libpod-")) {
    // Nothing stands before the id: the whole name is it.
    return is_hex(stem) && is_hex(id) && id.size() >= kShortestId && stem.starts_with(id)
               ? IdMatch::kPrefix
               : IdMatch::kNo;
  }
  // The runtime's name comes first and may have dashes; so may an id that is no number.
  if (stem.size() > id.size() && stem.ends_with(id) && stem[stem.size() - id.size() - 1] == '-') {
    const std::string_view runtime = stem.substr(0, stem.size() - id.size() - 1);
    return runtime.ends_with("conmon") ? IdMatch::kNo : IdMatch::kExact;  // podman's own monitor
  }
  const std::size_t dash = stem.rfind('-');
  if (dash == std::string_view::npos || stem.substr(0, dash).ends_with("conmon")) {
    return IdMatch::kNo;
  }
  const std::string_view whole = stem.substr(dash + 1);
  return is_hex(whole) && is_hex(id) && id.size() >= kShortestId && whole.starts_with(id)
             ? IdMatch::kPrefix
             : IdMatch::kNo;
}

Result<std::string> find_container(const std::string& point, const std::string& id) {
  if (!is_id(id)) {
    return Error("'" + sys::printable(id) +
                     "' is no container id (expected its name, or at least " +
                     std::to_string(kShortestId) + " hex digits)",
                 kAgentUsage);
  }
  Found found;
  look(point == "/" ? "" : point, id, 0, found);
  const std::vector<std::string>& paths = found.exact.empty() ? found.prefix : found.exact;
  if (paths.empty()) {
    return Error("no cgroup below " + point + " is container '" + sys::printable(id) +
                     "' (expected a running container's id, or at least " +
                     std::to_string(kShortestId) + " hex digits of it)",
                 kAgentNone);
  }
  return paths.size() == 1 ? Result<std::string>(paths[0]) : ambiguous(id, paths);
}

}  // namespace procguard::cli
