#include "sleep/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace gpuroom {

uint64_t Checksum(const void* data, size_t bytes) { return XXH3_64bits(data, bytes); }

}  // namespace gpuroom
