#include "cli/setting.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace gpuroom {

Setting Choose(const char* option, const std::string& text, const char* variable) {
  if (!text.empty()) return {option, text, false};
  const char* inherited = std::getenv(variable);
  if (inherited == nullptr) return {};
  return {fmt::format("the environment's {}", variable), inherited, true};
}

Failure CheckNoVariableIsEmpty() {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("GPUROOM_") || text.find('=') != text.size() - 1) continue;
    const std::string_view name = text.substr(0, text.size() - 1);
    return {kExitUsage,
            fmt::format("the environment's {0} is empty; give it a value, or take it out with 'unset {0}'",
                        name)};
  }
  return {};
}

}  // namespace gpuroom
