// A setting of `headroom run`: its option where that was given, else the variable
// that an outer run or the user set. Errors name the one that it came from.
#pragma once

#include <string>

namespace headroom {

struct Setting {
  std::string source;  // "--hbm-limit", or "the environment's HEADROOM_HBM_LIMIT"
  std::string text;    // empty: neither was given
  bool inherited = false;
};

Setting Choose(const char* option, const std::string& text, const char* variable);

}  // namespace headroom
