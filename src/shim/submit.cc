#include "shim/submit.h"

#include "base/log.h"
#include "runtime/runtime.h"
#include "shim/hooks.h"
#include "shim/real.h"

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

// What is submitted while memory sleeps.
template <typename... Arguments>
__attribute__((noinline)) bool Refused(Hold hold, const char* symbol, Arguments... arguments) {
  const bool refused = hold == Hold::kFail || (LeadsToSleep(arguments) || ...);
  if (refused) LogRefusal(symbol, hold);
  return refused;
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
      if (submission.hold() != Hold::kNone && Refused(submission.hold(), kSymbols[kIndex], arguments...))
        return CUDA_ERROR_ILLEGAL_STATE;
      return real(arguments...);
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
