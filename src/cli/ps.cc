#include "cli/ps.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/size.h"
#include "cli/help.h"
#include "cli/parser.h"
#include "cli/process_rows.h"
#include "cli/stats_json.h"

namespace gpuroom {
namespace {

using Json = nlohmann::ordered_json;

void PrintLine(const std::string& pid, const std::string& user, const std::string& state,
               const gpuroom_tag_state& sum, const std::string& last) {
  fmt::print("{:>7}  {:<8}  {:<14} {:>9} {:>9} {:>9} {:>9}  {}\n", pid, user, state,
             FormatSize(sum.awake_on_gpu), FormatSize(sum.kept), FormatSize(sum.on_disk),
             FormatSize(sum.dropped), last);
}

void PrintText(const std::vector<ProcessRow>& rows) {
  if (rows.empty()) {
    fmt::print("no process is under gpuroom and uses a GPU\n");
    return;
  }
  fmt::print("{:>7}  {:<8}  {:<14} {:>9} {:>9} {:>9} {:>9}  {}\n", "PID", "USER", "STATE", "ON GPU",
             "IN HOST", "ON DISK", "DROPPED", "COMMAND");
  for (const ProcessRow& row : rows) {
    const std::string user = row.info.uid ? UserName(*row.info.uid) : "?";
    PrintLine(std::to_string(row.pid), Printable(user), StateOf(row), row.sum, Printable(row.info.command));
    // Without tags the first line has said all.
    if (row.reply.tags.size() == 1 && row.reply.tags[0].tag[0] == '\0') continue;
    for (const gpuroom_tag_state& tag : row.reply.tags) {
      const std::string name = tag.tag[0] == '\0' ? "without a tag" : fmt::format("tag {}", tag.tag);
      PrintLine("", "", StateOf(tag), tag, "  " + Printable(name));
    }
  }
}

Json Bytes(const gpuroom_tag_state& sum) {
  return {{"ranges", sum.ranges},   {"awake_bytes", sum.awake},     {"awake_on_gpu_bytes", sum.awake_on_gpu},
          {"kept_bytes", sum.kept}, {"on_disk_bytes", sum.on_disk}, {"dropped_bytes", sum.dropped}};
}

Json ToJson(const ProcessRow& row) {
  Json out = {{"pid", row.pid},
              {"user", row.info.uid ? Json(UserName(*row.info.uid)) : Json(nullptr)},
              {"command", row.info.command},
              {"state", StateOf(row)}};
  if (row.failure.failed()) {
    out["error"] = row.failure.text;
    return out;
  }
  if (*ShareStateOf(row) != '\0') out["share"] = ShareStateOf(row);
  out["version"] = row.reply.version;
  out["fresh"] = row.reply.fresh;
  out.update(Bytes(row.sum));
  out["tags"] = Json::array();
  for (const gpuroom_tag_state& tag : row.reply.tags) {
    Json entry = {{"tag", tag.tag}, {"state", StateOf(tag)}};
    entry.update(Bytes(tag));
    out["tags"].push_back(entry);
  }
  if (row.reply.stats) out["stats"] = StatsJson(*row.reply.stats);
  return out;
}

void PrintJson(const std::vector<ProcessRow>& rows) {
  Json processes = Json::array();
  for (const ProcessRow& row : rows) processes.push_back(ToJson(row));
  const Json out = {{"processes", processes}};
  // Commands and tags need not be UTF-8; JSON must be.
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

int PsCommand(const std::vector<std::string>& arguments) {
  bool json = false;
  bool help = false;
  Parser parser("ps");
  parser.Flag("--json", &json);
  parser.Flag("-h,--help", &help);
  const Failure failure = parser.Parse(arguments);
  if (failure.failed()) return Report(failure);
  if (help) {
    fmt::print("{}", kPsHelp);
    return kExitOk;
  }
  const std::vector<ProcessRow> rows = AskRows();
  json ? PrintJson(rows) : PrintText(rows);
  for (const ProcessRow& row : rows) {
    if (row.failure.failed() && !json) Report({kExitFailed, row.failure.text});
  }
  return kExitOk;
}

}  // namespace gpuroom
