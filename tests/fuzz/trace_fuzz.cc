// A trace that a process wrote, and a trace in JSON beside which it is laid: the two halves of the input. Its
// header and records are small here, and are put into files of the size that they have.
#include <algorithm>
#include <string>

#include "cli/trace_json.h"
#include "fuzz.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t half = std::min(input.size(), sizeof(gpuroom::TraceHeader) + 4 * sizeof(gpuroom::TraceRecord));
  std::string bytes(input.substr(0, half));
  const size_t header = std::min(bytes.size(), sizeof(gpuroom::TraceHeader));
  bytes.insert(header, gpuroom::kTraceRecordsAt - header, '\0');
  const gpuroom::Result<gpuroom::TraceFile> file = gpuroom::ParseTrace(bytes);
  if (!file.ok()) return 0;
  Require(file->records.size() <= 4, "no record comes from beyond the file");
  const std::vector<gpuroom::TraceFile> files = {*file};
  Require(!gpuroom::TraceJson(files).empty(), "every trace can be shown");
  (void)gpuroom::TraceJsonBeside(files, input.substr(half));
  return 0;
}
