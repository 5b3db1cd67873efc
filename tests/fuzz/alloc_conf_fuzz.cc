// PYTORCH_ALLOC_CONF, of which gpuroom takes its own entries and passes the rest on.
#include "cli/alloc_conf.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = gpuroom::fuzz::Input(data, size).TakeRest();
  gpuroom::AllocConf conf;
  if (gpuroom::ParseAllocConf("PYTORCH_ALLOC_CONF", text, &conf).failed()) return 0;
  gpuroom::AllocConf rest;
  const bool failed = gpuroom::ParseAllocConf("PYTORCH_ALLOC_CONF", conf.rest, &rest).failed();
  gpuroom::fuzz::Require(!failed && !rest.ours && rest.rest == conf.rest,
                         "the rest has no entry of gpuroom's");
  return 0;
}
