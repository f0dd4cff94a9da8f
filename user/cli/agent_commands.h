// SPDX-License-Identifier: Apache-2.0
// The subcommands that ask the agent. `args`: what follows the name of the subcommand; they return
// the exit status (see agent_link.h).
#pragma once

#include <string>
#include <vector>

namespace procguard::cli {

int attach_main(const std::vector<std::string>& args);
int list_main(const std::vector<std::string>& args);
int show_main(const std::vector<std::string>& args);
int set_main(const std::vector<std::string>& args);
int pause_main(const std::vector<std::string>& args);
int resume_main(const std::vector<std::string>& args);
int release_main(const std::vector<std::string>& args);
int progress_main(const std::vector<std::string>& args);
int events_main(const std::vector<std::string>& args);
int status_main(const std::vector<std::string>& args);

}  // namespace procguard::cli
