// links.json, the file of measured link speeds.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "cli/link_cache.h"
#include "fuzz.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("links", MFD_CLOEXEC);
  Require(file >= 0 && ftruncate(file, 0) == 0, "there is memory for a file");
  Require(pwrite(file, data, size, 0) == static_cast<ssize_t>(size), "the file is written");
  const gpuroom::LinkCache cache = gpuroom::ReadLinkCache("/proc/self/fd/" + std::to_string(file));
  Require(cache.entries.empty() || cache.warning.empty(), "a file is used or warned of");
  for (const gpuroom::LinkEntry& entry : cache.entries) {
    Require(gpuroom::ArePlausible(entry.speeds), "measured speeds are plausible");
    Require(gpuroom::FindLinks(cache, entry.gpu_uuid, entry.driver).has_value(), "an entry is found");
  }
  return 0;
}
