// Runs another program to its end, with files for its input and output.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// Descriptors for the program; -1: this process's own.
struct ChildFiles {
  int input = -1;
  int output = -1;
  int errors = -1;
};

// Runs `words`, the first looked up in PATH. Returns its exit status; -1: it could not be started, or a
// signal ended it.
int RunChild(std::vector<std::string> words, const ChildFiles& files);

// A file of that text without a name, to be read from its start; -1 and errno.
int UnnamedFile(const std::string& text);

// All of a file, from its start.
std::string ReadFromStart(int fd);

}  // namespace gpuroom
