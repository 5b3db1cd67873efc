#include "cli/exporter.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "cli/help.h"
#include "cli/metrics_text.h"
#include "cli/parser.h"
#include "cli/small_file.h"

namespace gpuroom {
namespace {

constexpr unsigned kMode = 0644;  // who collects the file is another user

int WriteTo(const std::string& path, const std::string& text) {
  if (path == "-") {
    fmt::print("{}", text);
    return kExitOk;
  }
  if (ReplaceFile(path, text, kMode)) return kExitOk;
  return Report({kExitFailed, fmt::format("{} cannot be written: {}; name a file in a folder that is yours",
                                          path, std::strerror(errno))});
}

}  // namespace

int ExporterCommand(const std::vector<std::string>& arguments) {
  std::string file;
  bool help = false;
  Parser parser("exporter");
  parser.Value("--textfile", &file);
  parser.Flag("-h,--help", &help);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed()) return Report(failure);
  if (help) {
    fmt::print("{}", kExporterHelp);
    return kExitOk;
  }
  if (file.empty()) return Report(Usage("name a file: 'gpuroom exporter --textfile FILE', or - to print"));
  return WriteTo(file, MetricsText(AskRows()));
}

}  // namespace gpuroom
