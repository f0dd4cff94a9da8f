// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/guarded_run.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace procguard::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCgroupRoot = "/sys/fs/cgroup/unified";

// Reports may name a signal or number it; tests do not care.
std::string signal_text(const Json& value) {
  std::string name = value.is_number() ? sigabbrev_np(value.get<int>()) : value.get<std::string>();
  return name.rfind("SIG", 0) == 0 ? name.substr(3) : name;
}

}  // namespace

TempDir::TempDir() {
  std::string path = fs::temp_directory_path() / "procguard-test-XXXXXX";
  path_ = ::mkdtemp(path.data()) != nullptr ? path : "";
  ::chmod(path_.c_str(), 0777);
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

TempCgroup::TempCgroup() {
  static int count = 0;
  path_ = std::string(kCgroupRoot) + "/procguard-test-" + std::to_string(::getpid()) + "-" +
          std::to_string(count++);
  fs::create_directory(path_);
}

TempCgroup::~TempCgroup() {
  if (!fs::exists(path_)) {
    return;
  }
  write_text(path_ + "/cgroup.kill", "1");
  wait_until([&] {
    std::error_code busy;
    for (auto child = children_.rbegin(); child != children_.rend(); ++child) {
      fs::remove(*child, busy);
    }
    fs::remove(path_, busy);
    return !fs::exists(path_);
  });
}

std::string TempCgroup::make_child(const std::string& name) {
  children_.push_back(path_ + "/" + name);
  fs::create_directory(children_.back());
  return children_.back();
}

void TempCgroup::add(pid_t pid) const {
  write_text(path_ + "/cgroup.procs", std::to_string(pid));
}

std::vector<pid_t> TempCgroup::members() const {
  std::ifstream file(path_ + "/cgroup.procs");
  std::vector<pid_t> result;
  for (pid_t pid = 0; file >> pid;) {
    result.push_back(pid);
  }
  return result;
}

void TempCgroup::remove() {
  fs::remove(path_);
}

std::string Guarded::resource() const {
  return tripped() ? report["trip"]["resource"].get<std::string>() : "";
}

Strings Guarded::signals() const {
  Strings result;
  for (const Json& step : report.is_object() ? report["steps"] : Json::array()) {
    result.push_back(signal_text(step["signal"]));
  }
  return result;
}

Strings Guarded::results() const {
  Strings result;
  for (const Json& step : report.is_object() ? report["steps"] : Json::array()) {
    result.push_back(step["result"].get<std::string>());
  }
  return result;
}

double Guarded::step_seconds(size_t from, size_t to) const {
  const Json& steps = report.at("steps");
  return (steps.at(to).at("at_ns").get<double>() - steps.at(from).at("at_ns").get<double>()) / 1e9;
}

double Guarded::usage(const std::string& key) const {
  return report.is_object() ? report.at("usage").at(key).get<double>() : -1;
}

std::string Guarded::describe() const {
  return outcome.describe() + "\n--- report\n" + report.dump(1) +
         "\n--- survivors: " + std::to_string(survivors.size());
}

GuardedRun::GuardedRun(const Strings& options, const Strings& command, Command base) {
  // What stands in base.argv comes first: setpriv, taskset, unshare and their like.
  base.argv.push_back(procguard_binary());
  base.argv.push_back("run");
  base.argv.insert(base.argv.end(), options.begin(), options.end());
  base.argv.insert(base.argv.end(), {"--report", dir_ / "report.json", "--"});
  base.argv.insert(base.argv.end(), command.begin(), command.end());
  process_ = std::make_unique<Subprocess>(base);
}

Guarded GuardedRun::wait() {
  Guarded result;
  result.outcome = process_->wait();
  result.id = process_->id();
  result.survivors = survivors(result.id);
  const std::string text = read_text(dir_ / "report.json");
  result.report = Json::parse(text, nullptr, false);
  if (result.report.is_discarded()) {
    result.report = nullptr;
  }
  return result;
}

Guarded run_guarded(const Strings& options, const Strings& command, const Command& base) {
  return GuardedRun(options, command, base).wait();
}

Strings Measured::wrap(const Strings& command) const {
  Strings result = {program("reap"), dir_ / "reaped", "--"};
  result.insert(result.end(), command.begin(), command.end());
  return result;
}

std::vector<Reaped> Measured::all() const {
  std::ifstream file(dir_ / "reaped");
  std::vector<Reaped> result;
  Reaped one{};
  for (double cpu_us = 0; file >> one.pid >> one.wait_status >> one.max_rss_kib >> cpu_us;) {
    one.cpu_seconds = cpu_us / 1e6;
    result.push_back(one);
  }
  return result;
}

long Measured::max_rss_kib() const {
  long result = -1;
  for (const Reaped& one : all()) {
    result = std::max(result, one.max_rss_kib);
  }
  return result;
}

double Measured::cpu_seconds() const {
  double result = 0;
  for (const Reaped& one : all()) {
    result += one.cpu_seconds;
  }
  return result;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text << std::flush;
}

std::string proc_status(pid_t pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) == 0) {
      const size_t at = line.find_first_not_of(" \t", name.size() + 1);
      return at == std::string::npos ? "" : line.substr(at);
    }
  }
  return "";
}

std::vector<pid_t> child_processes(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  std::ifstream file(proc + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> result;
  for (pid_t child = 0; file >> child;) {
    result.push_back(child);
  }
  return result;
}

pid_t child_named(pid_t pid, const std::string& comm) {
  for (const pid_t child : child_processes(pid)) {
    if (proc_status(child, "Name") == comm) {
      return child;
    }
  }
  return 0;
}

int line_count(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

int occurrences(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) {
    ++count;
  }
  return count;
}

}  // namespace procguard::test
