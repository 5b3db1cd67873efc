// What `gpuroom top` shows at one moment: the GPUs with what the processes under gpuroom have in each tier,
// the node's host memory, and the processes themselves. A plain value, made by a pure function.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/gpu_preview.h"
#include "cli/link_cache.h"
#include "cli/process_rows.h"

namespace gpuroom {

// What is known of this machine's GPUs beside what the processes tell: asked once.
struct TopMachine {
  std::vector<GpuPreview::Gpu> gpus;  // none where the driver cannot be asked
  LinkCache links;                    // what `gpuroom bench tiers` measured
  std::string driver;                 // whose measurements count
};

TopMachine ReadTopMachine();

struct TopGpu {
  std::string uuid;
  std::string name;        // "": not known
  uint64_t hbm_total = 0;  // bytes, as the next ones. Of a GPU that is not known: the largest limit
  uint64_t hbm_used = 0;   // by all processes under gpuroom
  uint64_t peer_used = 0;  // HBM of other GPUs
  uint64_t host_used = 0;
  uint64_t managed_used = 0;
  uint64_t link_speed = 0;  // bytes per second at which it reads host memory, as measured; 0: not known
  size_t processes = 0;
};

struct TopSnapshot {
  double seconds = 0;        // of a clock that only runs forward, for rates
  std::vector<TopGpu> gpus;  // in the driver's order, then those that processes alone know
  uint64_t host_limit = 0;   // bytes that the node's processes may use together
  uint64_t host_used = 0;    // of these, in use by processes that were asked
  uint64_t host_unclaimed = 0;
  std::vector<ProcessRow> processes;
};

TopSnapshot MakeTopSnapshot(const TopMachine& machine, std::vector<ProcessRow> rows, double seconds);

// Bytes of a process that are in host memory or a file while it sleeps, or were dropped.
uint64_t AsleepBytes(const ProcessRow& row);

// Sentences on host memory that lies on another NUMA node than the one next to the GPU, one for each process
// and GPU.
std::vector<std::string> MisplacedSentences(const ProcessRow& row);
// On the last request of a process that was refused; "": there was none.
std::string RefusalSentence(const ProcessRow& row);

}  // namespace gpuroom
