// Sleep and wake, as the program asks.
#include "gpuroom/sleep.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>

#include "base/clock.h"
#include "base/env.h"
#include "capi/answer.h"
#include "capi/sized.h"
#include "capi/sleep_request.h"
#include "capi/tag_list.h"
#include "runtime/intent.h"
#include "sleep/process.h"

namespace gpuroom {
namespace {

bool IsAction(int action) { return action >= GPUROOM_SLEEP_KEEP && action <= GPUROOM_SLEEP_STAY; }

TagVerdict VerdictOf(int action) {
  switch (action) {
    case GPUROOM_SLEEP_KEEP: return SleepAction::kKeep;
    case GPUROOM_SLEEP_DISK: return SleepAction::kDisk;
    case GPUROOM_SLEEP_DROP: return SleepAction::kDrop;
    default: return {};
  }
}

Hold HoldOf(int hold) {
  if (hold == GPUROOM_HOLD_WAIT) return Hold::kWait;
  return hold == GPUROOM_HOLD_FAIL ? Hold::kFail : Hold::kCheck;
}

Status AddEntry(const gpuroom_tag_action& given, bool* has_rest, SleepRequest* out) {
  if (!IsAction(given.action)) return Status(Code::kInvalidArgument, "action must be a gpuroom_sleep_action");
  if (given.tag == nullptr) {
    if (*has_rest) return Status(Code::kInvalidArgument, "two entries stand for whatever no other names");
    *has_rest = true;
    out->rest = VerdictOf(given.action);
    return Status();
  }
  SleepRequest::Named entry;
  if (!FindTag(given.tag, &entry.tag)) return UnknownTag(given.tag);
  for (const SleepRequest::Named& other : out->tags) {
    if (other.tag == entry.tag) return Status(Code::kInvalidArgument, "a tag is named twice");
  }
  entry.verdict = VerdictOf(given.action);
  out->tags.push_back(entry);
  return Status();
}

bool UsesDisk(const SleepRequest& request) {
  return request.rest == SleepAction::kDisk ||
         std::any_of(request.tags.begin(), request.tags.end(),
                     [](const SleepRequest::Named& entry) { return entry.verdict == SleepAction::kDisk; });
}

Status Read(const gpuroom_sleep_request* given, size_t bytes, SleepRequest* out) {
  if (const Status status = SizedList(given, 1, bytes).Check(); !status.ok()) return status;
  if (given->hold < GPUROOM_HOLD_NONE || given->hold > GPUROOM_HOLD_FAIL)
    return Status(Code::kInvalidArgument, "hold must be a gpuroom_hold");
  if (given->tags == nullptr && given->tag_count > 0)
    return Status(Code::kInvalidArgument, "the list of tags is null");
  bool has_rest = false;
  for (size_t i = 0; i < given->tag_count; ++i) {
    const Status status = AddEntry(given->tags[i], &has_rest, out);
    if (!status.ok()) return status;
  }
  if (given->tag_count == 0) out->rest = SleepAction::kKeep;
  out->hold = HoldOf(given->hold);
  out->settings.verify = given->verify != 0;
  out->settings.directory = given->directory != nullptr ? given->directory : env::Find(env::kSleepDir);
  if (UsesDisk(*out) && (out->settings.directory == nullptr || *out->settings.directory == '\0'))
    return Status(Code::kInvalidArgument,
                  "sleeping to disk needs a directory: name one, or set GPUROOM_SLEEP_DIR");
  return Status();
}

// Fills the program's report, whose size it knows, and answers.
int Report(const Status& status, gpuroom_sleep_report report, uint64_t start, gpuroom_sleep_report* out,
           size_t out_bytes) {
  if (!status.ok()) report = {};
  report.nanoseconds = NowNanoseconds() - start;
  if (out != nullptr) Fill(out, out_bytes, report);
  return Answer(status);
}

gpuroom_tag_state Exported(const TagState& state) {
  gpuroom_tag_state out{};
  std::snprintf(out.tag, sizeof out.tag, "%s", TagName(state.tag));
  out.ranges = state.ranges;
  out.awake = state.awake;
  out.awake_on_gpu = state.awake_on_gpu;
  out.kept = state.asleep.kept;
  out.on_disk = state.asleep.on_disk;
  out.dropped = state.asleep.dropped;
  return out;
}

}  // namespace

int SleepAsAsked(const gpuroom_sleep_request* request, size_t request_bytes, BackupFiles files,
                 gpuroom_sleep_report* out, size_t out_bytes) {
  const uint64_t start = NowNanoseconds();
  ClearError();
  const Entry rt(true);
  SleepRequest read;
  SleepAnswer answer;
  Status status = Read(request, request_bytes, &read);
  read.settings.visible_files = files == BackupFiles::kVisible;
  if (status.ok() && !rt) status = Status(Code::kUnsupported, kNotHere);
  if (status.ok()) status = Sleep(*rt, read, &answer);
  const SleepCounts& counts = answer.counts;
  return Report(
      status,
      {counts.ranges, counts.kept, counts.on_disk, counts.dropped, counts.released, answer.left_awake, 0},
      start, out, out_bytes);
}

}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

int gpuroom_sleep(const gpuroom_sleep_request* request, size_t request_bytes, gpuroom_sleep_report* out,
                  size_t out_bytes) try {
  return SleepAsAsked(request, request_bytes, BackupFiles::kUnnamed, out, out_bytes);
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_wake(const char* const* tags, size_t count, int lazy, gpuroom_sleep_report* out,
                 size_t out_bytes) try {
  const uint64_t start = NowNanoseconds();
  ClearError();
  const Entry rt(true);
  WakeRequest request;
  WakeCounts counts;
  request.lazy = lazy != 0;
  request.everything = count == 0;
  Status status = ReadTagList(tags, count, &request.tags);
  if (status.ok() && !rt) status = Status(Code::kUnsupported, kNotHere);
  if (status.ok()) status = Wake(*rt, request, &counts);
  return Report(status, {counts.ranges, counts.restored, 0, counts.fresh, counts.on_host, 0, 0}, start, out,
                out_bytes);
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_sleep_states(gpuroom_tag_state* out, size_t capacity, size_t* count, size_t bytes) try {
  ClearError();
  if (count == nullptr) return Answer(Status(Code::kInvalidArgument, "the place for the count is null"));
  *count = 0;
  if (out == nullptr && capacity > 0)
    return Answer(Status(Code::kInvalidArgument, "the place for the states is null"));
  const Entry rt(true);
  if (!rt) return Answer(Status(Code::kUnsupported, kNotHere));
  const std::vector<TagState> states = States(*rt);
  *count = states.size();
  for (size_t i = 0; i < states.size() && i < capacity; ++i)
    Fill(reinterpret_cast<char*>(out) + i * bytes, bytes, Exported(states[i]));
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

int gpuroom_set_thread_dispensable(int dispensable) try {
  ClearError();
  IntentOfThread().dispensable = dispensable != 0;
  return GPUROOM_OK;
} catch (const std::exception& error) {
  return AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
