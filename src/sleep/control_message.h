// What goes over the control socket (docs/sleep.md): one request, one reply, both
// as text. The process that is asked and the command that asks share this file.
// Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "gpuroom/sleep.h"
#include "range/plan.h"
#include "runtime/process_stats.h"

namespace gpuroom {

inline constexpr uint64_t kControlVersion = 1;

// gpuroom_sleep_action, gpuroom_hold and gpuroom_result by name: "keep", "wait",
// "out_of_memory". Null for a number without one.
const char* ActionName(int action);
const char* HoldName(int hold);
const char* ResultName(int result);
// -1 for a name that is none.
int ActionOf(std::string_view name);
int HoldOf(std::string_view name);

struct ControlRequest {
  enum class Verb { kStatus, kSleep, kWake, kHint };

  Verb verb = Verb::kStatus;
  // Of a sleep: tags with their actions, and the action of what none of them names.
  std::vector<std::pair<std::string, int>> actions;
  std::optional<int> rest;
  int hold = GPUROOM_HOLD_WAIT;
  bool verify = false;
  std::string directory;  // "": none given
  // Of a wake, what to wake, in this order; of a hint, what it is about. None: everything.
  std::vector<std::string> tags;
  bool lazy = false;
  std::optional<Hint> hint;  // of a hint, which has one
};

// With its newline.
std::string FormatRequest(const ControlRequest& request);
// Without. kUnsupported: of another version. kInvalidArgument: not a request.
Result<ControlRequest> ParseRequest(std::string_view line);

struct ControlReply {
  int result = GPUROOM_OK;  // gpuroom_result
  std::string text;         // why not, one sentence
  bool ending = false;      // not done, since the process ends
  std::optional<gpuroom_sleep_report> report;
  // Of a status.
  std::string version;            // of the library
  std::string doing = "nothing";  // or "sleep" or "wake": in progress now
  bool fresh = true;              // false: `tags` is as it was before that began
  std::vector<gpuroom_tag_state> tags;
  std::optional<ProcessStats> stats;  // none: an older library, or a process without any
};

std::string FormatReply(const ControlReply& reply);
// All lines. kUnsupported: of another version. kNotFound: it ends before its last line.
Result<ControlReply> ParseReply(std::string_view text);

}  // namespace gpuroom
