#include "cli/ps.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/size.h"
#include "cli/help.h"
#include "cli/parser.h"
#include "cli/process_json.h"
#include "cli/process_rows.h"

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

void PrintJson(const std::vector<ProcessRow>& rows) {
  Json processes = Json::array();
  for (const ProcessRow& row : rows) processes.push_back(ProcessJson(row));
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
