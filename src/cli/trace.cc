#include "cli/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "cli/help.h"
#include "cli/parser.h"
#include "cli/small_file.h"
#include "cli/trace_json.h"

namespace gpuroom {
namespace {

constexpr unsigned kMode = 0644;
constexpr uint64_t kMostTrace = uint64_t{1} << 30;   // bytes
constexpr uint64_t kMostBeside = uint64_t{8} << 30;  // PyTorch's can be large

struct TraceOptions {
  std::vector<std::string> files;
  std::string beside;
  std::string output;
  bool help = false;
};

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// What a run with `--trace NAME` wrote: NAME.PID of each process. NAME itself where it is a file.
std::vector<std::string> FilesOf(const std::string& name) {
  std::error_code error;
  if (std::filesystem::exists(name, error)) return {name};
  const std::filesystem::path path(name);
  const std::string beginning = path.filename().string() + ".";
  std::vector<std::string> found;
  const std::filesystem::path folder =
      path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string file = entry.path().filename().string();
    if (file.starts_with(beginning) && IsNumber(std::string_view(file).substr(beginning.size())))
      found.push_back((path.parent_path() / file).string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

Failure ReadTrace(const std::string& path, std::vector<TraceFile>* traces) {
  std::string bytes;
  const Status read = ReadRegularFile(path, kMostTrace, &bytes);
  if (!read.ok()) return {kExitUsage, fmt::format("{}: {}", path, DescribeReadFailure(read))};
  Result<TraceFile> trace = ParseTrace(bytes);
  if (!trace.ok()) return {kExitUsage, fmt::format("{} is {}", path, trace.status().what())};
  if (trace->lost > 0) {
    fmt::print(stderr, "gpuroom: {}: {} of {} events were lost; the file keeps the last {}\n", path,
               trace->lost, trace->lost + trace->records.size(), kTraceCapacity);
  }
  traces->push_back(std::move(*trace));
  return {};
}

Failure ReadTraces(const std::vector<std::string>& names, std::vector<TraceFile>* traces) {
  for (const std::string& name : names) {
    const std::vector<std::string> files = FilesOf(name);
    if (files.empty())
      return {kExitUsage,
              fmt::format("there is no {0} and no {0}.PID; name what 'gpuroom run --trace' was given", name)};
    for (const std::string& file : files) {
      const Failure failure = ReadTrace(file, traces);
      if (failure.failed()) return failure;
    }
  }
  return {};
}

Failure MakeJson(const TraceOptions& options, const std::vector<TraceFile>& traces, std::string* json) {
  if (options.beside.empty()) {
    *json = TraceJson(traces);
    return {};
  }
  std::string other;
  const Status read = ReadRegularFile(options.beside, kMostBeside, &other);
  if (!read.ok()) return {kExitUsage, fmt::format("{}: {}", options.beside, DescribeReadFailure(read))};
  Result<std::string> both = TraceJsonBeside(traces, other);
  if (!both.ok()) return {kExitUsage, fmt::format("{} is {}", options.beside, both.status().what())};
  *json = std::move(*both);
  return {};
}

Failure Parse(const std::vector<std::string>& arguments, TraceOptions* options) {
  Parser parser("trace");
  parser.Words(&options->files);
  parser.Value("--beside", &options->beside);
  parser.Value("-o,--output", &options->output);
  parser.Flag("-h,--help", &options->help);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed() || options->help) return failure;
  if (options->files.empty()) return Usage("name a trace: 'gpuroom trace FILE -o trace.json'");
  if (options->output.empty())
    return Usage("name a file for the result: '-o trace.json', or '-o -' to print it");
  return {};
}

Failure Convert(const TraceOptions& options) {
  std::vector<TraceFile> traces;
  std::string json;
  Failure failure = ReadTraces(options.files, &traces);
  if (failure.failed()) return failure;
  failure = MakeJson(options, traces, &json);
  if (failure.failed()) return failure;
  if (options.output == "-") {
    fmt::print("{}", json);
    return {};
  }
  if (ReplaceFile(options.output, json, kMode)) return {};
  return {kExitFailed, fmt::format("{} cannot be written: {}; name a file in a folder that is yours",
                                   options.output, std::strerror(errno))};
}

}  // namespace

int TraceCommand(const std::vector<std::string>& arguments) {
  TraceOptions options;
  const Failure failure = Parse(arguments, &options);
  if (failure.failed()) return Report(failure);
  if (options.help) {
    fmt::print("{}", kTraceHelp);
    return kExitOk;
  }
  const Failure failed = Convert(options);
  return failed.failed() ? Report(failed) : kExitOk;
}

}  // namespace gpuroom
