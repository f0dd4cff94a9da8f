// SPDX-License-Identifier: Apache-2.0
// Log: what the agent says of itself and of guards, as text, JSON or to the journal. A thread of
// its own writes: who logs never waits, and what does not fit or comes too fast is counted and said
// later. Any thread may log.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/result.h"
#include "proto/messages.h"

namespace procguard::agent {

enum class LogFormat { kText, kJson, kJournal };
enum class Severity { kError, kWarning, kNotice, kInfo };

class Log {
 public:
  struct Options {
    LogFormat format = LogFormat::kText;
    int fd = 2;                             // text and JSON
    std::uint32_t lines_per_second = 1000;  // of events, averaged; 0 = no limit
    std::uint32_t burst = 10000;
    std::size_t queue = 16384;  // lines that wait to be written
  };
  // Error: the journal was asked for and is not there.
  static Result<std::unique_ptr<Log>> open(const Options& options);
  virtual ~Log() = default;  // writes what waits, for at most a second

  virtual void event(const proto::EventBody& event) = 0;
  virtual void note(Severity severity, const std::string& text) = 0;
  virtual std::uint64_t lost() const = 0;  // lines that were not written
};

}  // namespace procguard::agent
