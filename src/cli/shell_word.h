// Words as a shell needs them typed. Pure.
#pragma once

#include <string>

namespace gpuroom {

// `word` in single quotes where a shell would take one of its characters for more than itself.
std::string ShellWord(const std::string& word);

}  // namespace gpuroom
