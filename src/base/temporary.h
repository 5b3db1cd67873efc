// TemporaryString: for functions that return views of the text they are given. Such a function deletes its
// overload for a temporary string, since the string ends before a loop over the views does:
//
//   std::vector<std::string_view> SplitLines(std::string_view text);
//   std::vector<std::string_view> SplitLines(TemporaryString auto&& text) = delete;
//
//   for (std::string_view line : SplitLines(Read(path)))  // does not compile
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

namespace gpuroom {

template <typename Text>
concept TemporaryString = std::same_as<std::remove_const_t<Text>, std::string>;

}  // namespace gpuroom
