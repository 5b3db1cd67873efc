// Machine: the tiers of one GPU as the measurements need them: its own memory, the
// host node that is nearest, and every peer that it can reach, each as a tier of
// the core, with a source and a builder of ranges over them. One thread.
#pragma once

#include <memory>
#include <vector>

#include "measure/session.h"
#include "measure/shares.h"
#include "range/range.h"
#include "topology/gpu.h"

namespace gpuroom::measure {

class Machine {
 public:
  // `gpus` as ReadGpus gave them; `gpu` is the one that is measured, and `session`
  // its. At most `host_limit` bytes of host memory are taken, in the node's ledger
  // where there is one. All outlive this.
  Machine(Session& session, const std::vector<Gpu>& gpus, const Gpu& gpu, uint64_t host_limit);

  // The GPU's own memory that is free now, less what kernels and libraries need.
  uint64_t DeviceFree() const;
  // Of the limit, what no process has claimed. 0: this GPU's memory is the host's.
  uint64_t HostFree();
  // The peers that the GPU can reach, the fastest by the driver's word first.
  const std::vector<int>& peers() const { return peer_ordinals_; }

  // A range of `bytes` placed by `plan`. kOutOfMemory when a tier has less than that.
  Result<std::unique_ptr<Range>> Build(const Plan& plan, uint64_t bytes);
  // Gives it back, and the host chunks that it left behind.
  void Discard(std::unique_ptr<Range> range);

  // How fast kernels read and write a range of `bytes` placed by `plan`.
  // Fails as Build does.
  Result<Speeds> MeasurePlan(const Plan& plan, uint64_t bytes, int rounds);

  Session& session() { return session_; }
  ChunkSource& source() { return source_; }
  HostTier& host() { return host_; }
  const Gpu& gpu() const { return gpu_; }

 private:
  void AddPeers(const std::vector<Gpu>& gpus);

  Session& session_;
  const Gpu& gpu_;
  std::unique_ptr<Ledger> ledger_;
  HostShare share_;
  DeviceTier device_;
  HostTier host_;
  std::vector<int> peer_ordinals_;
  std::vector<std::unique_ptr<DeviceTier>> owners_;
  std::vector<std::unique_ptr<PeerTier>> peers_;
  ChunkSource source_;
  RangeBuilder builder_;
};

}  // namespace gpuroom::measure
