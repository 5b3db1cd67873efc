// The control protocol: a request where the input's first line begins so, and a reply in any case.
#include <string>

#include "fuzz.h"
#include "sleep/control_message.h"

using gpuroom::fuzz::Require;

namespace {

void FuzzRequest(std::string_view line) {
  const gpuroom::Result<gpuroom::ControlRequest> request = gpuroom::ParseRequest(line);
  if (!request.ok()) return;
  const std::string written = gpuroom::FormatRequest(*request);
  Require(written.find('\n') == written.size() - 1, "a request is one line");
  const auto again = gpuroom::ParseRequest(std::string_view(written).substr(0, written.size() - 1));
  Require(again.ok() && gpuroom::FormatRequest(*again) == written, "a request is read back");
}

void FuzzReply(std::string_view text) {
  const gpuroom::Result<gpuroom::ControlReply> reply = gpuroom::ParseReply(text);
  if (!reply.ok()) return;
  const std::string written = gpuroom::FormatReply(*reply);
  const gpuroom::Result<gpuroom::ControlReply> again = gpuroom::ParseReply(written);
  Require(again.ok() && gpuroom::FormatReply(*again) == written, "a reply is read back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzRequest(gpuroom::fuzz::Input(data, size).TakeLine());
  FuzzReply(gpuroom::fuzz::Input(data, size).TakeRest());
  return 0;
}
