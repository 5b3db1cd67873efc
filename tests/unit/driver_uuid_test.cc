#include <gtest/gtest.h>

#include "driver/uuid.h"

namespace gpuroom {
namespace {

TEST(UuidTest, IsWrittenAsNvidiaSmiWritesIt) {
  CUuuid uuid{};
  for (size_t i = 0; i < sizeof uuid.bytes; ++i) uuid.bytes[i] = static_cast<char>(0x11 * i);
  EXPECT_EQ(FormatUuid(uuid), "GPU-00112233-4455-6677-8899-aabbccddeeff");
}

}  // namespace
}  // namespace gpuroom
