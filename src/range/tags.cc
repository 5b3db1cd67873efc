#include "range/tags.h"

#include <deque>
#include <string>

#include "base/mutex.h"

namespace gpuroom {
namespace {

struct Names {
  Mutex mutex;
  std::deque<std::string> names GPUROOM_GUARDED_BY(mutex) = {""};  // by number; never moved

  bool Find(std::string_view name, TagId* tag) GPUROOM_REQUIRES(mutex) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] != name) continue;
      *tag = static_cast<TagId>(i);
      return true;
    }
    return false;
  }
};

Names& All() {
  static Names* names = new Names;  // used until the very end
  return *names;
}

}  // namespace

TagId TagOf(std::string_view name) {
  if (name.empty()) return kUntagged;
  Names& all = All();
  MutexLock lock(all.mutex);
  TagId tag = kUntagged;
  if (all.Find(name, &tag) || all.names.size() > UINT16_MAX) return tag;
  all.names.emplace_back(name);
  return static_cast<TagId>(all.names.size() - 1);
}

bool FindTag(std::string_view name, TagId* tag) {
  Names& all = All();
  MutexLock lock(all.mutex);
  return all.Find(name, tag);
}

const char* TagName(TagId tag) {
  Names& all = All();
  MutexLock lock(all.mutex);
  return tag < all.names.size() ? all.names[tag].c_str() : "";
}

}  // namespace gpuroom
