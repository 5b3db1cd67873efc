// `gpuroom doctor`: what is wrong here and what to do about it, and what this machine has and
// means for gpuroom. Reads files below a sysroot and, when that is this machine or a
// simulated driver was asked for, tries every driver feature rather than
// believing its attribute. Leaves nothing behind. Prints to standard output.
#pragma once

#include <string>

namespace gpuroom {

struct DoctorOptions {
  bool json = false;
  bool problems = false;  // as text: what is wrong, and nothing else
  std::string bundle;     // file for what can be sent to others (doctor_bundle.h); empty: none
  std::string sysroot;    // read this tree in place of "/"; no driver then, unless `sim` names one
  std::string sim;        // profile of the simulated driver
};

// Returns the exit status: 0 nothing failed (warnings allowed), 1 something
// did, 2 bad input (no such sysroot or profile), 3 no usable GPU or driver, or files that show no GPU.
int RunDoctor(const DoctorOptions& options);

}  // namespace gpuroom
