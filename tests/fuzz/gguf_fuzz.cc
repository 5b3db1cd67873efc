// The header of a GGUF file.
#include "fuzz.h"
#include "model/gguf.h"

using gpuroom::fuzz::Require;
using namespace gpuroom::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  MemorySource source({reinterpret_cast<const char*>(data), size});
  GgufHeader header;
  Model model;
  if (!ReadGguf(&source, &header).empty() || !ModelOfGguf(header, &model).empty()) return 0;
  Require(model.tensors.size() <= kMostTensors, "there are no more tensors than in any model");
  Require(!model.cache.empty(), "a model has layers");
  return 0;
}
