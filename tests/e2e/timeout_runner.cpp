// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/timeout_runner.h"

#include <unistd.h>

#include <ostream>

namespace procguard::test {
namespace {

constexpr const char* kGnuTimeout = "/usr/bin/timeout";

// build/procguard under the name `timeout`, in a directory of its own.
class Link {
 public:
  Link() {
    std::string name = "/tmp/procguard-test-timeout-XXXXXX";
    if (::mkdtemp(name.data()) != nullptr) {
      directory_ = name;
      [[maybe_unused]] int result = ::symlink(procguard_binary().c_str(), path().c_str());
    }
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    ::unlink(path().c_str());
    ::rmdir(directory_.c_str());
  }
  std::string path() const { return directory_ + "/timeout"; }

 private:
  std::string directory_;
};

std::string executable(Timeout which) {
  static const Link link;
  switch (which) {
    case Timeout::kGnu:
      return kGnuTimeout;
    case Timeout::kLink:
      return link.path();
    case Timeout::kSubcommand:
      break;
  }
  return procguard_binary();
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

std::ostream& operator<<(std::ostream& out, Timeout which) {
  constexpr std::array kNames{"GNU timeout", "our timeout", "procguard timeout"};
  return out << kNames.at(static_cast<size_t>(which));
}

Command timeout_command(Timeout which, const TimeoutRun& run) {
  Command command{
      .env = run.env,
      .cwd = run.cwd,
      .limits = {{RLIMIT_CORE, run.core ? rlimit{RLIM_INFINITY, RLIM_INFINITY} : rlimit{}}},
      .terminal = run.terminal,
      .before_exec = run.before_exec};
  const bool by_script = !run.script.empty();
  if (by_script) {
    command.argv = {"sh", "-c", run.script, "sh", executable(which)};
  } else {
    command.executable = executable(which);
    command.argv = {which == Timeout::kSubcommand ? "procguard" : "timeout"};
  }
  if (which == Timeout::kSubcommand) {
    command.argv.emplace_back("timeout");
  }
  command.argv.insert(command.argv.end(), run.args.begin(), run.args.end());
  return command;
}

TimeoutOutcome finish_timeout(Subprocess& process, size_t survivors_expected) {
  TimeoutOutcome result;
  result.outcome = process.wait();
  // What was signalled last may still be on its way out.
  wait_until([&] { return survivors(process.id()).size() == survivors_expected; },
             std::chrono::seconds(3));
  result.survivors = survivors(process.id()).size();
  kill_survivors(process.id());
  replace_all(result.outcome.err, executable(Timeout::kSubcommand) + " timeout", "timeout");
  replace_all(result.outcome.err, "procguard timeout", "timeout");
  replace_all(result.outcome.err, executable(Timeout::kLink), "timeout");
  replace_all(result.outcome.err, kGnuTimeout, "timeout");
  return result;
}

TimeoutOutcome run_timeout(Timeout which, const TimeoutRun& run, size_t survivors_expected) {
  Subprocess process(timeout_command(which, run));
  if (run.when_ready != 0 || !run.input_when_ready.empty()) {
    if (process.wait_for_output("ready")) {
      // The command may run before the wrapper has returned from fork, and GNU's of Debian 12 takes
      // a signal then for one that came before the fork.
      wait_until([&] { return process_state(process.pid()) == 'S'; });
      if (run.when_ready != 0) {
        process.send(run.when_ready);
      }
      process.type(run.input_when_ready);
    }
  }
  return finish_timeout(process, survivors_expected);
}

}  // namespace procguard::test
