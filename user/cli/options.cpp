// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

#include "bpf/contract.h"

namespace procguard::cli {
namespace {

class HelpFormat : public CLI::Formatter {
 public:
  explicit HelpFormat(std::string head) : head_(std::move(head)) {}

 private:
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return head_;
  }

  std::string head_;
};

bool takes_argument(const CLI::App& app, const std::string& name) {
  const CLI::Option* option = app.get_option_no_throw(name);
  return option != nullptr && option->get_items_expected_max() > 0;
}

// A cluster such as "-qvt": true if its last letter wants the next word.
bool cluster_wants_more(const CLI::App& app, const std::string& word) {
  for (std::size_t i = 1; i < word.size(); ++i) {
    if (takes_argument(app, std::string("-") + word[i])) {
      return i + 1 == word.size();
    }
  }
  return false;
}

}  // namespace

struct Options::Impl {
  CLI::App app;
  std::vector<std::pair<Text*, CLI::Option*>> texts;

  // Sorts `args` into what CLI11 is to see and the words, which it would look into ("[a,b]").
  void sort(const std::vector<std::string>& args, Words where, std::vector<std::string>& options,
            std::vector<std::string>& words) const {
    std::size_t i = 0;
    while (i < args.size() && args[i] != "--") {
      const std::string& word = args[i];
      if (word.size() < 2 || word[0] != '-') {
        if (where == Words::kAfterOptions) {
          break;
        }
        words.push_back(args[i++]);
        continue;
      }
      const bool more = word[1] == '-' ? takes_argument(app, word) : cluster_wants_more(app, word);
      options.push_back(args[i++]);
      if (more && i < args.size()) {
        options.push_back(args[i++]);
      }
    }
    i += i < args.size() && args[i] == "--" ? 1 : 0;
    words.insert(words.end(), args.begin() + static_cast<std::ptrdiff_t>(i), args.end());
  }
};

Options::Options(const std::string& usage, const std::string& description,
                 const std::string& footer)
    : impl_(std::make_unique<Impl>()) {
  impl_->app.formatter(
      std::make_shared<HelpFormat>("Usage: procguard " + usage + "\n" + description + "\n"));
  impl_->app.footer(footer);
  impl_->app.set_help_flag("-h,--help", "Print this and exit");
}

Options::~Options() = default;

void Options::text(Text& text, const char* names, const char* type, const std::string& help) {
  CLI::Option* option = impl_->app.add_option(names, text.value, help);
  option->type_name(type)->take_last();
  impl_->texts.emplace_back(&text, option);
}

void Options::each(std::vector<std::string>& texts, const char* names, const char* type,
                   const std::string& help) {
  // One at a time: of an option with many values CLI11 would take "[a,b]" for two.
  const auto keep = [&texts](const std::string& value) { texts.push_back(value); };
  impl_->app.add_option_function<std::string>(names, keep, help)
      ->type_name(type)
      ->take_last()
      ->trigger_on_parse();
}

void Options::flag(bool& given, const char* names, const std::string& help) {
  impl_->app.add_flag(names, given, help);
}

Result<Options::Parsed> Options::parse(const std::vector<std::string>& args, Words where) {
  Parsed parsed;
  std::vector<std::string> options;
  impl_->sort(args, where, options, parsed.words);
  std::reverse(options.begin(), options.end());  // the order CLI11 takes a vector in
  try {
    impl_->app.parse(options);
  } catch (const CLI::CallForHelp&) {
    parsed.help = impl_->app.help() + "\n";
    return parsed;
  } catch (const CLI::ParseError& error) {
    return Error(error.what());
  }
  for (const auto& [text, option] : impl_->texts) {
    text->given = option->count() > 0;
  }
  return parsed;
}

void Checks::positive(const Text& text, const char* name,
                      Result<std::uint64_t> (*parse)(std::string_view), std::uint64_t& out) {
  if (!text.given) {
    return;
  }
  auto value = parse(text.value);
  if (!value) {
    fail(std::string(name) + ": " + value.error().message());
  } else if (value.value() == 0) {
    fail(std::string(name) + ": must be above 0 (leave the option out for no limit)");
  } else {
    out = value.value();
  }
}

void Checks::guard_name(const Text& text, const char* name, std::string& out) {
  if (!text.given) {
    return;
  }
  const bool printable = std::all_of(text.value.begin(), text.value.end(), [](unsigned char c) {
    return c < 0x80 && std::isgraph(c) != 0;
  });
  if (text.value.empty() || text.value.size() >= PG_NAME_LEN || !printable) {
    fail(std::string(name) + ": expected 1 to " + std::to_string(PG_NAME_LEN - 1) +
         " printable ASCII characters without blanks");
  }
  out = text.value;
}

}  // namespace procguard::cli
