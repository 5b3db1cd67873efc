// The processes under gpuroom, as each of them tells: what `gpuroom ps` lists and `gpuroom exporter` counts.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "cli/process_info.h"
#include "sleep/control_message.h"

namespace gpuroom {

struct ProcessRow {
  pid_t pid = 0;
  ProcessInfo info;
  ControlReply reply;
  Failure failure;          // it did not answer
  gpuroom_tag_state sum{};  // of all tags
};

// Of this user, and for root of everybody. All are asked at once; what has not answered in 1.5 seconds is
// told as that.
std::vector<ProcessRow> AskRows();

// "awake", "asleep" or "partly asleep".
const char* StateOf(const gpuroom_tag_state& sum);
// What a program that shares its GPUs does now, "" of one that does not.
const char* ShareStateOf(const ProcessRow& row);
// One of the two, or what is in progress, or "no answer".
std::string StateOf(const ProcessRow& row);

}  // namespace gpuroom
