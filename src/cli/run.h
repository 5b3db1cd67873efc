// `gpuroom run`: resolves the limits, checks what can be known to fail, and
// becomes CMD with the shim preloaded. There is no supervisor: exit status,
// signals and terminal are CMD's own.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cli/environment.h"
#include "cli/exit_codes.h"
#include "cli/link_choice.h"
#include "cli/options.h"
#include "cli/program_check.h"
#include "topology/host_budget.h"

namespace gpuroom {

// Everything that is decided before CMD starts.
struct RunPlan {
  Installation installation;
  Limits limits;
  std::string sysroot;  // of a dry run: where the machine's files are; empty: this machine
  HostBudget budget;    // of that machine; filled in where the host limit is to be chosen or checked
  bool host_auto = false;
  LinkChoice links;
  ProgramCheck program;
  std::vector<std::string> command;
  std::map<std::string, std::string> variables;  // to set for CMD
  std::vector<std::string> removed;              // variables that CMD does not get
};

// Checks all but the driver; without a command in `options`, also all but CMD. Changes nothing, but for
// creating an absent stats file when this is not a dry run.
Failure MakeRunPlan(const RunOptions& options, RunPlan* plan);

// Says on standard error what runs, but otherwise than one would think. Once nothing is left to refuse.
void WarnOfProgram(const RunPlan& plan);

// Says so on standard error where --host-limit auto found no host memory to offer.
void WarnOfNothingToSpare(const RunPlan& plan);

// The host memory that a run offers, and why so much.
std::string DescribeHost(const RunPlan& plan);

// One line on standard error: what CMD is offered, why, and what changes it.
void SayWhatIsOffered(const RunPlan& plan);

// Checks the driver, and the profile of a simulated one, without creating a
// context. Loads the simulated driver into this process.
Failure CheckRunDriver(const RunPlan& plan);

// Becomes CMD. Returns only when exec failed.
Failure Execute(const RunPlan& plan);

// The command: `arguments` follow the word run. Returns an exit status, or does
// not return.
int RunCommand(const std::vector<std::string>& arguments);

}  // namespace gpuroom
