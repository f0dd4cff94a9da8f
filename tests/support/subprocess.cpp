// SPDX-License-Identifier: Apache-2.0
#include "tests/support/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "tests/support/signals.h"

namespace procguard::test {
namespace {

using Clock = std::chrono::steady_clock;

std::string new_id() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/uuid"), id);
  return id;
}

std::vector<std::string> environment(const Command& command, const std::string& id) {
  std::vector<std::string> result;
  auto name_of = [](const std::string& entry) { return entry.substr(0, entry.find('=')); };
  std::vector<std::string> changes = command.env;
  changes.push_back(std::string(kMarker) + "=" + id);
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    bool changed = false;
    for (const std::string& change : changes) {
      changed = changed || name_of(change) == name_of(*entry);
    }
    if (!changed) {
      result.emplace_back(*entry);
    }
  }
  for (const std::string& change : changes) {
    if (change.find('=') != std::string::npos) {
      result.push_back(change);
    }
  }
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) {
    result.push_back(const_cast<char*>(s.c_str()));
  }
  result.push_back(nullptr);
  return result;
}

void set_nonblocking(const sys::Fd& fd) {
  if (fd) {
    ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);
  }
}

bool make_pipe(sys::Fd& read_end, sys::Fd& write_end) {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    return false;
  }
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  return true;
}

}  // namespace

// The child's ends, and the pipe on which it says why exec failed.
struct Subprocess::Pipes {
  sys::Fd in;
  sys::Fd out;
  sys::Fd err;
  sys::Fd failure_read;
  sys::Fd failure_write;
  std::string terminal;
};

std::string Outcome::describe() const {
  std::string text = !error.empty()     ? "not started: " + error
                     : term_signal != 0 ? "ended by signal " + std::to_string(term_signal)
                                        : "exited with " + std::to_string(exit_code);
  return text + (timed_out ? " (killed at the deadline of the test)" : "") + "\n--- stdout\n" +
         out + "\n--- stderr\n" + err;
}

Subprocess::Subprocess(const Command& command)
    : id_(new_id()), begin_(Clock::now()), deadline_(begin_ + command.deadline) {
  start(command);
}

Subprocess::~Subprocess() {
  kill_survivors(id_);
  if (pid_ > 0 && !reaped_) {
    ::kill(pid_, SIGKILL);  // not reaped: the pid is still ours
    reap();
  }
}

bool Subprocess::prepare(const Command& command, Pipes& pipes) {
  if (!make_pipe(pipes.failure_read, pipes.failure_write)) {
    return false;
  }
  if (command.terminal) {
    in_.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    std::array<char, 64> name{};
    if (!in_ || ::grantpt(in_.get()) != 0 || ::unlockpt(in_.get()) != 0 ||
        ::ptsname_r(in_.get(), name.data(), name.size()) != 0) {
      return false;
    }
    pipes.terminal = name.data();
    out_.reset(::fcntl(in_.get(), F_DUPFD_CLOEXEC, 0));
    // Held open here too, so that reading the master does not fail before the child has opened it.
    pipes.in.reset(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    hold_input_ = true;
    return static_cast<bool>(pipes.in);
  }
  if (command.input || command.hold_input) {
    unwritten_ = command.input.value_or("");
    hold_input_ = command.hold_input;
    if (!make_pipe(pipes.in, in_)) {
      return false;
    }
  } else {
    pipes.in.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
  return pipes.in && make_pipe(out_, pipes.out) && make_pipe(err_, pipes.err);
}

[[noreturn]] void Subprocess::become(const Command& command, const Pipes& pipes,
                                     const char* executable, char* const* argv, char* const* envp) {
  ::setsid();
  reset_signals();
  int in = pipes.in.get();
  if (!pipes.terminal.empty()) {
    in = ::open(pipes.terminal.c_str(), O_RDWR);
    ::ioctl(in, TIOCSCTTY, 0);
  }
  ::dup2(in, 0);
  ::dup2(pipes.out ? pipes.out.get() : in, 1);
  ::dup2(pipes.err ? pipes.err.get() : in, 2);
  if (in > 2) {
    ::close(in);
  }
  bool ok = command.cwd.empty() || ::chdir(command.cwd.c_str()) == 0;
  for (const auto& [resource, limit] : command.limits) {
    ok = ok && ::setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0;
  }
  if (ok && command.before_exec) {
    command.before_exec();
  }
  if (ok) {
    ::execvpe(executable, argv, envp);
  }
  const int code = errno;
  [[maybe_unused]] ssize_t n = ::write(pipes.failure_write.get(), &code, sizeof code);
  ::_exit(127);
}

void Subprocess::start(const Command& command) {
  Pipes pipes;
  if (!prepare(command, pipes)) {
    outcome_.error = std::string("pipes: ") + std::strerror(errno);
    return;
  }
  // All that allocates happens before fork: the runner may have threads.
  const std::vector<std::string> env = environment(command, id_);
  const std::vector<char*> envp = pointers(env);
  const std::vector<char*> argv = pointers(command.argv);
  const char* executable =
      command.executable.empty() ? command.argv.at(0).c_str() : command.executable.c_str();
  pid_ = ::fork();
  if (pid_ == 0) {
    become(command, pipes, executable, argv.data(), envp.data());
  }
  int code = pid_ < 0 ? errno : 0;
  pipes.failure_write.reset();
  // End of file when exec closed the other end: from here on the child carries the marker.
  if (pid_ > 0 && ::read(pipes.failure_read.get(), &code, sizeof code) == 0) {
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    set_nonblocking(in_);
    set_nonblocking(out_);
    set_nonblocking(err_);
    return;
  }
  outcome_.error = std::string(executable) + ": " + std::strerror(code);
}

bool Subprocess::send(int signal) {
  return pid_ > 0 && !reaped_ && ::kill(pid_, signal) == 0;
}

void Subprocess::type(const std::string& text) {
  unwritten_ += text;
  feed();
}

void Subprocess::close_input() {
  hold_input_ = false;
  feed();
}

void Subprocess::feed() {
  if (!in_) {
    return;
  }
  // A child that does not read its input is no error of the test's.
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &before);
  while (!unwritten_.empty()) {
    ssize_t n = ::write(in_.get(), unwritten_.data(), unwritten_.size());
    if (n < 0 && errno == EPIPE) {
      unwritten_.clear();
      hold_input_ = false;
    }
    if (n <= 0) {
      break;
    }
    unwritten_.erase(0, static_cast<size_t>(n));
  }
  ::sigaction(SIGPIPE, &before, nullptr);
  if (unwritten_.empty() && !hold_input_) {
    in_.reset();
  }
}

void Subprocess::collect(sys::Fd& fd, std::string& text) {
  std::array<char, 65536> buffer;
  while (fd) {
    ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n > 0) {
      text.append(buffer.data(), static_cast<size_t>(n));
    } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      return;
    } else {
      fd.reset();  // end of file; EIO on a terminal that nobody has open
    }
  }
}

