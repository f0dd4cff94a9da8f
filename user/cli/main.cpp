// SPDX-License-Identifier: Apache-2.0
// The procguard binary: finds the subcommand and hands over.
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent_main.h"
#include "cli/agent_commands.h"
#include "cli/doctor.h"
#include "cli/run.h"
#include "cli/timeout.h"

namespace {

constexpr int kExitUsage = 2;

constexpr const char* kHelp =
    "Usage: procguard COMMAND [ARG]...\n"
    "Keeps running work inside limits of time and memory.\n"
    "\n"
    "Commands:\n"
    "  run       Run a command under limits of time, CPU time and memory\n"
    "  timeout   Run a command with a time limit: timeout(1) as POSIX and GNU have it\n"
    "  doctor    Say what works on this machine, what does not, and what to do about it\n"
    "  agent     Guard what runs already, for all of the machine, until it ends\n"
    "\n"
    "Commands that ask the agent:\n"
    "  attach    Guard a process, thread, tree, cgroup or container that runs already\n"
    "  list      List guards: what is used of each limit, the time left, the step\n"
    "  show      Show all that is known of a guard\n"
    "  set       Change limits of a guard\n"
    "  pause     Stop the clocks of guards\n"
    "  resume    Let paused guards go on\n"
    "  release   End guards; their targets go on\n"
    "  progress  Tell a guard that the work goes on: its timeout starts anew\n"
    "  events    Print what happened to guards, and follow it\n"
    "  status    Say how the agent is\n"
    "\n"
    "Options:\n"
    "  -h, --help     Print this and exit; 'procguard COMMAND --help' says more\n"
    "      --version  Print the version and exit\n"
    "\n"
    "Examples:\n"
    "  procguard run -t 10m -m 2G -- make -j8   time and memory of everything make starts\n"
    "  procguard run -t 30s --kill -- ./job     INT, then TERM, then KILL\n"
    "  procguard timeout -k 5 30 ./job          as timeout(1); so is a link named 'timeout'\n"
    "  procguard doctor                         can memory be guarded without polling here?\n"
    "  procguard attach --tree 4242 -m 2G       what runs already; the agent guards it\n";

bool is_called(const char* path, std::string_view name) {
  const char* slash = std::strrchr(path, '/');
  return name == (slash == nullptr ? path : slash + 1);
}

int usage_error(const std::string& what) {
  std::fprintf(stderr, "procguard: %s\nprocguard: try 'procguard --help'\n", what.c_str());
  return kExitUsage;
}

int print(const std::string& text) {
  return std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? 1 : 0;
}

int doctor(const std::vector<std::string>& args) {
  if (args.empty()) {
    return procguard::cli::doctor_main(false);
  }
  if (args.size() == 1 && args[0] == "--json") {
    return procguard::cli::doctor_main(true);
  }
  if (args.size() == 1 && (args[0] == "--help" || args[0] == "-h")) {
    return print(
        "Usage: procguard doctor [--json]\n"
        "Says what works on this machine, what does not, what that means and what to do.\n");
  }
  return usage_error("doctor: unexpected '" + args[0] + "' (expected nothing, or --json)");
}

struct Command {
  const char* name;
  int (*main)(const std::vector<std::string>& args);
};

constexpr Command kCommands[] = {
    {"run", procguard::cli::run_main},           {"doctor", doctor},
    {"agent", procguard::agent::agent_main},     {"attach", procguard::cli::attach_main},
    {"list", procguard::cli::list_main},         {"show", procguard::cli::show_main},
    {"set", procguard::cli::set_main},           {"pause", procguard::cli::pause_main},
    {"resume", procguard::cli::resume_main},     {"release", procguard::cli::release_main},
    {"progress", procguard::cli::progress_main}, {"events", procguard::cli::events_main},
    {"status", procguard::cli::status_main},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc > 0 && is_called(argv[0], "timeout")) {
    return procguard::cli::timeout_main(argc, argv, "timeout");
  }
  if (argc < 2) {
    std::fputs(kHelp, stderr);
    return kExitUsage;
  }
  const std::string_view command = argv[1];
  if (command == "timeout") {
    return procguard::cli::timeout_main(argc - 1, argv + 1, "procguard timeout");
  }
  const std::vector<std::string> args(argv + 2, argv + argc);
  for (const Command& known : kCommands) {
    if (command == known.name) {
      return known.main(args);
    }
  }
  if (command == "--help" || command == "-h" || command == "help") {
    return print(kHelp);
  }
  if (command == "--version") {
    return print("procguard " PROCGUARD_VERSION "\n");
  }
  return usage_error(
      "unknown command '" + std::string(command) +
      "' (expected run, timeout, doctor, agent, attach, list, show, set, pause, resume, release, "
      "progress, events or status)");
}
