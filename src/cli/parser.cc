#include "cli/parser.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>

#include "cli/suggest.h"

namespace gpuroom {

Failure Usage(std::string text) { return {kExitUsage, std::move(text)}; }

Failure ParseLimit(const std::string& source, const std::string& text, uint64_t least,
                   std::optional<uint64_t>* bytes) {
  if (!text.empty() && text[0] == '-') {
    return Usage(fmt::format("{} '{}' is negative; write a size such as 6GiB", source, text));
  }
  const Result<uint64_t> size = ParseSize(text);
  if (!size.ok()) return Usage(fmt::format("{} '{}' is {}", source, text, size.status().what()));
  if (*size == 0) return Usage(fmt::format("{} '{}' is zero; write a size such as 6GiB", source, text));
  if (*size < least) {
    return Usage(fmt::format("{} '{}' is less than 2 MiB; add a unit, such as 6GiB", source, text));
  }
  *bytes = *size;
  return {};
}

Failure ParseLimitOrPart(const std::string& source, const std::string& text, uint64_t least,
                         std::optional<Limit>* limit) {
  if (text.ends_with('%')) {
    const Result<Limit> part = ParseLimit(text);
    if (!part.ok()) return Usage(fmt::format("{} '{}' is {}", source, text, part.status().what()));
    *limit = *part;
    return {};
  }
  std::optional<uint64_t> bytes;
  const Failure failure = ParseLimit(source, text, least, &bytes);
  if (bytes) *limit = Limit{*bytes, 0};
  return failure;
}

Failure ParseSizeOrZero(const std::string& source, const std::string& text, std::optional<uint64_t>* bytes) {
  const Result<uint64_t> size = ParseSize(text);
  if (!size.ok() || *size > 0) return ParseLimit(source, text, kSmallestLimit, bytes);
  *bytes = 0;
  return {};
}

Parser::Parser(std::string command)
    : command_(std::move(command)), app_(std::make_unique<CLI::App>("", command_)) {
  app_->set_help_flag();
  app_->allow_extras();
  app_->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

Parser::~Parser() = default;

void Parser::Flag(const std::string& name, bool* value) {
  app_->add_flag(name, *value);
  Remember(name);
}

void Parser::Value(const std::string& name, std::string* value) {
  app_->add_option(name, *value)->type_size(1);
  Remember(name);
  valued_.push_back(known_.back());
}

void Parser::List(const std::string& name, std::vector<std::string>* values) {
  app_->add_option(name, *values)->type_size(1)->allow_extra_args(false)->take_all();
  Remember(name);
  valued_.push_back(name);
  may_be_empty_.push_back(name);
}

Failure Parser::Parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = JoinNegative(arguments);
  // An option given with an empty value ("--sim=") reads as absent to CLI11.
  for (const std::string& word : words) {
    if (!word.empty() && word.back() == '=' && IsValued(word.substr(0, word.size() - 1))) {
      return NeedsValue(word.substr(0, word.size() - 1));
    }
  }
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app_->parse(words);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    return NeedsValue(text.substr(0, text.find(':')));
  } catch (const CLI::Error& error) {
    return Usage(fmt::format("{}; see 'gpuroom help {}'", error.what(), command_));
  }
  const Failure failure = CheckValues();
  if (failure.failed()) return failure;
  WarnOfRepeated();
  return TakeWords();
}

// The next option is no value: "--hbm-limit --report". Nor is an empty word, which stands where a script's
// variable was empty: a limit that was meant must not be taken for one that was not given.
Failure Parser::CheckValues() const {
  const auto may_be_empty = [this](const std::string& name) {
    return std::find(may_be_empty_.begin(), may_be_empty_.end(), name) != may_be_empty_.end();
  };
  for (const std::string& name : valued_) {
    for (const std::string& value : app_->get_option(name)->results()) {
      const bool missing = value.empty() ? !may_be_empty(name) : value.compare(0, 2, "--") == 0;
      if (missing) return NeedsValue(name);
    }
  }
  return {};
}

// A script may well add an option to those of its caller; but nobody should have to guess which one counts.
void Parser::WarnOfRepeated() const {
  for (const std::string& name : valued_) {
    const std::vector<std::string> values = app_->get_option(name)->results();
    const bool list = std::find(may_be_empty_.begin(), may_be_empty_.end(), name) != may_be_empty_.end();
    const bool differ =
        std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) != values.end();
    if (list || !differ) continue;
    fmt::print(stderr, "gpuroom: {} is given {} times; the last one, '{}', counts\n", name, values.size(),
               Printable(values.back()));
  }
}

Failure Parser::TakeWords() {
  for (const std::string& word : app_->remaining()) {
    if (words_ == nullptr || word.empty() || word[0] == '-') return Unexpected(word);
    words_->push_back(word);
  }
  return {};
}

void Parser::Remember(const std::string& names) { known_.push_back(names.substr(names.find("--"))); }

bool Parser::IsValued(const std::string& name) const {
  return std::find(valued_.begin(), valued_.end(), name) != valued_.end();
}

// "--hbm-limit -5GiB" to "--hbm-limit=-5GiB": or the size would pass for an option.
std::vector<std::string> Parser::JoinNegative(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words;
  for (const std::string& argument : arguments) {
    const bool negative =
        argument.size() > 1 && argument[0] == '-' && argument[1] >= '0' && argument[1] <= '9';
    if (negative && !words.empty() && IsValued(words.back())) {
      words.back() += "=" + argument;
    } else {
      words.push_back(argument);
    }
  }
  return words;
}

Failure Parser::NeedsValue(const std::string& option) const {
  return Usage(fmt::format("{} needs a value; see 'gpuroom help {}'", option, command_));
}

Failure Parser::Unexpected(const std::string& word) const {
  if (word.empty() || word[0] != '-') {
    return Usage(
        fmt::format("'{}' is not an option of '{}'; see 'gpuroom help {}'", word, command_, command_));
  }
  const std::string name = word.substr(0, word.find('='));
  return Usage(fmt::format("unknown option '{}'{}", name,
                           DidYouMean(name, known_, fmt::format("; see 'gpuroom help {}'", command_))));
}

}  // namespace gpuroom
