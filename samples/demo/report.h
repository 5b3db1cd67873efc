// What the sample found out about its buffers, and how it is printed: as a
// table grouped by place, or as JSON. Pure: no driver call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gpuroom::samples {

struct BufferResult {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t hbm_bytes = 0;
  uint64_t host_bytes = 0;
  uint64_t wrong_words = 0;
  double seconds = 0;  // of the fastest read
};

struct DemoResult {
  std::string gpu;
  bool simulated = false;
  bool under_gpuroom = false;
  uint64_t total_bytes = 0;  // device memory as the program sees it
  std::vector<BufferResult> buffers;

  uint64_t WrongWords() const;
};

void PrintTable(const DemoResult& result);
void PrintJson(const DemoResult& result);

}  // namespace gpuroom::samples
