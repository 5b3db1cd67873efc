// A setting of `gpuroom run`: its option where that was given, else the variable
// that an outer run or the user set. Errors name the one that it came from.
#pragma once

#include <string>

namespace gpuroom {

struct Setting {
  std::string source;  // "--hbm-limit", or "the environment's GPUROOM_HBM_LIMIT"
  std::string text;    // empty: neither was given
  bool inherited = false;
};

Setting Choose(const char* option, const std::string& text, const char* variable);

}  // namespace gpuroom
