// `gpuroom env`: prints the variables that `gpuroom run` would set, in the form in which another program
// takes them: a shell, a container engine, Kubernetes, Ray or Slurm. That program then starts processes which
// are under gpuroom. Runs nothing, and asks no driver but a simulated one.
#pragma once

#include <string>
#include <vector>

namespace gpuroom {

// The command: `arguments` follow the word env. Returns an exit status.
int EnvCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
