// SPDX-License-Identifier: Apache-2.0
#include "sys/caps.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <functional>

#include "sys/files.h"
#include "sys/procfs_parse.h"
#include "sys/sched_fifo.h"
#include "tests/support/child.h"
#include "tests/support/temp_tree.h"

namespace procguard::sys {
namespace {

constexpr std::uint64_t bit(int capability) {
  return std::uint64_t{1} << capability;
}

TEST(Caps, WhatIsMissingForBpf) {
  struct Row {
    const char* what;
    std::uint64_t effective;
    bool initial;
    std::vector<std::string> missing;
  };
  const Row rows[] = {
      {"nothing", 0, true, {"CAP_BPF", "CAP_PERFMON"}},
      {"bpf alone", bit(CAP_BPF), true, {"CAP_PERFMON"}},
      {"perfmon alone", bit(CAP_PERFMON), true, {"CAP_BPF"}},
      {"both", bit(CAP_BPF) | bit(CAP_PERFMON), true, {}},
      {"the old way", bit(CAP_SYS_ADMIN), true, {}},
      {"root of a container of its own", ~std::uint64_t{0}, false, {"CAP_BPF", "CAP_PERFMON"}},
  };
  for (const auto& row : rows) {
    const Capabilities capabilities{.effective = row.effective,
                                    .initial_user_namespace = row.initial};
    EXPECT_EQ(missing_for_bpf(capabilities), row.missing) << row.what;
  }
}

TEST(Caps, ReadsStatusAndNamespace) {
  const test::TempTree tree{{"status", "Name:\tx\nCapPrm:\tffff\nCapEff:\t0000008000000020\n"}};
  tree.link("ns/user", "user:[4026531837]");
  auto read = read_capabilities(tree.path());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(read.value().initial_user_namespace);
  EXPECT_EQ(capability_names(read.value()), (std::vector<std::string>{"CAP_KILL", "CAP_BPF"}));
  EXPECT_TRUE(may_signal_any(read.value()));

  tree.link("ns/user", "user:[4026532001]");
  read = read_capabilities(tree.path());
  ASSERT_TRUE(read);
  EXPECT_FALSE(read.value().initial_user_namespace);
  EXPECT_FALSE(may_signal_any(read.value()));
}

TEST(Caps, AStatusWithoutTheLineIsAnError) {
  for (const char* text : {"", "CapEff:\n", "CapEff:\tzz\n", "CapEff:\t12 34\n", "XCapEff:\t1\n"}) {
    const test::TempTree tree{{"status", text}};
    EXPECT_FALSE(read_capabilities(tree.path())) << text;
  }
  const test::TempTree empty;
  const auto missing = read_capabilities(empty.path());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ENOENT);
}

TEST(Caps, OwnAreReadable) {
  EXPECT_TRUE(read_capabilities());
}

TEST(Caps, Names) {
  EXPECT_EQ(capability_name(CAP_CHOWN), "CAP_CHOWN");
  EXPECT_EQ(capability_name(CAP_SYS_ADMIN), "CAP_SYS_ADMIN");
  EXPECT_EQ(capability_name(CAP_CHECKPOINT_RESTORE), "CAP_CHECKPOINT_RESTORE");
  EXPECT_EQ(capability_name(63), "CAP_63");
}

TEST(Caps, Lockdown) {
  EXPECT_EQ(parse_lockdown("[none] integrity confidentiality\n"), Lockdown::kNone);
  EXPECT_EQ(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::kIntegrity);
  EXPECT_EQ(parse_lockdown("none integrity [confidentiality]\n"), Lockdown::kConfidentiality);
  EXPECT_EQ(parse_lockdown(""), Lockdown::kUnknown);
  EXPECT_EQ(read_lockdown("/nowhere/lockdown"), Lockdown::kUnknown);
  EXPECT_STREQ(lockdown_name(Lockdown::kIntegrity), "integrity");
}

TEST(Caps, ResourceLimits) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(read_resource_limits().open_files.soft, limit.rlim_cur);
}

// --- keep_only: in children, which give up what the test still needs ----------------------------

constexpr int kKept[] = {CAP_CHOWN, CAP_BPF};
constexpr const char* kKeptBits = "0000008000000001";

