#include "share/share_message.h"

#include <algorithm>
#include <array>

#include "sleep/control_fields.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

// By Verb.
constexpr std::array kVerbs = {"join", "gpu",       "state",    "need", "ask", "withdraw", "wish", "busy",
                               "idle", "moved-out", "moved-in", "out",  "in",  "refuse",   "note", "reject"};

// Sums of as many as there may be members do not overflow.
constexpr uint64_t kMostNumber = uint64_t{1} << 48;

constexpr ControlField<ShareMessage> kFields[] = {{"version", &ShareMessage::version},
                                                  {"priority", &ShareMessage::priority},
                                                  {"reserve", &ShareMessage::reserve},
                                                  {"quantum", &ShareMessage::quantum},
                                                  {"idle_after", &ShareMessage::idle_after},
                                                  {"gpu", &ShareMessage::gpu},
                                                  {"id", &ShareMessage::id},
                                                  {"asked", &ShareMessage::asked},
                                                  {"bytes", &ShareMessage::bytes},
                                                  {"awake", &ShareMessage::awake},
                                                  {"fixed", &ShareMessage::fixed},
                                                  {"received", &ShareMessage::received},
                                                  {"limit", &ShareMessage::limit},
                                                  {"link", &ShareMessage::link}};

}  // namespace

std::string FormatShareMessage(const ShareMessage& message) {
  ControlLine line;
  line.Add(kVerbs[static_cast<size_t>(message.verb)]);
  for (const ControlField<ShareMessage>& field : kFields) {
    if (message.*field.member != 0) line.Add(field.name, message.*field.member);
  }
  if (!message.uuid.empty()) line.Add("uuid", message.uuid);
  if (!message.text.empty()) line.Add("text", message.text);
  return line.Text();
}

Result<ShareMessage> ParseShareMessage(std::string_view packet) {
  if (!packet.empty() && packet.back() == '\n') packet.remove_suffix(1);
  const Result<ControlLine> line = ControlLine::Parse(packet);
  if (!line.ok()) return line.status();
  const auto verb = std::find(kVerbs.begin(), kVerbs.end(), line->Word(0));
  if (verb == kVerbs.end()) return Status(Code::kInvalidArgument, "an unknown message");
  ShareMessage message;
  message.verb = static_cast<ShareMessage::Verb>(verb - kVerbs.begin());
  ReadFields(*line, kFields, &message);
  for (const ControlField<ShareMessage>& field : kFields) {
    // What was received in all is compared, and not added up.
    if (field.member != &ShareMessage::received && message.*field.member > kMostNumber)
      return Status(Code::kInvalidArgument, "a number that nothing has");
  }
  message.uuid = line->Value("uuid");
  message.text = line->Value("text");
  return message;
}

}  // namespace gpuroom
