// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

// It asserts what a broken file breaks ("[["), just before it says so properly; with NDEBUG it
// would tell the compiler to assume it.
#undef NDEBUG
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>

#include "core/guard.h"
#include "core/units.h"
#include "sys/files.h"
#include "sys/procfs_parse.h"

namespace procguard::agent {
namespace {

constexpr const char* kDefaultFile = "/etc/procguard/procguard.toml";
// No kernel has more processes and threads (PID_MAX_LIMIT); as many guards fit into one map.
constexpr std::int64_t kMostEntries = 4194304;
constexpr std::size_t kLongestSocket = 107;  // sockaddr_un
constexpr std::size_t kLongestGroup = 32;    // as useradd(8)
constexpr std::size_t kLongestPinDir = sizeof(proto::StatusBody::pin_dir) - 1;

constexpr const char* kLogExpected = "text, json or journal";
constexpr const char* kGroupExpected = "the name of a group";

// What was expected, where a value is not that.
using Wrong = std::optional<std::string>;

Wrong set_log(std::string_view word, Config& config) {
  if (word == "text") {
    config.log = LogFormat::kText;
  } else if (word == "json") {
    config.log = LogFormat::kJson;
  } else if (word == "journal") {
    config.log = LogFormat::kJournal;
  } else {
    return kLogExpected;
  }
  return std::nullopt;
}

Wrong set_group(std::string_view name, Config& config) {
  const bool graphic =
      std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c <= '~' && c != ':'; });
  if (name.empty() || name.size() > kLongestGroup || !graphic) {
    return kGroupExpected;
  }
  config.socket_group = name;
  return std::nullopt;
}

Wrong set_socket(std::string_view path, Config& config) {
  if (path.empty() || path.size() > kLongestSocket) {
    return "a path of at most " + std::to_string(kLongestSocket) + " bytes";
  }
  config.socket = path;
  return std::nullopt;
}

Wrong set_pin_dir(std::string_view path, Config& config) {
  if (!path.starts_with('/') || path.size() > kLongestPinDir) {
    return "an absolute path of at most " + std::to_string(kLongestPinDir) + " bytes";
  }
  config.pin_dir = path;
  return std::nullopt;
}

// --- the file -----------------------------------------------------------------------------------

using Setter = std::function<Wrong(const toml::node&, Config&)>;

Setter text(Wrong (*set)(std::string_view, Config&), const char* expected) {
  return [=](const toml::node& node, Config& config) -> Wrong {
    const auto* value = node.as_string();
    return value == nullptr ? Wrong(expected) : set(value->get(), config);
  };
}

Setter count(std::uint32_t& (*field)(Config&)) {
  return [=](const toml::node& node, Config& config) -> Wrong {
    const auto* value = node.as_integer();
    if (value == nullptr || value->get() < 1 || value->get() > kMostEntries) {
      return "a whole number from 1 to " + std::to_string(kMostEntries);
    }
    field(config) = static_cast<std::uint32_t>(value->get());
    return std::nullopt;
  };
}

Setter ceiling(pg_resource resource) {
  const bool memory = resource == PG_MEMORY || resource == PG_MEMORY_GROWTH;
  return [=](const toml::node& node, Config& config) -> Wrong {
    const auto* value = node.as_string();
    const auto parsed = value == nullptr ? Result<std::uint64_t>(Error("no text"))
                        : memory         ? core::parse_size(value->get())
                                         : core::parse_duration(value->get());
    if (!parsed || parsed.value() == 0) {
      return memory ? R"(a size above 0 with a unit, such as "8G")"
                    : R"(a duration above 0, such as "24h")";
    }
    config.ceiling.limit[resource] = parsed.value();
    return std::nullopt;
  };
}

std::optional<std::uint32_t> scope_of(const toml::node& node) {
  const auto* name = node.as_string();
  for (std::uint32_t scope = PG_SCOPE_THREAD; name && scope <= PG_SCOPE_CGROUP; ++scope) {
    if (name->get() == core::scope_name(scope)) {
      return scope;
    }
  }
  return std::nullopt;
}

