// What `gpuroom run` adds to CMD's environment. Pure functions over strings;
// nothing here changes this process's environment.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/limit.h"
#include "cli/installation.h"
#include "cli/share_options.h"
#include "cli/tier_options.h"

namespace gpuroom {

// What the user asked for, resolved to bytes but for parts of HBM, which each GPU resolves. An empty optional
// leaves the variable as it is, so that an outer run's choice, or the shim's default, stands.
struct Limits {
  std::optional<Limit> hbm;
  std::optional<uint64_t> host;
  std::optional<uint64_t> reserve;
  TierOptions tiers;
  ShareOptions share;
  bool control = false;  // may others ask CMD to sleep?
  bool plugins = true;   // do Python programs find the plug-ins?
  bool report = false;
  std::string stats_file;      // absolute; empty: none
  std::string trace;           // absolute; empty: none
  std::string stats_interval;  // empty: none
  std::string sim;             // profile; empty: the driver that is there
};

// LD_PRELOAD with our shim first, once, and all other entries kept in order. Runtimes of sanitizers alone go
// before it, since a program that is built with one does not start unless that comes first: those of
// `current`, and those of `libraries`, which the program is linked with.
std::string PrependPreload(std::string_view current, std::string_view shim,
                           const std::vector<std::string>& libraries);

// True where LD_PRELOAD names a shim of ours, which RemovePreload takes out.
bool PreloadsShim(std::string_view current);

// `shim`, an absolute path, as glibc's loader finds it and musl's does not: from the root folder, which it
// names as the program's own folder and many parents. musl's loader does not expand $ORIGIN in LD_PRELOAD and
// passes over what it cannot open, whereas a library for glibc would end each musl program that a child
// starts.
std::string HiddenFromMusl(std::string_view shim);

// LD_PRELOAD without any shim of ours (the entry of an outer run).
std::string RemovePreload(std::string_view current);

// A colon-separated search path with `folder` first, once.
std::string PrependPath(std::string_view current, std::string_view folder);

// A colon-separated search path with `folder` last, once.
std::string AppendPath(std::string_view current, std::string_view folder);

// The same without `folder`.
std::string RemovePath(std::string_view current, std::string_view folder);

// This process's LD_LIBRARY_PATH with the simulated driver's folder first.
std::string SimLibraryPath(const Installation& installation);

// The variables to set for CMD, which is linked with `libraries`, over those of this process.
std::map<std::string, std::string> RunVariables(const Limits& limits, const Installation& installation,
                                                const std::vector<std::string>& libraries);

// The variables of this process that CMD is not to get.
std::vector<std::string> RemovedVariables(const Limits& limits, const Installation& installation);

// This process's environment as execve wants it, with `variables` set and without those `removed`.
std::vector<std::string> MergedEnvironment(const std::map<std::string, std::string>& variables,
                                           const std::vector<std::string>& removed);

}  // namespace gpuroom
