#include "sleep/control_message.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "range/names.h"
#include "sleep/control_fields.h"
#include "sleep/stats_lines.h"

namespace gpuroom {
namespace {

constexpr std::array kActions = {"keep", "disk", "drop", "stay"};
constexpr std::array kHolds = {"none", "wait", "fail"};
constexpr std::array kResults = {"ok",     "out_of_memory", "invalid_argument", "not_found", "unsupported",
                                 "failed", "busy"};
constexpr std::array kVerbs = {"status", "sleep", "wake", "hint"};

template <size_t kCount>
const char* NameIn(const std::array<const char*, kCount>& names, int number) {
  return number >= 0 && static_cast<size_t>(number) < kCount ? names[static_cast<size_t>(number)] : nullptr;
}

template <size_t kCount>
int IndexIn(const std::array<const char*, kCount>& names, std::string_view name) {
  for (size_t i = 0; i < kCount; ++i) {
    if (name == names[i]) return static_cast<int>(i);
  }
  return -1;
}

ControlLine FirstLine() {
  ControlLine line;
  line.Add("gpuroom").Add(std::to_string(kControlVersion));
  return line;
}

Status CheckVersion(const ControlLine& line) {
  if (line.Word(0) != "gpuroom") return Status(Code::kInvalidArgument, "not gpuroom's control protocol");
  const Result<uint64_t> version = ParseDecimal(line.Word(1));
  if (version.ok() && *version == kControlVersion) return Status();
  return Status(Code::kUnsupported, "another version of gpuroom's control protocol");
}

bool ReadFlag(const std::string& value, bool* out) {
  *out = value == "1";
  return *out || value == "0";
}

// "ACTION:TAG".
bool ReadAction(const std::string& value, ControlRequest* request) {
  const size_t colon = value.find(':');
  const int action = ActionOf(std::string_view(value).substr(0, colon));
  if (action < 0 || colon == std::string::npos) return false;
  request->actions.emplace_back(value.substr(colon + 1), action);
  return true;
}

bool ReadSleepField(const std::string& key, const std::string& value, ControlRequest* request) {
  if (key == "do") return ReadAction(value, request);
  if (key == "verify") return ReadFlag(value, &request->verify);
  if (key == "hold") return (request->hold = HoldOf(value)) >= 0;
  if (key == "rest") return *(request->rest = ActionOf(value)) >= 0;
  request->directory = value;
  return key == "directory";
}

bool ReadWakeField(const std::string& key, const std::string& value, ControlRequest* request) {
  if (key == "lazy") return ReadFlag(value, &request->lazy);
  request->tags.push_back(value);
  return key == "tag";
}

bool ReadHintField(const std::string& key, const std::string& value, ControlRequest* request) {
  if (key == "hint") return (request->hint = ParseHint(value)).has_value();
  request->tags.push_back(value);
  return key == "tag";
}

bool ReadField(const std::string& key, const std::string& value, ControlRequest* request) {
  // C strings carry them to the core.
  if (value.find('\0') != std::string::npos) return false;
  switch (request->verb) {
    case ControlRequest::Verb::kStatus: return false;
    case ControlRequest::Verb::kSleep: return ReadSleepField(key, value, request);
    case ControlRequest::Verb::kWake: return ReadWakeField(key, value, request);
    case ControlRequest::Verb::kHint: return ReadHintField(key, value, request);
  }
  return false;
}

constexpr ControlField<gpuroom_sleep_report> kReportFields[] = {
    {"ranges", &gpuroom_sleep_report::ranges},          {"kept", &gpuroom_sleep_report::kept},
    {"on_disk", &gpuroom_sleep_report::on_disk},        {"dropped", &gpuroom_sleep_report::dropped},
    {"released", &gpuroom_sleep_report::released},      {"left_awake", &gpuroom_sleep_report::left_awake},
    {"nanoseconds", &gpuroom_sleep_report::nanoseconds}};
constexpr ControlField<gpuroom_tag_state> kTagFields[] = {{"ranges", &gpuroom_tag_state::ranges},
                                                          {"awake", &gpuroom_tag_state::awake},
                                                          {"awake_on_gpu", &gpuroom_tag_state::awake_on_gpu},
                                                          {"kept", &gpuroom_tag_state::kept},
                                                          {"on_disk", &gpuroom_tag_state::on_disk},
                                                          {"dropped", &gpuroom_tag_state::dropped}};

std::string ReportLine(const gpuroom_sleep_report& report) {
  ControlLine line;
  line.Add("report");
  AddFields(report, kReportFields, &line);
  return line.Text();
}

gpuroom_sleep_report ReadReport(const ControlLine& line) {
  gpuroom_sleep_report report{};
  ReadFields(line, kReportFields, &report);
  return report;
}

std::string TagLine(const gpuroom_tag_state& tag) {
  ControlLine line;
  line.Add("tag").Add("name", std::string_view(tag.tag));
  AddFields(tag, kTagFields, &line);
  return line.Text();
}

gpuroom_tag_state ReadTag(const ControlLine& line) {
  gpuroom_tag_state tag{};
  line.Value("name").copy(tag.tag, sizeof tag.tag - 1);
  ReadFields(line, kTagFields, &tag);
  return tag;
}

// Words that a later library adds are passed over.
void ReadReplyLine(const ControlLine& line, ControlReply* reply) {
  if (line.Word(0) == "report") reply->report = ReadReport(line);
  if (line.Word(0) == "tag") reply->tags.push_back(ReadTag(line));
  ReadStatsLine(line, &reply->stats);
  if (line.Word(0) != "process") return;
  reply->version = line.Value("version");
  reply->doing = line.Value("doing");
  reply->fresh = line.Value("fresh") != "0";
}

Status ReadFirstLine(const ControlLine& line, ControlReply* reply) {
  const Status status = CheckVersion(line);
  if (!status.ok()) return status;
  reply->result = IndexIn(kResults, line.Word(2));
  if (reply->result < 0) reply->result = GPUROOM_FAILED;
  reply->text = line.Value("text");
  reply->ending = line.Value("ending") == "1";
  return Status();
}

}  // namespace

const char* ActionName(int action) { return NameIn(kActions, action); }
const char* HoldName(int hold) { return NameIn(kHolds, hold); }
const char* ResultName(int result) { return NameIn(kResults, result); }
int ActionOf(std::string_view name) { return IndexIn(kActions, name); }
int HoldOf(std::string_view name) { return IndexIn(kHolds, name); }

std::string FormatRequest(const ControlRequest& request) {
  ControlLine line = FirstLine();
  line.Add(kVerbs[static_cast<size_t>(request.verb)]);
  if (request.verb == ControlRequest::Verb::kSleep) {
    for (const auto& [tag, action] : request.actions) line.Add("do", ActionName(action) + (":" + tag));
    if (request.rest) line.Add("rest", std::string_view(ActionName(*request.rest)));
    line.Add("hold", std::string_view(HoldName(request.hold)));
    line.Add("verify", uint64_t{request.verify});
    if (!request.directory.empty()) line.Add("directory", request.directory);
  }
  if (request.verb == ControlRequest::Verb::kWake) {
    for (const std::string& tag : request.tags) line.Add("tag", tag);
    line.Add("lazy", uint64_t{request.lazy});
  }
  if (request.verb == ControlRequest::Verb::kHint) {
    line.Add("hint", std::string_view(HintName(request.hint.value_or(Hint::kNone))));
    for (const std::string& tag : request.tags) line.Add("tag", tag);
  }
  return line.Text();
}

Result<ControlRequest> ParseRequest(std::string_view text) {
  const Result<ControlLine> line = ControlLine::Parse(text);
  if (!line.ok()) return line.status();
  const Status status = CheckVersion(*line);
  if (!status.ok()) return status;
  const int verb = IndexIn(kVerbs, line->Word(2));
  if (verb < 0)
    return Status(Code::kInvalidArgument, "an unknown request; status, sleep, wake and hint are known");
  ControlRequest request;
  request.verb = static_cast<ControlRequest::Verb>(verb);
  for (const auto& [key, value] : line->fields()) {
    if (!ReadField(key, value, &request))
      return Status(Code::kInvalidArgument, "a field of the request is unknown, or its value is none");
  }
  if (request.verb == ControlRequest::Verb::kHint && !request.hint)
    return Status(Code::kInvalidArgument, "a hint says which: none, hot, cold or stream");
  return request;
}

std::string FormatReply(const ControlReply& reply) {
  ControlLine first = FirstLine();
  const char* name = ResultName(reply.result);
  first.Add(name != nullptr ? name : "failed");
  if (!reply.text.empty()) first.Add("text", reply.text);
  if (reply.ending) first.Add("ending", uint64_t{1});
  std::string text = first.Text();
  if (reply.report) text += ReportLine(*reply.report);
  if (!reply.version.empty()) {
    ControlLine process;
    process.Add("process").Add("version", reply.version).Add("doing", reply.doing);
    text += process.Add("fresh", uint64_t{reply.fresh}).Text();
  }
  for (const gpuroom_tag_state& tag : reply.tags) text += TagLine(tag);
  if (reply.stats) text += StatsLines(*reply.stats);
  return text + "end\n";
}

Result<ControlReply> ParseReply(std::string_view text) {
  ControlReply reply;
  for (size_t number = 0; !text.empty(); ++number) {
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos) break;
    const Result<ControlLine> line = ControlLine::Parse(text.substr(0, newline));
    text.remove_prefix(newline + 1);
    if (!line.ok()) return line.status();
    if (number > 0 && line->Word(0) == "end") return reply;
    if (number > 0) ReadReplyLine(*line, &reply);
    const Status status = number == 0 ? ReadFirstLine(*line, &reply) : Status();
    if (!status.ok()) return status;
  }
  return Status(Code::kNotFound, "the answer ends before its last line");
}

}  // namespace gpuroom