Wrong set_scopes(const toml::node& node, Config& config) {
  constexpr const char* kExpected = R"(a list of "thread", "process", "tree" and "cgroup")";
  const auto* list = node.as_array();
  if (list == nullptr || list->empty()) {
    return kExpected;
  }
  std::uint32_t scopes = 0;
  for (const toml::node& element : *list) {
    const auto scope = scope_of(element);
    if (!scope) {
      return kExpected;
    }
    scopes |= 1U << *scope;
  }
  config.ceiling.scopes = scopes;
  return std::nullopt;
}

struct Key {
  const char* section;
  const char* name;
  Setter set;
};

std::vector<Key> known_keys() {
  return {
      {"agent", "socket_group", text(set_group, kGroupExpected)},
      {"agent", "log", text(set_log, kLogExpected)},
      {"agent", "max_guards", count([](Config & c) -> auto& { return c.max_guards; })},
      {"agent", "max_watches", count([](Config & c) -> auto& { return c.max_watches; })},
      {"agent", "max_processes", count([](Config & c) -> auto& { return c.max_processes; })},
      {"agent", "max_threads", count([](Config & c) -> auto& { return c.max_threads; })},
      {"agent", "max_guards_per_uid",
       count([](Config & c) -> auto& { return c.ceiling.max_guards_per_uid; })},
      {"ceiling", "timeout", ceiling(PG_TIMEOUT)},
      {"ceiling", "cpu", ceiling(PG_CPU)},
      {"ceiling", "memory", ceiling(PG_MEMORY)},
      {"ceiling", "memory_growth", ceiling(PG_MEMORY_GROWTH)},
      {"ceiling", "scopes", set_scopes},
  };
}

// "a, b, c": the names of a section's keys.
std::string names_of(const std::vector<Key>& keys, std::string_view section) {
  std::string names;
  for (const Key& key : keys) {
    if (key.section == section) {
      names += (names.empty() ? "" : ", ") + std::string(key.name);
    }
  }
  return names;
}

// What stands there, for messages: "12", "'soon'", "an array".
std::string shown(const toml::node& node) {
  if (const auto* value = node.as_string()) {
    return "'" + sys::printable(value->get().substr(0, 40)) + "'";
  }
  if (const auto* value = node.as_integer()) {
    return std::to_string(value->get());
  }
  std::ostringstream type;
  type << node.type();
  return "one of type " + type.str();
}

Error at(const std::string& path, const toml::source_region& where, const std::string& what) {
  return Error(path + ":" + std::to_string(where.begin.line) + ": " + what);
}

Result<void> read_section(const std::string& path, const std::string& section,
                          const toml::table& table, const std::vector<Key>& keys, Config& config) {
  for (const auto& [found, node] : table) {
    const std::string_view name = found.str();
    const std::string full = section + "." + sys::printable(name);
    const auto key = std::find_if(keys.begin(), keys.end(), [&section, name](const Key& known) {
      return known.section == section && known.name == name;
    });
    if (key == keys.end()) {
      return at(path, found.source(),
                full + ": unknown key (expected " + names_of(keys, section) + ")");
    }
    if (const Wrong expected = key->set(node, config)) {
      return at(path, node.source(),
                full + ": not possible: " + shown(node) + " (expected " + *expected + ")");
    }
  }
  return {};
}

Result<void> read_tables(const std::string& path, const toml::table& root, Config& config) {
  const std::vector<Key> keys = known_keys();
  for (const auto& [name, node] : root) {
    if (name != "agent" && name != "ceiling") {
      return at(path, name.source(),
                sys::printable(name.str()) + ": unknown (expected the tables [agent], [ceiling])");
    }
    const toml::table* table = node.as_table();
    if (table == nullptr) {
      return at(path, node.source(), std::string(name.str()) + ": expected a table");
    }
    if (auto read = read_section(path, std::string(name.str()), *table, keys, config); !read) {
      return read;
    }
  }
  return {};
}

// --- the command line ---------------------------------------------------------------------------

