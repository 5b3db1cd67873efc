// A model's config.json.
#include <string>

#include "fuzz.h"
#include "model/cache.h"
#include "model/folder.h"

using gpuroom::fuzz::Require;
using namespace gpuroom::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Config config;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!ParseConfig(text, &config).empty()) return 0;
  Model model;
  if (!ModelOfConfig(config, &model).empty()) return 0;
  uint64_t bytes = 0;
  for (const Tensor& tensor : model.tensors) {
    Require(tensor.bytes <= kMostTensorBytes, "no tensor is larger than any");
    Require(bytes + tensor.bytes >= bytes, "the sum stays within 64 bits");
    bytes += tensor.bytes;
  }
  Require(model.cache.size() == config.layers(), "every layer has a cache");
  Require(ExpertShare(model, 7) >= 0 && ExpertShare(model, 7) <= 1, "a share is a part");
  (void)CacheBytes(model.cache, 1 << 20, {});
  return 0;
}
