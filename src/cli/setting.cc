#include "cli/setting.h"

#include <fmt/format.h>

#include <cstdlib>

namespace gpuroom {

Setting Choose(const char* option, const std::string& text, const char* variable) {
  if (!text.empty()) return {option, text, false};
  const char* inherited = std::getenv(variable);
  if (inherited == nullptr) return {};
  return {fmt::format("the environment's {}", variable), inherited, true};
}

}  // namespace gpuroom
