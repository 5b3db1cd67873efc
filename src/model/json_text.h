// JSON of files that nobody should trust: parsed with a bound on nesting, and numbers taken out of it with a
// bound on their size. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "model/model.h"

namespace gpuroom::model {

using Json = nlohmann::json;

// A whole document into *out. It may be nested 32 levels deep: copying and printing one call themselves once
// a level.
Mistake ParseJson(std::string_view text, Json* out);

// The value of `key`; null where `object` is no object, or has no such key, or null there.
const Json* Find(const Json& object, std::string_view key);

// The whole number from 0 to 2^40 that `key` has; nullopt where it is missing or anything else.
std::optional<uint64_t> FindNumber(const Json& object, std::string_view key);
// The text that `key` has; empty where it is missing or no text.
std::string FindText(const Json& object, std::string_view key);
// Whether `key` is there and true.
bool FindFlag(const Json& object, std::string_view key, bool otherwise = false);

}  // namespace gpuroom::model
