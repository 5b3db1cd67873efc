#include "runtime/report.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/clock.h"
#include "base/detached_thread.h"
#include "base/log.h"
#include "base/write_signals.h"

namespace gpuroom {
namespace {

constexpr int kPatience = 1000;  // milliseconds, at the end of a process

struct ProgramName {
  char text[16] = {};  // as long as the kernel's

  ProgramName() {
    const int file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    char raw[sizeof text] = {};
    const ssize_t length = file < 0 ? 0 : read(file, raw, sizeof raw - 1);
    if (file >= 0) close(file);
    size_t kept = 0;
    for (ssize_t i = 0; i < length; ++i) {
      // A program may call itself anything; JSON may not hold anything.
      const char c = raw[i];
      if (c >= ' ' && c <= '~' && c != '"' && c != '\\') text[kept++] = c;
    }
  }
};

template <typename Use>
void ForEachDevice(const Runtime& rt, Use use) {
  for (int i = 0; i < Runtime::kMaxDevices; ++i) {
    if (const DeviceState* device = rt.ExistingDevice(i)) use(*device);
  }
}

// `last`: the process says nothing after it.
void AddJson(const Runtime& rt, bool last, FixedText* text) {
  text->Append("{\"pid\":%d,\"program\":\"%s\",\"devices\":[", static_cast<int>(rt.pid), ProgramName().text);
  const char* separator = "";
  ForEachDevice(rt, [&](const DeviceState& device) {
    text->Append("%s{\"device\":%d,\"hbm_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 "},", separator,
                 device.tier.device(), device.tier.budget().used(), device.tier.budget().peak());
    text->Append("\"host_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 ",\"numa_node\":%d},",
                 device.host.in_use().used(), device.host.in_use().peak(), device.host.numa_node());
    text->Append("\"peer_bytes\":{\"current\":%" PRIu64 "},\"displaced\":%" PRIu64 ",",
                 device.source.PeerUsed(), device.counts.displaced.load());
    text->Append("\"managed_bytes\":{\"current\":%" PRIu64 ",\"peak\":%" PRIu64 ",\"cap\":%" PRIu64 "},",
                 device.managed.budget().used(), device.managed.budget().peak(), device.managed.cap().bytes);
    text->Append("\"allocations\":%" PRIu64 ",\"spilled\":%" PRIu64 ",\"largest\":%" PRIu64 "}",
                 device.counts.allocations.load(), device.counts.spilled.load(),
                 device.counts.largest.load());
    separator = ",";
  });
  const uint64_t microseconds = rt.nanoseconds.load() / 1000;
  const uint64_t now = ReadClock(CLOCK_REALTIME) / 1000000;  // milliseconds
  text->Append("],\"time\":%" PRIu64 ".%03" PRIu64 ",\"last\":%s,", now / 1000, now % 1000,
               last ? "true" : "false");
  text->Append("\"shim_seconds\":%" PRIu64 ".%06" PRIu64 "}\n", microseconds / 1000000,
               microseconds % 1000000);
}

// FormatSize gives nine characters at most, which a std::string holds without memory of its own.
void AddDevice(const Runtime& rt, const DeviceState& device, const char* program, FixedText* text) {
  text->Append(
      "gpuroom[%d] %s, GPU %d: HBM %s (peak %s), host node %d %s (peak %s); ", static_cast<int>(rt.pid),
      program, device.tier.device(), FormatSize(device.tier.budget().used()).c_str(),
      FormatSize(device.tier.budget().peak()).c_str(), device.host.numa_node(),
      FormatSize(device.host.in_use().used()).c_str(), FormatSize(device.host.in_use().peak()).c_str());
  text->Append("%" PRIu64 " allocations, %" PRIu64 " spilled, largest %s; ", device.counts.allocations.load(),
               device.counts.spilled.load(), FormatSize(device.counts.largest.load()).c_str());
  const uint64_t milliseconds = rt.nanoseconds.load() / 1000000;
  text->Append("%" PRIu64 ".%03" PRIu64 " s in gpuroom", milliseconds / 1000, milliseconds % 1000);
  if (device.managed.budget().peak() > 0) {
    text->Append("; managed memory %s (peak %s, cap %s)", FormatSize(device.managed.budget().used()).c_str(),
                 FormatSize(device.managed.budget().peak()).c_str(),
                 FormatSize(device.managed.cap().bytes).c_str());
  }
  if (device.counts.displaced.load() > 0 || device.source.PeerUsed() > 0) {
    text->Append("; %s gave way, %s on other GPUs", FormatSize(device.counts.displaced.load()).c_str(),
                 FormatSize(device.source.PeerUsed()).c_str());
  }
  text->Append("\n");
}

// What went wrong, in words where there is time: those of the C library take its locks.
struct ErrorText {
  char text[96];

