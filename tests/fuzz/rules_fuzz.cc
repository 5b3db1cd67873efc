// Rules, in both forms: a file of JSON where the input begins with '{', else the line of the environment
// variable.
#include <string>

#include "cli/rules_file.h"
#include "fuzz.h"
#include "range/rules.h"

using gpuroom::fuzz::Require;

namespace {

// What the command hands on is what the library reads.
void CheckReadBack(const gpuroom::Rules& rules) {
  const std::string written = rules.Text();
  gpuroom::RulesMistake mistake;
  const gpuroom::Result<gpuroom::Rules> again = gpuroom::Rules::Parse(written, &mistake);
  Require(again.ok() && again->Text() == written, "rules that are written are read back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  if (text.starts_with('{')) {
    gpuroom::Rules rules;
    const gpuroom::Failure failure = gpuroom::ParseRulesFile("rules.json", text, &rules);
    if (!failure.failed()) CheckReadBack(rules);
    return 0;
  }
  gpuroom::RulesMistake mistake;
  const gpuroom::Result<gpuroom::Rules> rules = gpuroom::Rules::Parse(text, &mistake);
  if (rules.ok()) CheckReadBack(*rules);
  return 0;
}
