#include "cli/process_rows.h"

#include <algorithm>
#include <array>

#include "cli/control_client.h"

namespace gpuroom {
namespace {

constexpr int kPatience = 1500;  // milliseconds for all together: a process answers this at any time

gpuroom_tag_state SumOf(const std::vector<gpuroom_tag_state>& tags) {
  gpuroom_tag_state sum{};
  for (const gpuroom_tag_state& tag : tags) {
    sum.ranges += tag.ranges;
    sum.awake += tag.awake;
    sum.awake_on_gpu += tag.awake_on_gpu;
    sum.kept += tag.kept;
    sum.on_disk += tag.on_disk;
    sum.dropped += tag.dropped;
  }
  return sum;
}

}  // namespace

const char* StateOf(const gpuroom_tag_state& sum) {
  if (sum.kept + sum.on_disk + sum.dropped == 0) return "awake";
  return sum.awake == 0 ? "asleep" : "partly asleep";
}

const char* ShareStateOf(const ProcessRow& row) {
  constexpr std::array kNames = {"", "idle", "runs", "waits for HBM", "moved out"};
  const uint64_t state = row.reply.stats ? row.reply.stats->share : 0;
  return state < kNames.size() ? kNames[state] : "";
}

std::string StateOf(const ProcessRow& row) {
  if (row.failure.failed()) return "no answer";
  if (row.reply.doing == "sleep") return "falling asleep";
  if (row.reply.doing == "wake") return "waking";
  const char* share = ShareStateOf(row);
  return *share != '\0' ? share : StateOf(row.sum);
}

std::vector<ProcessRow> AskRows() {
  const std::vector<ControlTarget> targets = FindTargets(Whose::kEveryones).targets;
  std::vector<ProcessRow> rows(targets.size());
  AskOptions how;
  how.patience = kPatience;
  how.answered = [&](size_t index, const Answer& answer) {
    ProcessRow& row = rows[index];
    row.pid = targets[index].pid;
    row.info = ReadProcessInfo(row.pid);
    row.reply = answer.reply;
    row.failure = answer.failure;
    row.sum = SumOf(row.reply.tags);
  };
  AskAll(targets, ControlRequest(), how);
  // It ended since it was found, or who listens under its name is not the process.
  const auto other = [](const ProcessRow& row) {
    return row.failure.exit_code == kExitNoProcess || row.failure.exit_code == kExitNotPermitted;
  };
  rows.erase(std::remove_if(rows.begin(), rows.end(), other), rows.end());
  return rows;
}

}  // namespace gpuroom
