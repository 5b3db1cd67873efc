// The header of a .safetensors file.
#include <string>

#include "fuzz.h"
#include "model/names.h"
#include "model/safetensors.h"

using gpuroom::fuzz::Require;
using namespace gpuroom::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  MemorySource source({reinterpret_cast<const char*>(data), size});
  std::vector<StoredTensor> tensors;
  if (!ReadSafetensors(&source, &tensors).empty()) return 0;
  for (const StoredTensor& tensor : tensors) {
    Require(tensor.bytes <= size, "a tensor lies within its file");
    (void)ReadName(tensor.name, 2);
  }
  return 0;
}
