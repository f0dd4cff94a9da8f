// SPDX-License-Identifier: Apache-2.0
#include "cli/run.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "cli/messages.h"
#include "cli/report.h"
#include "cli/run_options.h"
#include "cli/session.h"
#include "cli/verdict.h"
#include "sys/fd.h"

namespace procguard::cli {
namespace {

// Opened before the command starts: a report that cannot be written must not be found out when all
// is over.
Result<sys::Fd> open_report(const std::string& path) {
  sys::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file) {
    return Error::system("--report " + path, errno);
  }
  return file;
}

Result<void> write_report(const sys::Fd& file, const std::string& text, const std::string& path) {
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(file.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR) {
      return Error::system("--report " + path, errno);
    }
    written += count > 0 ? static_cast<std::size_t>(count) : 0;
  }
  return {};
}

}  // namespace

int run_main(const std::vector<std::string>& args) {
  Messages messages;
  auto request = parse_run_options(args);
  if (!request) {
    messages.error("run: " + request.error().message());
    messages.error("run: try 'procguard run --help'");
    return kExitFailed;
  }
  if (!request->help.empty()) {
    return std::fputs(request->help.c_str(), stdout) < 0 || std::fflush(stdout) != 0 ? kExitFailed
                                                                                     : 0;
  }
  const RunOptions& options = request->options;
  if (options.quiet) {
    messages.be_quiet();
  }
  sys::Fd report;
  if (!options.report.empty()) {
    auto opened = open_report(options.report);
    if (!opened) {
      messages.error(opened.error().message());
      return kExitFailed;
    }
    report = std::move(opened).value();
  }
  Session session(options, messages);
  const RunRecord record = session.run();
  const StatusOptions status{.preserve = options.preserve_status,
                             .distinct = options.distinct_status};
  int code = exit_status(record.ending, status);
  if (report) {
    auto written = write_report(report, report_json(options, record, code), options.report);
    if (!written) {
      messages.error(written.error().message());
      code = kExitFailed;
    }
  }
  return code;
}

}  // namespace procguard::cli
