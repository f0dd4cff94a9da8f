// SPDX-License-Identifier: Apache-2.0
#include "core/ladder.h"

#include <algorithm>
#include <csignal>

#include "core/signals.h"
#include "core/units.h"

namespace procguard::core {
namespace {

constexpr pg_step exception_step() {
  return {.action = PG_ACTION_EXCEPTION, .signal = 0, .wait_ns = 0};
}

constexpr pg_step signal_step(int signal, Ns wait_ns = 0) {
  return {.action = PG_ACTION_SIGNAL, .signal = static_cast<__u32>(signal), .wait_ns = wait_ns};
}

Error bad_step(std::string_view text, std::string_view step, const std::string& why) {
  return Error("ladder '" + std::string(text) + "': step '" + std::string(step) + "': " + why +
               " (expected signals with waits, such as INT:5s,TERM:10s,KILL)");
}

Result<pg_step> parse_step(std::string_view text, std::string_view step) {
  const std::size_t colon = step.find(':');
  const std::string_view name = step.substr(0, colon);
  if (name.empty()) {
    return bad_step(text, step, "no signal");
  }
  const auto signal = parse_signal(name);
  if (!signal || *signal == 0) {
    return bad_step(text, step, "unknown signal");
  }
  if (colon == std::string_view::npos) {
    return signal_step(*signal);
  }
  auto wait = parse_duration(step.substr(colon + 1));
  if (!wait) {
    return bad_step(text, step, wait.error().message());
  }
  // 0 would mean "the limit's step grace".
  return signal_step(*signal, std::max<Ns>(wait.value(), kMinStepGrace));
}

}  // namespace

Ladder preset_ladder(Preset preset, bool send_kill) {
  const pg_step last = signal_step(send_kill ? SIGKILL : SIGTERM);
  switch (preset) {
    case Preset::kException:
      return {exception_step(), exception_step(), exception_step()};
    case Preset::kSignal:
      return {signal_step(SIGINT), signal_step(SIGTERM), last};
    case Preset::kExceptionThenSignal:
      break;
  }
  return {exception_step(), signal_step(SIGINT), last};
}

Result<Ladder> parse_ladder(std::string_view text) {
  Ladder ladder;
  for (std::string_view rest = text;;) {
    const std::size_t comma = rest.find(',');
    auto step = parse_step(text, rest.substr(0, comma));
    if (!step) {
      return step.error();
    }
    if (ladder.size() == PG_STEPS) {
      return Error("ladder '" + std::string(text) + "': more than " + std::to_string(PG_STEPS) +
                   " steps");
    }
    ladder.push_back(step.value());
    if (comma == std::string_view::npos) {
      return ladder;
    }
    rest.remove_prefix(comma + 1);
  }
}

std::string format_ladder(const Ladder& ladder) {
  std::string text;
  for (const pg_step& step : ladder) {
    text += text.empty() ? "" : ",";
    text += step.action == PG_ACTION_SIGNAL ? signal_name(static_cast<int>(step.signal))
                                            : std::string("exception");
    if (step.wait_ns != 0) {
      text += ":" + format_duration(step.wait_ns);
    }
  }
  return text;
}

}  // namespace procguard::core
