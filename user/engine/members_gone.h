// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>

#include "core/result.h"

namespace procguard::engine {

// Nobody is left where members were looked for.
inline bool means_gone(const Error& error) {
  return error.code() == ESRCH || error.code() == ENOENT || error.code() == ENODEV;
}

}  // namespace procguard::engine
