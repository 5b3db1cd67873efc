// Why the CUDA driver cannot be used here, and what helps. That depends on what the driver said, on which
// libcuda.so.1 the loader took and what led it there, on the kernel driver's version, and on the variables
// that hide GPUs. Reads the environment; changes nothing. Any thread.
#pragma once

#include <string>

#include "base/status.h"
#include "driver/driver.h"
#include "topology/nvidia_files.h"

namespace gpuroom {

// The libcuda.so.1 that the loader finds for this process.
struct DriverLibrary {
  std::string path;     // empty: none can be loaded
  std::string version;  // "580.95.05", from the name of the file behind it; empty: the name has none
  std::string source;   // what led the loader there: "LD_PRELOAD", "LD_LIBRARY_PATH", or a file of ld.so's
                        // configuration; empty: its own search path
  std::string failure;  // the loader's words, where `path` is empty
};

DriverLibrary FindDriverLibrary();

// "LD_LIBRARY_PATH led the loader there."
std::string DescribeSource(const DriverLibrary& library);

struct DriverProblem {
  std::string what;  // a clause without a full stop
  std::string fix;   // what to do, as a clause
};

// `status` is of BindDriver or ReadGpus; `library` and `kernel` are what was found beside it.
DriverProblem ExplainDriver(const Status& status, const DriverLibrary& library, const NvidiaFiles& kernel);
// The same of this process and this machine.
DriverProblem ExplainDriver(const Status& status);

// What helps where the context of GPU `ordinal` cannot be had. `compute_mode` is a CUcomputemode, or -1 where
// the driver does not tell it. "": nothing particular is known of `result`.
std::string FixForContext(CUresult result, int compute_mode, int ordinal);

}  // namespace gpuroom