  ErrorText(int error, ProcessEnd end) {
    if (end == ProcessEnd::kOrderly) {
      std::snprintf(text, sizeof text, "%s", std::strerror(error));
    } else {
      std::snprintf(text, sizeof text, "error %d", error);
    }
  }
};

// Whether `file` takes something now, or will soon. A pipe that nobody empties does not.
bool TakesSome(int file, ProcessEnd end) {
  if (end == ProcessEnd::kOrderly) return true;
  pollfd entry = {file, POLLOUT, 0};
  return poll(&entry, 1, kPatience) == 1;
}

// One write, so that the lines of several processes do not mix.
void WriteAll(int file, const char* name, std::string_view text, ProcessEnd end) {
  if (text.empty() || !TakesSome(file, end)) return;
  const WriteSignalsBlocked blocked;
  const ssize_t written = write(file, text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) return;
  Log(LogLevel::kWarn, "the report could not be written to %s: %s", name,
      written < 0 ? ErrorText(errno, end).text : "there was room for a part of it alone");
}

// Without waiting: the file may be a FIFO that nobody reads, and the program is about to end.
void AppendTo(const char* name, std::string_view text, ProcessEnd end) {
  const int file = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
  if (file < 0) {
    Log(LogLevel::kWarn, "%s cannot be opened: %s", name,
        errno == ENXIO ? "nobody reads this FIFO" : ErrorText(errno, end).text);
    return;
  }
  WriteAll(file, name, text, end);
  close(file);
}

// By who has the runtime's ReportTurn.
constinit char g_report[kReportBytes];

void AppendStats(const Runtime& rt, bool last, ProcessEnd end) {
  FixedText text(g_report, sizeof g_report);
  AddJson(rt, last, &text);
  AppendTo(rt.options.stats_file.c_str(), text.view(), end);
}

void Sleep(uint64_t milliseconds) {
  const timespec span = {static_cast<time_t>(milliseconds / 1000),
                         static_cast<long>(milliseconds % 1000 * 1000000)};
  nanosleep(&span, nullptr);
}

}  // namespace

void AddReport(const Runtime& rt, FixedText* text) {
  const ProgramName program;
  ForEachDevice(rt, [&](const DeviceState& device) { AddDevice(rt, device, program.text, text); });
}

void WriteLastReport(Runtime& rt, ProcessEnd end) {
  const Options& options = rt.options;
  if (!options.report && options.stats_file.empty()) return;
  // In a child by vfork all memory is its parent's, in one by a bare system call a copy of it.
  if (rt.pid != getpid() || !rt.report_turn.TakeLast()) return;
  if (options.report) {
    FixedText text(g_report, sizeof g_report);
    AddReport(rt, &text);
    WriteAll(STDERR_FILENO, "standard error", text.view(), end);
  }
  if (!options.stats_file.empty()) AppendStats(rt, true, end);
}

bool ReportTurn::TakeLast() {
  for (int i = 0; i < kPatience; ++i) {
    State idle = State::kIdle;
    if (state_.compare_exchange_strong(idle, State::kOver)) return true;
    if (idle == State::kOver) return false;
    Sleep(1);
  }
  return false;
}

void StartReportInterval(Runtime& rt) {
  const uint64_t interval = rt.options.stats_interval;
  if (interval == 0 || rt.options.stats_file.empty()) return;
  const Status status = StartDetached("gpuroom-stats", [&rt, interval] {
    while (!rt.report_turn.over()) {
      Sleep(interval);
      if (!rt.report_turn.Take()) continue;
      AppendStats(rt, false, ProcessEnd::kOrderly);
      rt.report_turn.GiveBack();
    }
  });
  if (!status.ok()) Log(LogLevel::kWarn, "statistics come at the end alone: %s", status.what());
}

}  // namespace gpuroom
