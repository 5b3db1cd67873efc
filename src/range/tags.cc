#include "range/tags.h"

#include <deque>
#include <string>
#include <unordered_map>

#include "base/mutex.h"

namespace gpuroom {
namespace {

struct Names {
  Mutex mutex;
  std::deque<std::string> names GPUROOM_GUARDED_BY(mutex) = {""};  // by number; never moved
  std::unordered_map<std::string_view, TagId> numbers GPUROOM_GUARDED_BY(mutex) = {
      {"", kUntagged}};  // of `names`

  bool Find(std::string_view name, TagId* tag) GPUROOM_REQUIRES(mutex) {
    const auto found = numbers.find(name);
    if (found != numbers.end()) *tag = found->second;
    return found != numbers.end();
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
  tag = static_cast<TagId>(all.names.size());
  all.numbers.emplace(all.names.emplace_back(name), tag);
  return tag;
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
