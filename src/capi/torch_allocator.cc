#include "gpuroom/torch_allocator.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include "base/log.h"
#include "base/size.h"
#include "capi/allocate.h"
#include "capi/answer.h"
#include "capi/pools.h"
#include "runtime/intent.h"

namespace gpuroom {
namespace {

CUdeviceptr AddressOf(void* address) { return reinterpret_cast<CUdeviceptr>(address); }
void* PointerOf(CUdeviceptr address) { return reinterpret_cast<void*>(address); }  // NOLINT

// The thread asks for managed memory while one lives.
class WantManaged {
 public:
  WantManaged() : before_(IntentOfThread().backend) { IntentOfThread().backend = Backend::kManaged; }
  ~WantManaged() { IntentOfThread().backend = before_; }
  WantManaged(const WantManaged&) = delete;
  WantManaged& operator=(const WantManaged&) = delete;

 private:
  const std::optional<Backend> before_;
};

void* SegmentOn(int device, ssize_t bytes) {
  if (bytes <= 0) return nullptr;
  const Result<CUdeviceptr> made =
      AllocateOn(device, static_cast<uint64_t>(bytes), SegmentSource::Where::kAny);
  return made.ok() ? PointerOf(*made) : nullptr;
}

void FreeSegmentOn(int device, void* address) {
  if (address == nullptr) return;
  const Status status = FreeOn(device, AddressOf(address));
  // In a forked child nothing can be given back, and there is nothing to tell.
  if (!status.ok() && status.code() != Code::kUnsupported)
    Log(LogLevel::kWarn, "memory could not be given back: %s", status.what());
}

// What an exception says.
using Text = char[256];

void DescribeOutOfMemory(uint64_t bytes, int device, const Pool& pool, Text& text) {
  const PoolStats stats = pool.Stats();
  std::snprintf(
      text, sizeof text,
      "CUDA out of memory. gpuroom could not allocate %s on GPU %d: %s are allocated and %s reserved, "
      "in HBM and the other tiers together",
      FormatSize(bytes).c_str(), device, FormatSize(stats.allocated).c_str(),
      FormatSize(stats.reserved).c_str());
}

void DescribeFailure(uint64_t bytes, int device, const Status& status, Text& text) {
  const int length = std::snprintf(text, sizeof text, "gpuroom could not allocate %s on GPU %d: %s",
                                   FormatSize(bytes).c_str(), device, status.what());
  const auto begin = static_cast<size_t>(std::max(length, 0));
  if (status.code() != Code::kDriver || begin >= sizeof text) return;
  std::snprintf(text + begin, sizeof text - begin, " failed with %s (%d)",
                ErrorName(static_cast<CUresult>(status.native())), status.native());
}

// From the pool of a device; null: `text` says why there is none.
__attribute__((noinline)) void* FromPool(uint64_t bytes, int device, CUstream stream, Text& text) noexcept
    try {
  const Result<Pool*> pool = PoolOf(device);
  if (!pool.ok()) {
    DescribeFailure(bytes, device, pool.status(), text);
    return nullptr;
  }
  const Result<CUdeviceptr> made = (*pool)->Allocate(bytes, stream);
  if (made.ok()) return PointerOf(*made);
  if (made.status().code() == Code::kOutOfMemory) {
    DescribeOutOfMemory(bytes, device, **pool, text);
  } else {
    DescribeFailure(bytes, device, made.status(), text);
  }
  return nullptr;
} catch (const std::exception& error) {
  AnswerException(error);
  std::snprintf(text, sizeof text, "CUDA out of memory. gpuroom has no host memory for its own records");
  return nullptr;
}

// Throws, by the C++ runtime that the program uses, which is not the one inside this library. Returns
// where it finds none. Neither this nor its caller may have anything to destroy by then: their
// unwinding would mix two runtimes.
__attribute__((noinline)) void ThrowRuntimeError(const char* text) {
  using Throw = void (*)(const char*);
  // Loaded by PyTorch, but in Python not in the global scope.
  void* runtime = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (runtime == nullptr) return;
  const auto raise = reinterpret_cast<Throw>(dlsym(runtime, "_ZSt21__throw_runtime_errorPKc"));
  if (raise != nullptr) raise(text);
}

// A view of the device's memory as the program is told of it, for the fraction of it.
uint64_t TotalOf(int device) {
  const Entry rt(true);
  DeviceState* state = rt ? rt->Device(device) : nullptr;
  size_t bytes = 0;
  if (state == nullptr || rt->driver.DeviceTotalMem(&bytes, device) != CUDA_SUCCESS) return 0;
  return state->VisibleTotal(bytes);
}

}  // namespace
}  // namespace gpuroom

