// Decides, before exec, whether CMD can be run with a preloaded library, and
// says in one sentence why not and what to do. Follows `#!` lines and launchers
// such as `env` to the program that will hold the CUDA code. Files are hostile
// input: nothing is executed, sizes are checked, and only regular files are opened.
//
// What it cannot see (a program that is readable to nobody, or what a script
// starts later) passes: the check refuses only what is sure to fail.
#pragma once

#include <string>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {

struct ProgramCheck {
  Failure failure;
  std::string path;            // what to exec; set where CMD was found
  bool through_shell = false;  // neither ELF nor `#!`: run it as `/bin/sh path ...`, as execvp would
  // What runs, but otherwise than one would think: sentences.
  std::vector<std::string> warnings;
  // Of the last program that was found on the way, as far as it can be read: itself, its loader, and the
  // libraries that it is linked with.
  std::string program;
  std::string loader;
  std::vector<std::string> libraries;
};

// `command` is CMD and its arguments, not empty.
ProgramCheck CheckProgram(const std::vector<std::string>& command);

// kExitCannotRun where the C library of the program that was found lacks versions that `library`
// (libgpuroom.so) needs: its loader would refuse to start the program. What cannot be read passes.
Failure CheckLibc(const ProgramCheck& check, const std::string& library);

}  // namespace gpuroom
