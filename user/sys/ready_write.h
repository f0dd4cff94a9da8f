// SPDX-License-Identifier: Apache-2.0
// Writing for who must not wait: to a standard error, say, that is a pipe nobody reads.
#pragma once

#include <string_view>

namespace procguard::sys {

// The line in one write(2), if there is room for it now; longer than PIPE_BUF it is cut off. False:
// it was not written. Between many who write at once it may still have to wait for the others'.
bool write_if_ready(int fd, std::string_view line);

}  // namespace procguard::sys