using namespace gpuroom;

extern "C" {
#pragma GCC visibility push(default)

void* gpuroom_torch_malloc(ssize_t bytes, int device, CUstream_st* stream) {
  if (bytes <= 0) return nullptr;
  Text text;
  void* made = FromPool(static_cast<uint64_t>(bytes), device, stream, text);
  if (made == nullptr) ThrowRuntimeError(text);
  return made;
}

void gpuroom_torch_free(void* address, ssize_t, int device, CUstream_st* stream) try {
  Pool* pool = address == nullptr ? nullptr : ExistingPool(device);
  if (pool == nullptr) return;
  const Status status = pool->Free(AddressOf(address), stream);
  if (!status.ok()) Log(LogLevel::kWarn, "memory could not be given back: %s", status.what());
} catch (const std::exception& error) {
  AnswerException(error);
}

void* gpuroom_segment_malloc(ssize_t bytes, int device, CUstream_st*) try {
  return SegmentOn(device, bytes);
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void gpuroom_segment_free(void* address, ssize_t, int device, CUstream_st*) try {
  FreeSegmentOn(device, address);
} catch (const std::exception& error) {
  AnswerException(error);
}

void* gpuroom_managed_malloc(ssize_t bytes, int device, CUstream_st*) try {
  const WantManaged managed;
  return SegmentOn(device, bytes);
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void gpuroom_managed_free(void* address, ssize_t, int device, CUstream_st*) try {
  FreeSegmentOn(device, address);
} catch (const std::exception& error) {
  AnswerException(error);
}

void gpuroom_torch_init(int) {}

void gpuroom_torch_reset(void) try {
  for (int device = 0; device < Runtime::kMaxDevices; ++device) {
    if (Pool* pool = ExistingPool(device)) pool->Trim();
  }
} catch (const std::exception& error) {
  AnswerException(error);
}

void gpuroom_torch_memory_fraction(double fraction, int device) try {
  const Result<Pool*> pool = PoolOf(device);
  const uint64_t total = TotalOf(device);
  if (!pool.ok() || total == 0 || !(fraction >= 0)) return;
  (*pool)->SetLimit(fraction >= 1 ? UINT64_MAX
                                  : static_cast<uint64_t>(fraction * static_cast<double>(total)));
} catch (const std::exception& error) {
  AnswerException(error);
}

void* gpuroom_torch_base_alloc(void* address, size_t* bytes) try {
  for (int device = 0; device < Runtime::kMaxDevices; ++device) {
    const Pool* pool = ExistingPool(device);
    CUdeviceptr base = 0;
    uint64_t size = 0;
    if (pool == nullptr || !pool->Find(AddressOf(address), &base, &size)) continue;
    if (bytes != nullptr) *bytes = size;
    return PointerOf(base);
  }
  return nullptr;
} catch (const std::exception& error) {
  AnswerException(error);
  return nullptr;
}

void gpuroom_torch_record_stream(void* address, CUstream_st* stream) try {
  for (int device = 0; device < Runtime::kMaxDevices; ++device) {
    Pool* pool = ExistingPool(device);
    if (pool != nullptr && pool->RecordStream(AddressOf(address), stream).ok()) return;
  }
} catch (const std::exception& error) {
  AnswerException(error);
}

void gpuroom_torch_begin_allocate_to_pool(int device, gpuroom_mempool_id id,
                                          std::function<bool(CUstream_st*)> filter) try {
  const Result<Pool*> pool = PoolOf(device);
  if (pool.ok()) (*pool)->BeginAllocateTo({id.first, id.second}, std::move(filter));
} catch (const std::exception& error) {
  AnswerException(error);
}

void gpuroom_torch_end_allocate_to_pool(int device, gpuroom_mempool_id id) try {
  if (Pool* pool = ExistingPool(device)) pool->EndAllocateTo({id.first, id.second});
} catch (const std::exception& error) {
  AnswerException(error);
}

void gpuroom_torch_release_pool(int device, gpuroom_mempool_id id) try {
  if (Pool* pool = ExistingPool(device)) pool->ReleasePool({id.first, id.second});
} catch (const std::exception& error) {
  AnswerException(error);
}

#pragma GCC visibility pop
}  // extern "C"
