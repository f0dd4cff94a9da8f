// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/agent_commands.h"
#include "cli/agent_options.h"
#include "cli/command.h"
#include "cli/guard_json.h"
#include "cli/list_text.h"

namespace procguard::cli {
namespace {

constexpr const char* kCommand = "list";
constexpr const char* kClear = "\x1b[H\x1b[2J";

// All pages.
Result<std::vector<proto::RowBody>> read_rows(AgentLink& link, bool all) {
  std::vector<proto::RowBody> rows;
  for (std::uint64_t after = 0;;) {
    proto::Writer request = link.request(proto::Op::kList);
    request.add(proto::ListBody{.after = after, .ended = all ? 1U : 0U, .padding = 0});
    const auto reply = link.ask(request);
    if (!reply) {
      return reply.error();
    }
    const auto page = AgentLink::bodies<proto::RowBody>(reply.value());
    if (!page) {
      return page.error();
    }
    rows.insert(rows.end(), page->begin(), page->end());
    if (page->empty() || reply->has(proto::kEnd)) {
      return rows;
    }
    if (page->back().guard.id <= after) {
      return AgentLink::not_understood(reply.value());  // it would never end
    }
    after = page->back().guard.id;
  }
}

std::string text_of(const std::vector<proto::RowBody>& rows, ListOutput output) {
  switch (output) {
    case ListOutput::kWide:
      return list_wide(rows);
    case ListOutput::kJson:
      return list_json(rows);
    case ListOutput::kTable:
      break;
  }
  return list_table(rows);
}

Result<int> list(const ListOptions& options, AgentLink& link) {
  const bool clear =
      options.watch && options.output != ListOutput::kJson && ::isatty(STDOUT_FILENO) == 1;
  for (;;) {
    const auto rows = read_rows(link, options.all);
    if (!rows) {
      return rows.error();
    }
    const std::string text = text_of(rows.value(), options.output);
    const Written written = write_out(kCommand, clear ? kClear + text : text);
    if (written != Written::kYes || !options.watch) {
      return written == Written::kFailed ? kAgentNone : kAgentOk;
    }
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace

int list_main(const std::vector<std::string>& args) {
  return with_agent(kCommand, parse_list_options(args), list);
}

}  // namespace procguard::cli
