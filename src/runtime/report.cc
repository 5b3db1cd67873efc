#include "runtime/report.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "base/log.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

__attribute__((format(printf, 2, 3))) void Append(std::string& text, const char* format, ...) {
  char piece[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(piece, sizeof piece, format, args);
  va_end(args);
  text += piece;
}

std::string ProgramName() {
  char name[64] = {};
  const int file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
  const ssize_t length = file < 0 ? 0 : read(file, name, sizeof name - 1);
  if (file >= 0) close(file);
  std::string clean;
  for (const char c : std::string(name, length > 0 ? static_cast<size_t>(length) : 0)) {
    // A program may call itself anything; JSON may not hold anything.
    if (c >= ' ' && c <= '~' && c != '"' && c != '\\') clean += c;
  }
  return clean;
}

template <typename Use>
void ForEachDevice(const Runtime& rt, Use use) {
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (const DeviceState* device = rt.ExistingDevice(i)) use(*device);
  }
}

std::string Json(const Runtime& rt, const std::string& program, double seconds) {
  std::string text;
  Append(text, "{\"pid\":%d,\"program\":\"%s\",\"devices\":[", static_cast<int>(getpid()), program.c_str());
  const char* separator = "";
  ForEachDevice(rt, [&](const DeviceState& device) {
    Append(text, "%s{\"device\":%d,\"hbm_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 "},", separator,
           device.tier.device(), device.tier.budget().used(), device.tier.budget().peak());
    Append(text, "\"host_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 ",\"numa_node\":%d},",
           device.host.in_use().used(), device.host.in_use().peak(), device.host.numa_node());
    Append(text, "\"peer_bytes\":{\"current\":%" PRIu64 "},\"displaced\":%" PRIu64 ",",
           device.source.PeerUsed(), device.counts.displaced.load());
    Append(text, "\"managed_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 ",\"cap\":%" PRIu64 "},",
           device.managed.budget().used(), device.managed.budget().peak(), device.managed.cap().bytes);
    Append(text, "\"allocations\":%" PRIu64 ",\"spilled\":%" PRIu64 ",\"largest\":%" PRIu64 "}",
           device.counts.allocations.load(), device.counts.spilled.load(), device.counts.largest.load());
    separator = ",";
  });
  Append(text, "],\"shim_seconds\":%.6f}\n", seconds);
  return text;
}

std::string ForPeople(const Runtime& rt, const std::string& program, double seconds) {
  std::string text;
  ForEachDevice(rt, [&](const DeviceState& device) {
    Append(text, "gpuroom[%d] %s, GPU %d: HBM %s (peak %s), host node %d %s (peak %s); ",
           static_cast<int>(getpid()), program.c_str(), device.tier.device(),
           FormatSize(device.tier.budget().used()).c_str(), FormatSize(device.tier.budget().peak()).c_str(),
           device.host.numa_node(), FormatSize(device.host.in_use().used()).c_str(),
           FormatSize(device.host.in_use().peak()).c_str());
    Append(text, "%" PRIu64 " allocations, %" PRIu64 " spilled, largest %s; %.3f s in gpuroom\n",
           device.counts.allocations.load(), device.counts.spilled.load(),
           FormatSize(device.counts.largest.load()).c_str(), seconds);
    if (device.managed.budget().peak() > 0) {
      text.pop_back();
      Append(
          text, "; managed memory %s (peak %s, cap %s)\n", FormatSize(device.managed.budget().used()).c_str(),
          FormatSize(device.managed.budget().peak()).c_str(), FormatSize(device.managed.cap().bytes).c_str());
    }
    if (device.counts.displaced.load() == 0 && device.source.PeerUsed() == 0) return;
    text.pop_back();
    Append(text, "; %s gave way, %s on other GPUs\n", FormatSize(device.counts.displaced.load()).c_str(),
           FormatSize(device.source.PeerUsed()).c_str());
  });
  return text;
}

// One write, so that the lines of several processes do not mix.
void WriteAll(int file, const char* name, const std::string& text) {
  const WriteSignalsBlocked blocked;
  const ssize_t written = write(file, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) return;
  Log(LogLevel::kWarn, "the report could not be written to %s: %s", name,
      written < 0 ? std::strerror(errno) : "there was room for a part of it alone");
}

// Without waiting: the file may be a FIFO that nobody reads, and the program is about to end.
void AppendTo(const char* name, const std::string& text) {
  const int file = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
  if (file < 0) {
    Log(LogLevel::kWarn, "%s cannot be opened: %s", name,
        errno == ENXIO ? "nobody reads this FIFO" : std::strerror(errno));
    return;
  }
  WriteAll(file, name, text);
  close(file);
}

}  // namespace

void WriteReport(const Runtime& rt) try {
  if (!rt.options.report && rt.options.stats_file.empty()) return;
  const std::string program = ProgramName();
  const double seconds = static_cast<double>(rt.nanoseconds.load()) * 1e-9;
  if (rt.options.report) WriteAll(STDERR_FILENO, "standard error", ForPeople(rt, program, seconds));
  if (!rt.options.stats_file.empty()) AppendTo(rt.options.stats_file.c_str(), Json(rt, program, seconds));
} catch (const std::exception&) {
  Log(LogLevel::kWarn, "there is no memory for the report");
}

}  // namespace gpuroom
