// What the probes of two GPUs share: device 1's primary context, and a case with
// chunks of several places and access for several devices. A probe added here is
// skipped, with the reason, on a machine with one GPU.
#pragma once

#include <string>
#include <vector>

#include "probe.h"

namespace gpuroom::conformance::peer {

inline constexpr uint64_t kWords = kChunk / sizeof(uint64_t);
inline constexpr Place kOwn = Place::kDevice;
inline constexpr Place kPeer = Place::kPeer;
inline constexpr Place kNode = Place::kNode;

// Device 1's primary context, retained for the length of a probe.
class Second {
 public:
  explicit Second(Session& s);
  ~Second() { s_.cu().DevicePrimaryCtxRelease(1); }
  Second(const Second&) = delete;
  Second& operator=(const Second&) = delete;
  CUcontext context() const { return context_; }

  // Runs `action` with device 1's context current.
  template <typename Action>
  auto Do(Action action) {
    const Current current(s_, context_);
    return action();
  }

  // A kernel of device 1 fills; its result once it is through.
  CUresult Fill(CUdeviceptr p, uint64_t words, uint64_t seed);

 private:
  class Current {
   public:
    Current(Session& s, CUcontext context);
    ~Current();

   private:
    Session& s_;
  };

  Session& s_;
  CUcontext context_ = nullptr;
};

struct Case {
  explicit Case(Session& session) : s(session), second(session), scope(session) {}
  const Cuda& cu() { return s.cu(); }

  // Chunks side by side, mapped, no access yet.
  CUdeviceptr Bare(const std::vector<Place>& places);
  // Read and write access for these devices, in one call.
  CUresult Access(CUdeviceptr va, size_t chunks, const std::vector<Place>& whom);
  CUdeviceptr With(const std::vector<Place>& places, const std::vector<Place>& whom);
  CUdeviceptr AllocOnSecond(size_t bytes);
  // A kernel of device 0 fills; its result once it is through.
  CUresult Fill(CUdeviceptr p, uint64_t words, uint64_t seed);
  // Copies out with the current context and compares: "right", or what went wrong.
  std::string Out(CUdeviceptr p, uint64_t words, uint64_t seed);

  Session& s;
  Second second;
  Scope scope;  // after `second`: what is in it may live in device 1's context
};

using Body = std::function<std::string(Case&)>;

void Add(ProbeList& list, const std::string& name, Body body, Isolation isolation = Isolation::kShared);
// For what may fault: a fault poisons the context.
void AddFaulting(ProbeList& list, const std::string& name, Body body);

}  // namespace gpuroom::conformance::peer