bool Subprocess::pump() {
  if (reaped_ || pid_ <= 0 || !started()) {
    return false;
  }
  feed();
  std::array<pollfd, 4> fds{{{pidfd_.get(), POLLIN, 0},
                             {out_.get(), POLLIN, 0},
                             {err_.get(), POLLIN, 0},
                             {unwritten_.empty() ? -1 : in_.get(), POLLOUT, 0}}};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
  const int ready =
      left > 0 ? ::poll(fds.data(), fds.size(), static_cast<int>(std::min<long>(left, 1000))) : 0;
  if (ready == 0 && Clock::now() >= deadline_) {
    outcome_.timed_out = true;
    kill_survivors(id_);
    ::kill(pid_, SIGKILL);
    reap();
    return false;
  }
  const bool ended = (fds[0].revents & POLLIN) != 0;
  collect(out_, outcome_.out);
  collect(err_, outcome_.err);
  if (ended) {
    reap();
  }
  return !ended;
}

void Subprocess::reap() {
  int status = 0;
  while (::wait4(pid_, &status, 0, &outcome_.usage) < 0 && errno == EINTR) {
  }
  outcome_.wall_ns = static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - begin_).count());
  reaped_ = true;
  if (WIFEXITED(status)) {
    outcome_.exit_code = WEXITSTATUS(status);
  } else {
    outcome_.term_signal = WTERMSIG(status);
    outcome_.core_dumped = WCOREDUMP(status);
  }
  // What was written before the end is in the pipes now.
  collect(out_, outcome_.out);
  collect(err_, outcome_.err);
}

const Outcome& Subprocess::wait() {
  if (pid_ > 0 && !started() && !reaped_) {
    reap();
    outcome_.exit_code = -1;
  }
  while (pump()) {
  }
  return outcome_;
}

bool Subprocess::wait_for(const std::string& text, const std::string& where) {
  while (where.find(text) == std::string::npos) {
    if (!pump()) {
      return where.find(text) != std::string::npos;
    }
  }
  return true;
}

bool Subprocess::wait_for_output(const std::string& text) {
  return wait_for(text, outcome_.out);
}

bool Subprocess::wait_for_error(const std::string& text) {
  return wait_for(text, outcome_.err);
}

Outcome run(const Command& command) {
  Subprocess process(command);
  return process.wait();
}

std::string build_dir() {
  const char* dir = std::getenv("PROCGUARD_BUILD");
  std::string path = dir != nullptr && *dir != '\0' ? dir : "build";
  if (path[0] != '/') {
    std::unique_ptr<char, void (*)(void*)> cwd(::getcwd(nullptr, 0), std::free);
    path = std::string(cwd.get()) + "/" + path;
  }
  return path;
}

std::string procguard_binary() {
  return build_dir() + "/procguard";
}

std::string program(const std::string& name) {
  return build_dir() + "/programs/" + name;
}

}  // namespace procguard::test
