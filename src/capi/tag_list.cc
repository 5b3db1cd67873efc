#include "capi/tag_list.h"

#include <cstdio>
#include <memory>
#include <new>

namespace gpuroom {

Status UnknownTag(const char* tag) {
  constexpr size_t kMostText = 128;
  // Made on the first use: what is thread-local takes room in every thread of every process.
  static thread_local std::unique_ptr<char[]> text;
  if (text == nullptr) text.reset(new (std::nothrow) char[kMostText]);
  if (text == nullptr) return Status(Code::kNotFound, "no memory has had one of the tags");
  std::snprintf(text.get(), kMostText, "no memory has had the tag '%.64s'", tag);
  return Status(Code::kNotFound, text.get());
}

Status ReadTagList(const char* const* tags, size_t count, std::vector<TagId>* out) {
  if (tags == nullptr && count > 0) return Status(Code::kInvalidArgument, "the list of tags is null");
  for (size_t i = 0; i < count; ++i) {
    if (tags[i] == nullptr) return Status(Code::kInvalidArgument, "a tag is null");
    TagId tag = kUntagged;
    if (!FindTag(tags[i], &tag)) return UnknownTag(tags[i]);
    out->push_back(tag);
  }
  return Status();
}

}  // namespace gpuroom
