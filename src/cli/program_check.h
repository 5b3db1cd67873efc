// Decides, before exec, whether CMD can be run with a preloaded library, and
// says in one sentence why not and what to do. Follows `#!` lines and `env` to
// the program that will hold the CUDA code. Files are hostile input: nothing is
// executed, sizes are checked, and only regular files are opened.
//
// What it cannot see (a program that is readable to nobody, or what a script
// starts later) passes: the check refuses only what is sure to fail.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {

struct ProgramCheck {
  Failure failure;
  std::string path;            // what to exec; set where CMD was found
  bool through_shell = false;  // neither ELF nor `#!`: run it as `/bin/sh path ...`, as execvp would
};

// `command` is CMD and its arguments, not empty.
ProgramCheck CheckProgram(const std::vector<std::string>& command);

// The program that `env ARGS...` would start, as an index into `arguments`
// (which starts after the word env), or -1 where that cannot be told.
int FindEnvTarget(const std::vector<std::string>& arguments);

}  // namespace gpuroom
