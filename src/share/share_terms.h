// What a program that shares its GPUs asked for (gpuroom run --share-...), as text and from its environment.
#pragma once

#include <optional>
#include <string_view>

#include "arbiter/share_table.h"

namespace gpuroom {

// Of "batch", "normal" and "interactive"; nothing for other words.
std::optional<SharePriority> ParseSharePriority(std::string_view text);

// By the variables of base/env.h. What cannot be read is left at its default, with a line in the log.
ShareTerms ReadShareTerms();

}  // namespace gpuroom
