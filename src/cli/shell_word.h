// A word as it has to be typed into a shell. Pure.
#pragma once

#include <string>

namespace gpuroom {

std::string ShellWord(const std::string& word);

}  // namespace gpuroom
