#include "cli/trace_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

namespace gpuroom {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;  // nanoseconds
constexpr std::string_view kBaseKey = "baseTimeNanoseconds";

// Microseconds, exactly.
std::string Microseconds(int64_t nanoseconds) {
  const uint64_t size =
      nanoseconds < 0 ? -static_cast<uint64_t>(nanoseconds) : static_cast<uint64_t>(nanoseconds);
  return fmt::format("{}{}.{:03}", nanoseconds < 0 ? "-" : "", size / 1000, size % 1000);
}

std::string Quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::string Arguments(const TraceRecord& record) {
  std::string text;
  const TraceKindInfo& info = kTraceKinds[record.kind];
  for (size_t i = 0; i < info.values.size(); ++i) {
    const std::string_view name = info.values[i];
    if (name.empty()) continue;
    // JSON's readers keep 53 bits of a number, and an address may have more.
    const bool address = name == "address";
    text +=
        fmt::format("\"{}\":{},", name,
                    address ? fmt::format("\"0x{:x}\"", record.values[i]) : std::to_string(record.values[i]));
  }
  if (record.device != kNoTraceDevice) text += fmt::format("\"device\":{},", record.device);
  if (!text.empty()) text.pop_back();
  return text;
}

// One line for each event, the last without a comma.
std::string Events(const std::vector<TraceFile>& files, uint64_t base) {
  std::string text;
  const auto out = std::back_inserter(text);
  for (const TraceFile& file : files) {
    fmt::format_to(out, R"({{"name":"process_name","ph":"M","pid":{0},"tid":{0},"args":{{"name":{1}}}}},)",
                   file.process, Quoted(file.program));
    text += '\n';
    for (const TraceRecord& record : file.records) {
      const auto begin = static_cast<int64_t>(BeginOf(file, record) - base);
      fmt::format_to(out, R"({{"name":"{}","cat":"gpuroom","pid":{},"tid":{},"ts":{},)",
                     kTraceKinds[record.kind].name, file.process, record.thread, Microseconds(begin));
      if (record.duration != 0) {
        fmt::format_to(out, R"("ph":"X","dur":{},)", Microseconds(static_cast<int64_t>(record.duration)));
      } else {
        text += R"("ph":"i","s":"t",)";
      }
      fmt::format_to(out, "\"args\":{{{}}}}},\n", Arguments(record));
    }
  }
  if (!text.empty()) text.erase(text.size() - 2);
  return text;
}

uint64_t FirstBegin(const std::vector<TraceFile>& files) {
  uint64_t first = UINT64_MAX;
  for (const TraceFile& file : files) {
    if (!file.records.empty()) first = std::min(first, BeginOf(file, file.records.front()));
  }
  return first == UINT64_MAX ? 0 : first;
}

// Where the value of `key` begins in the outermost object of a text in JSON.
std::optional<size_t> FindValue(std::string_view text, std::string_view key) {
  int depth = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c != '"') continue;
    const size_t begin = ++at;
    while (at < text.size() && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
    if (depth != 1 || at >= text.size() || text.substr(begin, at - begin) != key) continue;
    const size_t colon = text.find_first_not_of(" \t\r\n", at + 1);
    if (colon == std::string_view::npos || text[colon] != ':') continue;
    const size_t value = text.find_first_not_of(" \t\r\n", colon + 1);
    if (value != std::string_view::npos) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string TraceJson(const std::vector<TraceFile>& files) {
  const uint64_t base = FirstBegin(files) / kSecond * kSecond;
  uint64_t lost = 0;
  for (const TraceFile& file : files) lost += file.lost;
  return fmt::format(
      "{{\"displayTimeUnit\":\"ms\",\"{}\":{},\"otherData\":{{\"lost_events\":{}}},\"traceEvents\":[\n{}\n]}}"
      "\n",
      kBaseKey, base, lost, Events(files, base));
}

Result<std::string> TraceJsonBeside(const std::vector<TraceFile>& files, std::string_view other) {
  const std::optional<size_t> events = FindValue(other, "traceEvents");
  if (!events || other[*events] != '[')
    return Status(Code::kInvalidArgument,
                  "no trace in JSON with \"traceEvents\", as PyTorch's profiler writes it");
  uint64_t base = 0;  // older ones count from 1970
  if (const std::optional<size_t> value = FindValue(other, kBaseKey))
    std::from_chars(other.data() + *value, other.data() + other.size(), base);
  const size_t first = other.find_first_not_of(" \t\r\n", *events + 1);
  const bool others = first != std::string_view::npos && other[first] != ']';
  std::string text(other.substr(0, *events + 1));
  const std::string ours = Events(files, base);
  text += '\n' + ours;
  if (others && !ours.empty()) text += ',';
  text += other.substr(*events + 1);
  return text;
}

}  // namespace gpuroom
