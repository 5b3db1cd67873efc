// What programs that share GPUs and their arbiter say to each other, and spans of time.
#include <string>

#include "base/interval.h"
#include "fuzz.h"
#include "share/share_message.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  const gpuroom::Result<uint64_t> time = gpuroom::ParseInterval(text);
  Require(!time.ok() || *time <= gpuroom::kLongestInterval, "no time is longer than a day");
  const gpuroom::Result<gpuroom::ShareMessage> message = gpuroom::ParseShareMessage(text);
  if (!message.ok()) return 0;
  const std::string written = gpuroom::FormatShareMessage(*message);
  Require(written.find('\n') == written.size() - 1, "a message is one line");
  const gpuroom::Result<gpuroom::ShareMessage> again = gpuroom::ParseShareMessage(written);
  Require(again.ok() && gpuroom::FormatShareMessage(*again) == written, "a message is read back");
  return 0;
}
