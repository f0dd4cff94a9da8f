// SPDX-License-Identifier: Apache-2.0
#include "core/signals.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>

namespace procguard::core {
namespace {

TEST(Signals, ParsesNamesAndNumbers) {
  const struct {
    const char* text;
    int signal;
  } rows[] = {{"TERM", SIGTERM},
              {"SIGTERM", SIGTERM},
              {"term", SIGTERM},
              {"SigTerm", SIGTERM},
              {"15", SIGTERM},
              {"015", SIGTERM},
              {"0", 0},
              {"EXIT", 0},
              {"SIGEXIT", 0},
              {"IOT", SIGABRT},
              {"CLD", SIGCHLD},
              {"IO", SIGPOLL},
              {"POLL", SIGPOLL},
              {"PWR", SIGPWR},
              {"STKFLT", SIGSTKFLT},
              {"SYS", SIGSYS},
              {"RTMIN", SIGRTMIN},
              {"rtmin+3", SIGRTMIN + 3},
              {"SIGRTMAX-2", SIGRTMAX - 2},
              {"RTMIN+30", SIGRTMAX},
              {"64", SIGRTMAX},
              {"137", SIGKILL},  // a shell's $?
              {"265", SIGKILL},
              {"128", 0}};
  for (const auto& row : rows) {
    EXPECT_EQ(parse_signal(row.text), row.signal) << row.text;
  }
}

TEST(Signals, RefusesWhatIsNoSignal) {
  for (const char* text : {"",         " ",
                           "SIG",      "SIGSIGTERM",
                           "TERMX",    "TER",
                           "-1",       "+9",
                           " 9",       "9 ",
                           "9x",       "0x9",
                           "32",       "33",
                           "65",       "384",
                           "1000",     "99999999999999999999",
                           "RTMIN-1",  "RTMAX+1",
                           "RTMIN+31", "RTMAX-31",
                           "RTMIN+",   "RTMIN3",
                           "RTMIN+-3", "RTMIN+99999999999",
                           "RT",       "UNUSED",
                           "LOST",     "15TERM"}) {
    EXPECT_EQ(parse_signal(text), std::nullopt) << text;
  }
}

TEST(Signals, EveryNameIsParsedBack) {
  int named = 0;
  for (int signal = 0; signal <= SIGRTMAX; ++signal) {
    if (signal > SIGSYS && signal < SIGRTMIN) {
      continue;
    }
    ++named;
    EXPECT_EQ(parse_signal(signal_name(signal)), signal);
    EXPECT_EQ(parse_signal(signal_full_name(signal)), signal);
    EXPECT_EQ(signal_full_name(signal), "SIG" + signal_name(signal));
    EXPECT_EQ(parse_signal(std::to_string(signal)), signal);
  }
  EXPECT_EQ(named, 32 + SIGRTMAX - SIGRTMIN + 1);
}

TEST(Signals, Names) {
  EXPECT_EQ(signal_name(SIGTERM), "TERM");
  EXPECT_EQ(signal_name(0), "EXIT");
  EXPECT_EQ(signal_name(SIGABRT), "ABRT");
  EXPECT_EQ(signal_name(SIGPOLL), "POLL");
  EXPECT_EQ(signal_name(SIGRTMIN), "RTMIN");
  EXPECT_EQ(signal_name(SIGRTMIN + 3), "RTMIN+3");
  EXPECT_EQ(signal_name(SIGRTMAX - 2), "RTMAX-2");
  EXPECT_EQ(signal_name(32), "32");
  EXPECT_EQ(signal_name(65), "65");
  EXPECT_EQ(signal_name(-1), "-1");
  EXPECT_EQ(signal_full_name(SIGTERM), "SIGTERM");
  EXPECT_EQ(signal_full_name(33), "33");
}

}  // namespace
}  // namespace procguard::core
