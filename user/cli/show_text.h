// SPDX-License-Identifier: Apache-2.0
// What `procguard show` and `procguard status` print for people. Pure.
#pragma once

#include <string>
#include <vector>

#include "core/clock.h"
#include "proto/messages.h"

namespace procguard::cli {

std::string show_text(const proto::ShowBody& show, const std::vector<proto::ThreadBody>& threads);
std::string status_text(const proto::StatusBody& status, core::Ns now);

}  // namespace procguard::cli
