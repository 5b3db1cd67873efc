// One command's options, parsed by CLI11 and checked word by word: what is wrong
// becomes one sentence that says so, under the same rules in every command.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/limit.h"
#include "base/size.h"
#include "cli/exit_codes.h"

// Defined in <CLI/CLI.hpp>, which takes seconds to read: only parser.cc does.
namespace CLI {
class App;
}  // namespace CLI

namespace gpuroom {

inline constexpr uint64_t kSmallestLimit = 2 * kMiB;  // one chunk; less is a forgotten unit

// Exit status kExitUsage with that sentence.
Failure Usage(std::string text);

// `text` is a size of at least `least` bytes; `source` names it in the sentence.
Failure ParseLimit(const std::string& source, const std::string& text, uint64_t least,
                   std::optional<uint64_t>* bytes);

// Such a size, or a part of what there is, such as 50%.
Failure ParseLimitOrPart(const std::string& source, const std::string& text, uint64_t least,
                         std::optional<Limit>* limit);

// As ParseLimit, for a setting that a size of zero turns off.
Failure ParseSizeOrZero(const std::string& source, const std::string& text, std::optional<uint64_t>* bytes);

// CLI11 for one command: no help or configuration of its own, unknown words
// collected rather than thrown, the last of a repeated option wins, which one line on standard error says.
class Parser {
 public:
  explicit Parser(std::string command);
  ~Parser();

  // All before Parse; `value` outlives it.
  void Flag(const std::string& name, bool* value);
  void Value(const std::string& name, std::string* value);
  // An option that may be given several times, and with an empty value: tags, of which "" names memory
  // without one.
  void List(const std::string& name, std::vector<std::string>* values);
  // Words that belong to no option; without this call they are mistakes.
  void Words(std::vector<std::string>* words) { words_ = words; }

  Failure Parse(const std::vector<std::string>& arguments);

 private:
  void Remember(const std::string& names);
  bool IsValued(const std::string& name) const;
  std::vector<std::string> JoinNegative(const std::vector<std::string>& arguments) const;
  Failure NeedsValue(const std::string& option) const;
  Failure Unexpected(const std::string& word) const;
  Failure CheckValues() const;
  void WarnOfRepeated() const;
  Failure TakeWords();

  std::string command_;
  std::unique_ptr<CLI::App> app_;
  std::vector<std::string> known_;
  std::vector<std::string> valued_;        // those of known_ that take a value
  std::vector<std::string> may_be_empty_;  // those of valued_ that take an empty one, too
  std::vector<std::string>* words_ = nullptr;
};

}  // namespace gpuroom
