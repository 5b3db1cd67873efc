// A machine in JSON, which `plan --machine FILE` reads.
#include <string>

#include "cli/plan_machine.h"
#include "fuzz.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gpuroom::PlanMachine machine;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const gpuroom::Failure failure = gpuroom::ParseMachineFile("machine.json", text, &machine);
  Require(failure.failed() || gpuroom::ArePlausible(machine.speeds), "a machine's speeds are plausible");
  Require(failure.failed() || (machine.gpus >= 1 && machine.hbm > 0), "a machine has a GPU with memory");
  return 0;
}
