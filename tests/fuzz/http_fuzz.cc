// A request to the metrics' endpoint, as much of it as has come.
#include "cli/http_message.h"
#include "fuzz.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  if (!gpuroom::IsWholeHttpRequest(text)) return 0;
  const gpuroom::HttpRequest request = gpuroom::ParseHttpRequest(text);
  Require(request.status == 200 || request.status == 400 || request.status == 405,
          "the status is one of three");
  Require(request.status == 400 || (request.path.substr(0, 1) == "/" && text.find(request.path) != text.npos),
          "a path is a part of the text");
  return 0;
}
