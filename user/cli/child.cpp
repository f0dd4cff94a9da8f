// SPDX-License-Identifier: Apache-2.0
#include "cli/child.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "sys/pidfd.h"

namespace procguard::cli {
namespace {

// What comes through the gate, in one write.
struct Go {
  char later[Child::kMaxLater + 1] = {};
};
constexpr int kNeverExecuted = 125;

struct Pipe {
  sys::Fd read;
  sys::Fd write;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    return Error::system("pipe2", errno);
  }
  return Pipe{sys::Fd(fds[0]), sys::Fd(fds[1])};
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    result.push_back(const_cast<char*>(text.c_str()));
  }
  result.push_back(nullptr);
  return result;
}

// What the child needs, made before it is: it must not allocate.
struct Prepared {
  const ChildSpec& spec;
  char* const* argv;
  char* const* envp;
  char* later;  // where in envp the value that comes later belongs; room for Go::later
  int gate;
  int outcome;
};

// Async-signal-safe calls only: the child shares nothing but has a copy of everything.
[[noreturn]] void become(const Prepared& prepared) {
  const ChildSpec& spec = prepared.spec;
  if (spec.terminal >= 0) {
    // The parent does the same: whoever comes first, it is done before the exec. Both have SIGTTOU
    // blocked here.
    ::setpgid(0, 0);
    ::tcsetpgrp(spec.terminal, ::getpid());
  }
  ::sigaction(SIGCHLD, &spec.on_child_exit, nullptr);
  ::sigprocmask(SIG_SETMASK, &spec.mask, nullptr);
  Go go;
  ssize_t got = 0;
  do {
    got = ::read(prepared.gate, &go, sizeof(go));
  } while (got < 0 && errno == EINTR);
  if (got != sizeof(go)) {
    ::_exit(kNeverExecuted);
  }
  std::memcpy(prepared.later, go.later, sizeof(go.later));
  ::execvpe(prepared.argv[0], prepared.argv, prepared.envp);
  const int error = errno;
  // Nobody to tell but the parent; if it is gone, the status says enough.
  [[maybe_unused]] const ssize_t told = ::write(prepared.outcome, &error, sizeof(error));
  ::_exit(error == ENOENT ? 127 : 126);
}

struct Cloned {
  pid_t pid;
  int pidfd;
};

// As fork(2), with a pidfd and into a cgroup. In the child pid is 0.
Result<Cloned> clone_child(int cgroup) {
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  const long pid = ::syscall(SYS_clone3, &args, sizeof(args));
  if (pid >= 0) {
    return Cloned{static_cast<pid_t>(pid), pidfd};
  }
  if (errno != ENOSYS || cgroup >= 0) {
    return Error::system(cgroup >= 0 ? "clone3 into the cgroup" : "clone3", errno);
  }
  // Some containers' seccomp filters know no clone3. Our own child cannot be recycled before we
  // reap it, so its pid is good enough to open.
  const pid_t forked = ::fork();
  if (forked < 0) {
    return Error::system("fork", errno);
  }
  return Cloned{forked, -1};
}

}  // namespace

Result<Child> Child::spawn(const ChildSpec& spec) {
  auto gate = make_pipe();
  if (!gate) {
    return gate.error();
  }
  auto outcome = make_pipe();
  if (!outcome) {
    return outcome.error();
  }
  const std::vector<char*> argv = pointers(spec.command);
  std::string later = spec.named_later + "=";
  const std::size_t value = later.size();
  later.append(sizeof(Go::later), '\0');
  std::vector<char*> envp = pointers(spec.environment);
  if (!spec.named_later.empty()) {
    envp.insert(envp.end() - 1, later.data());
  }
  auto cloned = clone_child(spec.cgroup);
  if (!cloned) {
    return cloned.error().in("starting " + spec.command[0]);
  }
  if (cloned->pid == 0) {
    ::close(gate->write.release());  // or it would never see its parent's death
    become({spec, argv.data(), envp.data(), &later[value], gate->read.get(), outcome->write.get()});
  }
  sys::Fd pidfd(cloned->pidfd);
  if (!pidfd) {
    auto opened = sys::open_pidfd(cloned->pid);
    if (!opened) {
      return opened.error().in("starting " + spec.command[0]);  // the closing gate ends the child
    }
    pidfd = std::move(opened).value();
  }
  if (spec.terminal >= 0) {
    ::setpgid(cloned->pid, cloned->pid);
    ::tcsetpgrp(spec.terminal, cloned->pid);
  }
  return Child(cloned->pid, std::move(pidfd), std::move(gate->write), std::move(outcome->read));
}

Result<void> Child::let_go(std::string_view later) {
  Go go;
  later.copy(go.later, kMaxLater);
  // EPIPE: it was killed while it was held; its status will tell.
  if (::write(gate_.get(), &go, sizeof(go)) != sizeof(go) && errno != EPIPE) {
    return Error::system("letting the command go", errno);
  }
  gate_.reset();
  return {};
}

std::optional<int> Child::exec_error() {
  int error = 0;
  const ssize_t got = ::read(outcome_.get(), &error, sizeof(error));
  if (got < 0 && errno == EINTR) {
    return std::nullopt;
  }
  return got == static_cast<ssize_t>(sizeof(error)) ? error : 0;
}

void Child::send(int signal) const {
  static_cast<void>(sys::send_signal(pidfd_.get(), signal));
}

}  // namespace procguard::cli
