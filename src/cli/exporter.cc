#include "cli/exporter.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "cli/help.h"
#include "cli/listen_address.h"
#include "cli/metrics_server.h"
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

int ServeAt(const std::string& text) {
  ListenAddress address;
  Failure failure = ParseListenAddress(text, &address);
  if (failure.failed()) return Report(failure);
  MetricsServer server([] { return MetricsText(AskRows()); });
  failure = server.Listen(address);
  if (failure.failed()) return Report(failure);
  fmt::print(stderr, "gpuroom: the metrics are at {}\n", server.Url());
  if (!address.loopback)
    fmt::print(stderr,
               "gpuroom: whoever reaches this address can read them, the programs' command lines included\n");
  server.Serve();
}

}  // namespace

int ExporterCommand(const std::vector<std::string>& arguments) {
  std::string file;
  std::string address;
  bool help = false;
  Parser parser("exporter");
  parser.Value("--textfile", &file);
  parser.Value("--listen", &address);
  parser.Flag("-h,--help", &help);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed()) return Report(failure);
  if (help) {
    fmt::print("{}", kExporterHelp);
    return kExitOk;
  }
  if (file.empty() == address.empty())
    return Report(Usage(
        "give one of --listen ADDRESS:PORT, such as 127.0.0.1:9400, and --textfile FILE, or - to print"));
  if (!address.empty()) return ServeAt(address);
  return WriteTo(file, MetricsText(AskRows()));
}

}  // namespace gpuroom
