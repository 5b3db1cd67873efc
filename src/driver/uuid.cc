#include "driver/uuid.h"

#include <cstdio>

namespace gpuroom {

std::string FormatUuid(const CUuuid& uuid) {
  std::string text = "GPU";
  for (size_t i = 0; i < sizeof uuid.bytes; ++i) {
    char piece[4];
    const bool begins_group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    std::snprintf(piece, sizeof piece, begins_group ? "-%02x" : "%02x",
                  static_cast<unsigned char>(uuid.bytes[i]));
    text += piece;
  }
  return text;
}

}  // namespace gpuroom
