#include "cumem/chunk_size.h"

#include <cctype>
#include <cerrno>
#include <cstdlib>

#include "base/log.h"
#include "base/size.h"

namespace gpuroom::cumem {
namespace {

constexpr char kVariable[] = "VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE";
// 2^63 bytes and more are no size.
constexpr uint64_t kMostMegabytes = (uint64_t{1} << 43) - 1;

}  // namespace

bool ParseChunkSize(const char* text, uint64_t* bytes) {
  *bytes = kDefaultChunkBytes;
  if (text == nullptr || *text == 0) return true;
  // strtoull takes a sign and leading spaces.
  if (std::isdigit(static_cast<unsigned char>(*text)) == 0) return false;
  const bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
  char* end = nullptr;
  errno = 0;
  const uint64_t megabytes = std::strtoull(text, &end, hexadecimal ? 16 : 10);
  if (errno != 0 || *end != 0 || megabytes == 0 || megabytes > kMostMegabytes) return false;
  *bytes = megabytes * kMiB;
  return true;
}

uint64_t ChunkBytesFromEnvironment() {
  uint64_t bytes = 0;
  const char* text = std::getenv(kVariable);
  if (!ParseChunkSize(text, &bytes)) {
    Log(LogLevel::kWarn, "%s is '%.40s'; write a number of MB above 0, such as 256, which is used now",
        kVariable, text);
  }
  return bytes;
}

}  // namespace gpuroom::cumem
