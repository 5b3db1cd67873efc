#include "share/share_place.h"

#include <algorithm>

#include "sleep/control_directory.h"

namespace gpuroom {

bool IsShareGroup(const std::string& group) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !group.empty() && group.size() <= 32 && std::all_of(group.begin(), group.end(), allowed);
}

Result<SharePlace> FindSharePlace(const std::string& group) {
  Status first;
  for (const std::string& folder : ControlDirectories()) {
    const Status made = MakeControlDirectory(folder);
    std::string base = folder;
    base.append("/share-").append(group);
    if (made.ok()) return SharePlace{base + ".socket", base + ".lock", base + ".grants"};
    if (first.ok()) first = made;
  }
  return first;
}

}  // namespace gpuroom