// The exit status of a child that runs `body`: 0, or the number of what went wrong.
int status_of(const std::function<int()>& body) {
  test::Child child([&] { ::_exit(body()); });
  const int status = child.wait();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool may_shrink() {
  const auto own = read_capabilities();
  return own && own.value().has(CAP_SETPCAP) && own.value().has(CAP_CHOWN) &&
         own.value().has(CAP_BPF);
}

// All at once: inheritable ones, too, and those ambient that may be kept.
bool raise_all() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> halves{};
  if (::syscall(SYS_capget, &header, halves.data()) != 0) {
    return false;
  }
  for (auto& half : halves) {
    half.effective = half.inheritable = half.permitted;
  }
  return ::syscall(SYS_capset, &header, halves.data()) == 0 &&
         ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0 &&
         ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0;
}

TEST(CapsKeepOnly, AllSetsAreReduced) {
  if (!may_shrink()) {
    GTEST_SKIP() << "needs root";
  }
  EXPECT_EQ(status_of([] {
              if (!raise_all() || !keep_only(kKept)) {
                return 1;
              }
              const auto text = read_file("/proc/self/status");
              int row = 1;
              for (const auto& [name, bits] :
                   {std::pair("CapInh", kKeptBits), std::pair("CapPrm", kKeptBits),
                    std::pair("CapEff", kKeptBits), std::pair("CapBnd", kKeptBits),
                    std::pair("CapAmb", "0000000000000001"), std::pair("NoNewPrivs", "1")}) {
                ++row;
                if (!text || status_field(text.value(), name) != bits) {
                  return row;
                }
              }
              return 0;
            }),
            0);
}

TEST(CapsKeepOnly, WhatIsKeptWorksAndTheRestIsGone) {
  if (!may_shrink()) {
    GTEST_SKIP() << "needs root";
  }
  const test::TempTree tree{{"file", ""}};
  EXPECT_EQ(status_of([&] {
              if (!keep_only(kKept)) {
                return 1;
              }
              if (::chown(tree.at("file").c_str(), 65534, 65534) != 0) {
                return 2;
              }
              return ::unshare(CLONE_NEWNS) != 0 && errno == EPERM ? 0 : 3;
            }),
            0);
}

TEST(CapsKeepOnly, NothingComesBack) {
  if (!may_shrink()) {
    GTEST_SKIP() << "needs root";
  }
  EXPECT_EQ(status_of([] {
              if (!keep_only(kKept) || !keep_only(kKept)) {
                return 1;  // a second time there is nothing to drop
              }
              __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
              std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> all{};
              all[0] = {.effective = ~0U, .permitted = ~0U, .inheritable = 0};
              return ::syscall(SYS_capset, &header, all.data()) != 0 && errno == EPERM ? 0 : 2;
            }),
            0);
  // root that executes a program would have all of them again.
  EXPECT_EQ(status_of([] {
              if (!keep_only(kKept)) {
                return 1;
              }
              ::execl("/bin/sh", "sh", "-c",
                      "while read -r name value; do case $name in CapEff:|CapPrm:) "
                      "[ $value = 0000008000000001 ] || exit 3;; esac; done </proc/self/status",
                      nullptr);
              return 2;
            }),
            0);
}

TEST(CapsKeepOnly, WithoutTheRightItIsSaid) {
  if (!may_shrink()) {
    GTEST_SKIP() << "needs root";
  }
  EXPECT_EQ(status_of([] {
              if (::setuid(65534) != 0) {
                return 1;
              }
              const auto kept = keep_only(kKept);
              return !kept && kept.error().code() == EPERM &&
                             kept.error().message().find("CAP_") != std::string::npos
                         ? 0
                         : 2;
            }),
            0);
}

TEST(SchedFifo, SaysWhatItGot) {
  // In a child: the test's own thread keeps its class.
  test::Child child([] {
    const Scheduling got = request_sched_fifo();
    const Scheduling now = current_scheduling();
    const bool granted = got.error == 0 && got.policy == SCHED_FIFO && got.priority == 1 &&
                         got.reset_on_fork && got.describe() == "SCHED_FIFO 1, reset on fork";
    const bool refused = got.error != 0 && got.policy != SCHED_FIFO &&
                         got.describe().find("refused") != std::string::npos;
    ::_exit((granted || refused) && now.policy == got.policy ? 0 : 1);
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(SchedFifo, WithoutTheRightItIsRefusedAndSaid) {
  test::Child child([] {
    rlimit none{0, 0};
    ::setrlimit(RLIMIT_RTPRIO, &none);
    if (::setuid(65534) != 0) {
      ::_exit(0);  // not root: the first test has seen the refusal
    }
    const Scheduling got = request_sched_fifo();
    ::_exit(got.error == EPERM && got.policy == SCHED_OTHER ? 0 : 1);
  });
  const int status = child.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace procguard::sys
