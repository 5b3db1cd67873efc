// The options of each command, parsed and checked word by word: unknown
// options, malformed sizes and missing values become a Failure with one
// sentence. Looks at arguments and environment only, never at the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/limit.h"
#include "cli/doctor.h"
#include "cli/exit_codes.h"
#include "cli/share_options.h"
#include "cli/tier_options.h"

namespace gpuroom {

struct RunOptions {
  std::optional<Limit> hbm_limit;
  std::optional<uint64_t> host_limit;  // empty: auto
  bool host_limit_inherited = false;   // host_limit is an outer run's, which checked it
  std::optional<uint64_t> reserve;
  TierOptions tiers;
  ShareOptions share;
  bool control = true;
  bool plugins = true;
  bool report = false;
  std::string stats_file;
  std::string trace;           // events go to files of this name
  std::string stats_interval;  // as ParsePeriod reads it; empty: none
  bool quiet = false;
  bool dry_run = false;
  bool json = false;
  std::string sysroot;  // of a dry run: the files of another machine; empty: this one
  std::string sim;
  bool help = false;
  std::vector<std::string> command;  // CMD and its arguments
  // The programs may run on another machine or in another container (`gpuroom env`): what this machine
  // lacks is a warning, and files are not looked for here.
  bool elsewhere = false;
};

struct EnvOptions {
  RunOptions run;  // without a command
  std::string format = "sh";
};

struct DemoOptions {
  std::optional<uint64_t> hbm_limit;
  std::string sim;
  bool json = false;
  bool help = false;
};

struct BenchTiersOptions {
  std::optional<uint64_t> size;
  std::optional<uint64_t> host_limit;  // empty: auto
  int rounds = 5;
  std::string sim;
  std::string plot;  // file to draw into
  bool json = false;
  bool verbose = false;
  bool help = false;
};

struct BenchSleepOptions {
  std::vector<uint64_t> sizes;         // empty: the usual ones
  std::optional<uint64_t> host_limit;  // empty: auto
  int allocations = 200;
  int rounds = 5;
  std::string directory;  // "": disk is not measured
  std::string sim;
  std::string plot;
  bool json = false;
  bool verbose = false;
  bool help = false;
};

struct DoctorArguments {
  DoctorOptions options;
  bool help = false;
};

// `arguments` is what follows the command's name.
Failure ParseRun(const std::vector<std::string>& arguments, RunOptions* options);
Failure ParseEnv(const std::vector<std::string>& arguments, EnvOptions* options);
Failure ParseDemo(const std::vector<std::string>& arguments, DemoOptions* options);
Failure ParseBenchTiers(const std::vector<std::string>& arguments, BenchTiersOptions* options);
Failure ParseBenchSleep(const std::vector<std::string>& arguments, BenchSleepOptions* options);
Failure ParseDoctor(const std::vector<std::string>& arguments, DoctorArguments* options);

}  // namespace gpuroom
