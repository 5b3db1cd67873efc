// Tags by name, as callers of the C functions give them.
#pragma once

#include <cstddef>
#include <vector>

#include "base/status.h"
#include "range/tags.h"

namespace gpuroom {

// kNotFound for a name that no memory has had, with a sentence that lives until this thread's next one.
Status UnknownTag(const char* tag);
// Appends the tags' numbers to *out. kInvalidArgument: the list or a name is null.
Status ReadTagList(const char* const* tags, size_t count, std::vector<TagId>* out);

}  // namespace gpuroom