constexpr const char* kDescription =
    "Runs the agent: it guards processes, trees and cgroups of this host for whoever asks at its\n"
    "socket. Guards outlive it: SIGTERM stops the agent, the next one takes them over.";

constexpr const char* kFooter =
    "Options given here win over the file.\n"
    "\n"
    "Examples:\n"
    "  procguard agent                              as the service manager starts it\n"
    "  procguard agent --log json --config a.toml   another file, events as JSON\n"
    "  procguard agent --teardown                   release all guards, leave nothing behind";

class HelpFormat : public CLI::Formatter {
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return std::string("Usage: procguard agent [OPTIONS]\n") + kDescription + "\n";
  }
};

// An option with one argument; the last one counts.
struct Text {
  CLI::Option* option = nullptr;
  std::string value;
};

struct Parser {
  CLI::App app;
  Text config, socket, pin_dir, group, log;
  bool teardown = false;

  Parser();
  void text(Text& text, const char* name, const char* type, const char* help) {
    text.option = app.add_option(name, text.value, help)->type_name(type)->take_last();
  }
};

Parser::Parser() {
  app.name("procguard agent");
  app.formatter(std::make_shared<HelpFormat>());
  app.footer(kFooter);
  app.set_help_flag("-h,--help", "Print this and exit");
  text(config, "--config", "FILE",
       "Settings (default /etc/procguard/procguard.toml, if it exists)");
  text(socket, "--socket", "PATH", "Where to listen (default /run/procguard/agent.sock)");
  text(pin_dir, "--pin-dir", "DIR", "Where the state is kept (default /sys/fs/bpf/procguard)");
  text(group, "--socket-group", "GROUP", "Who may use the socket beside root (default procguard)");
  text(log, "--log", "FORMAT", "text (default), json or journal");
  app.add_flag("--teardown", teardown, "Release all guards, remove what is kept, and exit");
}

// Over what the file has set.
Result<void> apply(const Parser& parser, Config& config) {
  const struct {
    const Text& text;
    Wrong (*set)(std::string_view, Config&);
  } given[] = {
      {parser.socket, set_socket},
      {parser.pin_dir, set_pin_dir},
      {parser.group, set_group},
      {parser.log, set_log},
  };
  for (const auto& [text, set] : given) {
    if (text.option->count() == 0) {
      continue;
    }
    if (const Wrong expected = set(text.value, config)) {
      return Error(text.option->get_name() + ": not possible: '" + sys::printable(text.value) +
                   "' (expected " + *expected + ")");
    }
  }
  return {};
}

Result<void> read_file_of(const Parser& parser, Config& config) {
  const bool named = parser.config.option->count() > 0;
  if (named && parser.config.value.empty()) {
    return Error("--config: empty path (expected a file)");
  }
  const std::string path = named ? parser.config.value : kDefaultFile;
  auto read = read_config(path, config);
  if (!read && !named && read.error().code() == ENOENT) {
    return {};
  }
  return read;
}

}  // namespace

Result<void> read_config(const std::string& path, Config& config) {
  const auto text = sys::read_file(path);
  if (!text) {
    return text.error();
  }
  Config wanted = config;
  wanted.file = path;
  try {
    if (auto read = read_tables(path, toml::parse(text.value()), wanted); !read) {
      return read;
    }
  } catch (const toml::parse_error& error) {
    return at(path, error.source(), sys::printable(error.description()));
  }
  config = wanted;
  return {};
}

Result<AgentRequest> parse_agent_options(const std::vector<std::string>& args) {
  Parser parser;
  std::vector<std::string> words(args.rbegin(), args.rend());  // the order CLI11 takes a vector in
  AgentRequest request;
  try {
    parser.app.parse(words);
  } catch (const CLI::CallForHelp&) {
    request.help = parser.app.help();
    return request;
  } catch (const CLI::ParseError& error) {
    return Error(error.what());
  }
  request.teardown = parser.teardown;
  if (auto read = read_file_of(parser, request.config); !read) {
    return read.error();
  }
  if (auto applied = apply(parser, request.config); !applied) {
    return applied.error();
  }
  return request;
}

}  // namespace procguard::agent
