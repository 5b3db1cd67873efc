#include "cli/bench.h"

#include <fmt/format.h>

#include "cli/exit_codes.h"
#include "cli/help.h"
#include "cli/suggest.h"

namespace gpuroom {

int BenchCommand(const std::vector<std::string>& arguments) {
  const std::string what = arguments.empty() ? "" : arguments[0];
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (what == "tiers") return BenchTiersCommand(rest);
  if (what == "sleep") return BenchSleepCommand(rest);
  if (what == "--help" || what == "-h") {
    fmt::print("{}", kBenchHelp);
    return kExitOk;
  }
  if (what.empty())
    return Report({kExitUsage, "name what to measure: gpuroom bench tiers, gpuroom bench sleep"});
  return Report(
      {kExitUsage, fmt::format("'{}' is not something that bench measures{}", what,
                               DidYouMean(what, {"tiers", "sleep"}, "; it measures tiers and sleep"))});
}

}  // namespace gpuroom
