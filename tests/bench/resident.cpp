// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/resident.h"

#include <cstdlib>
#include <string>

#include "sys/files.h"
#include "sys/procfs.h"

namespace procguard::bench {

Result<Resident> resident(pid_t pid) {
  auto total = sys::ProcRoot().rss_bytes(pid);
  auto status = sys::read_file("/proc/" + std::to_string(pid) + "/status");
  if (!total || !status) {
    return total ? status.error() : total.error();
  }
  const std::string anon(sys::status_field(status.value(), "RssAnon"));
  return Resident{.total_bytes = total.value(),
                  .anon_bytes = std::strtoull(anon.c_str(), nullptr, 10) * 1024};
}

}  // namespace procguard::bench
