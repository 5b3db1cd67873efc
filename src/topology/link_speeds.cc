#include "topology/link_speeds.h"

#include <optional>

#include "topology/sysroot.h"

namespace gpuroom {
namespace {

bool IsLink(uint64_t speed) { return speed >= kSlowestLink && speed <= kFastestLink; }

// The field of `speeds` that `name` means; null for another word.
uint64_t* FieldOf(std::string_view name, LinkSpeeds* speeds) {
  if (name == "device") return &speeds->device;
  if (name == "peer") return &speeds->peer;
  if (name == "host") return &speeds->host;
  return nullptr;
}

}  // namespace

bool ArePlausible(const LinkSpeeds& speeds) {
  return IsLink(speeds.device) && IsLink(speeds.host) && (speeds.peer == 0 || IsLink(speeds.peer));
}

Result<LinkSpeeds> ParseLinkSpeeds(std::string_view text) {
  const Status malformed(Code::kInvalidArgument,
                         "not link speeds; write device=N,peer=N,host=N in bytes per second");
  LinkSpeeds speeds;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(word.size());
    if (!text.empty()) text.remove_prefix(1);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) return malformed;
    uint64_t* field = FieldOf(word.substr(0, equals), &speeds);
    const std::optional<uint64_t> value = ParseNumber(word.substr(equals + 1));
    if (field == nullptr || !value) return malformed;
    *field = *value;
  }
  if (ArePlausible(speeds)) return speeds;
  return Status(Code::kInvalidArgument,
                "not plausible; device and host are needed, each from 1000000 to 1000000000000000");
}

std::string FormatLinkSpeeds(const LinkSpeeds& speeds) {
  std::string text = "device=" + std::to_string(speeds.device);
  if (speeds.peer != 0) text += ",peer=" + std::to_string(speeds.peer);
  return text + ",host=" + std::to_string(speeds.host);
}

}  // namespace gpuroom
