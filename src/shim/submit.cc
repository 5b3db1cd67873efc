#include "shim/submit.h"

#include <algorithm>

#include "base/log.h"
#include "runtime/runtime.h"
#include "shim/hooks.h"
#include "shim/real.h"
#include "tier/slow_memory.h"

namespace gpuroom {
namespace {

const char* const kSymbols[] = {
#define GPUROOM_SUBMIT(name, symbol, type, since, stream) #symbol,
#include "shim/submit.def"
};

// The driver's own functions; null for one that this driver lacks.
void* const* RealSubmits() {
  static void* real[kSubmitCount];
  static const bool filled = [] {
    for (int i = 0; i < kSubmitCount; ++i) real[i] = DriverSymbol(kSymbols[i]);
    return true;
  }();
  (void)filled;
  return real;
}

// Whether an argument leads to memory that is asleep.
template <typename Argument>
bool LeadsToSleep(Argument) {
  return false;
}
bool LeadsToSleep(CUdeviceptr address) { return Runtime::Existing()->IsAsleep(address); }

template <typename Copy>
bool EndsAsleep(const Copy* copy) {
  const auto asleep = [](CUmemorytype type, CUdeviceptr address) {
    return (type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED) && LeadsToSleep(address);
  };
  return copy != nullptr &&
         (asleep(copy->srcMemoryType, copy->srcDevice) || asleep(copy->dstMemoryType, copy->dstDevice));
}
bool LeadsToSleep(const CUDA_MEMCPY2D* copy) { return EndsAsleep(copy); }
bool LeadsToSleep(const CUDA_MEMCPY3D* copy) { return EndsAsleep(copy); }
bool LeadsToSleep(const CUDA_MEMCPY3D_PEER* copy) { return EndsAsleep(copy); }

// One line for each sleep.
void LogRefusal(const char* symbol, Hold hold) {
  static std::atomic<uint32_t> told{0};
  const uint32_t now = Gate::holds();
  if (told.exchange(now, std::memory_order_relaxed) == now) return;
  Log(LogLevel::kWarn, "%s fails in CUDA_ERROR_ILLEGAL_STATE: %s; wake it first (gpuroom wake)", symbol,
      hold == Hold::kFail ? "memory is asleep" : "its memory is asleep");
}

// CUDA_SUCCESS, or what is submitted is refused with this: while memory sleeps, or once some is lost.
template <typename... Arguments>
__attribute__((noinline)) CUresult Refusal(Hold hold, const char* symbol, Arguments... arguments) {
  if (hold == Hold::kLost) return CUDA_ERROR_OUT_OF_MEMORY;  // the line that says why was written then
  const bool refused = hold == Hold::kFail || (LeadsToSleep(arguments) || ...);
  if (!refused) return CUDA_SUCCESS;
  LogRefusal(symbol, hold);
  return CUDA_ERROR_ILLEGAL_STATE;
}

template <typename... Arguments>
CUresult Forward(CUresult (*real)(Arguments...), Arguments... arguments) {
  return real(arguments...);
}

// A launch may ask to begin while the kernel before it in its stream still runs (programmatic dependent
// launch). Some kernels then read too early what that one writes; CUB's merge sort of CUDA 13.0 is
// known to (docs/driver-notes.md). That goes well where memory is fast and ends in illegal addresses where
// some of it is not. So while the process has memory outside HBM the wish is not passed on: it is only a
// hint, and such a launch begins when the kernel before it has ended, as all others do.
CUresult Forward(CUresult (*real)(const CUlaunchConfig*, CUfunction, void**, void**),
                 const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  constexpr unsigned kMostAttributes = 32;  // CUDA 13 has some twenty kinds
  const auto begins_early = [](const CUlaunchAttribute& attribute) {
    return attribute.id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  };
  const unsigned count = config != nullptr && config->attrs != nullptr ? config->numAttrs : 0;
  const bool wished =
      count <= kMostAttributes && std::any_of(config->attrs, config->attrs + count, begins_early);
  if (!wished || !SlowMemory::Any()) return real(config, function, parameters, extra);
  CUlaunchAttribute kept[kMostAttributes];
  CUlaunchConfig plain = *config;
  plain.attrs = kept;
  plain.numAttrs = static_cast<unsigned>(
      std::remove_copy_if(config->attrs, config->attrs + count, kept, begins_early) - kept);
  return real(&plain, function, parameters, extra);
}

template <int kIndex, typename Function>
struct Submit;

template <int kIndex, typename... Arguments>
struct Submit<kIndex, CUresult (*)(Arguments...)> {
  static CUresult Hook(Arguments... arguments) {
    try {
      const auto real = reinterpret_cast<CUresult (*)(Arguments...)>(RealSubmits()[kIndex]);
      if (real == nullptr) return CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND;
      const Submission submission;
      if (submission.hold() != Hold::kNone) {
        const CUresult refusal = Refusal(submission.hold(), kSymbols[kIndex], arguments...);
        if (refusal != CUDA_SUCCESS) return refusal;
      }
      return Forward(real, arguments...);
    } catch (const std::exception& error) {
      return ResultOfException(error);
    }
  }
};

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" void* const gpuroom_submit_hooks[kSubmitCount] = {
#define GPUROOM_SUBMIT(name, symbol, type, since, stream) \
  reinterpret_cast<void*>(&Submit<kSubmit_##symbol, type>::Hook),
#include "shim/submit.def"
};
