// The operations on an AMD GPU, by HIP's calls of the same meaning. Physical memory comes in chunks:
// hipMemCreate of much at once fails where as much is free, but not in one piece.
#include <dlfcn.h>

#include <cstdio>
#include <initializer_list>

#include "cumem/chunk_size.h"
#include "cumem/operations.h"

namespace gpuroom::cumem {
namespace {

// hipMemAllocationTypePinned, hipMemLocationTypeDevice, hipMemAllocationGranularityMinimum,
// hipMemAccessFlagsProtReadWrite, and results.
constexpr int kPinned = 1;
constexpr int kLocationDevice = 1;
constexpr int kMinimum = 0;
constexpr int kReadWrite = 3;
constexpr int kInvalidDevice = 101;
constexpr int kFirstCapture = 900;
constexpr int kLastCapture = 908;

struct HipLocation {
  int type = kLocationDevice;
  int id = 0;
};

struct HipMemProp {
  int type = kPinned;
  int handle_type = 0;  // none
  HipLocation location;
  void* win32 = nullptr;
  struct {
    unsigned char compression = 0;
    unsigned char rdma = 0;
    unsigned short usage = 0;
  } flags;
};
static_assert(sizeof(HipMemProp) == 32);

struct HipAccess {
  HipLocation location;
  int flags = kReadWrite;
};
static_assert(sizeof(HipAccess) == 12);

struct Hip {
#define GPUROOM_HIP_FUNCTION(name, result, arguments) result(*name) arguments = nullptr;
#include "cumem/hip_functions.def"
};

void* Pointer(uint64_t va) { return reinterpret_cast<void*>(va); }  // NOLINT

class HipOperations : public Operations {
 public:
  explicit HipOperations(const Hip& hip) : hip_(hip), chunk_bytes_(ChunkBytesFromEnvironment()) {}

  const char* prefix() const override { return "hipMem"; }
  uint64_t chunk_bytes() const override { return chunk_bytes_; }
  bool aligns() const override { return true; }
  bool IsCapture(int code) const override { return code >= kFirstCapture && code <= kLastCapture; }
  const char* Text(int code) const override {
    const char* text = hip_.hipGetErrorString(code);
    return text != nullptr ? text : "another HIP error";
  }

  // HIP's runtime gives every thread a context by itself.
  int Enter(int device) override { return device < 0 ? kInvalidDevice : 0; }
  int Drain(int device) override;
  int Granularity(int device, size_t* bytes) override {
    const HipMemProp prop = Properties(device);
    return hip_.hipMemGetAllocationGranularity(bytes, &prop, kMinimum);
  }
  int Reserve(uint64_t* va, size_t bytes, size_t alignment) override {
    void* address = nullptr;
    const int result = hip_.hipMemAddressReserve(&address, bytes, alignment, nullptr, 0);
    *va = reinterpret_cast<uint64_t>(address);
    return result;
  }
  int FreeAddress(uint64_t va, size_t bytes) override { return hip_.hipMemAddressFree(Pointer(va), bytes); }
  int Create(int device, size_t bytes, uint64_t* handle) override {
    const HipMemProp prop = Properties(device);
    void* made = nullptr;
    const int result = hip_.hipMemCreate(&made, bytes, &prop, 0);
    if (result == 0) *handle = reinterpret_cast<uint64_t>(made);
    return result;
  }
  int Release(uint64_t handle) override { return hip_.hipMemRelease(Pointer(handle)); }
  int Map(uint64_t va, size_t bytes, uint64_t handle) override {
    return hip_.hipMemMap(Pointer(va), bytes, 0, Pointer(handle), 0);
  }
  int Unmap(uint64_t va, size_t bytes) override { return hip_.hipMemUnmap(Pointer(va), bytes); }
  int SetAccess(int device, uint64_t va, size_t bytes) override {
    HipAccess access;
    access.location.id = device;
    return hip_.hipMemSetAccess(Pointer(va), bytes, &access, 1);
  }

 private:
  static HipMemProp Properties(int device) {
    HipMemProp prop;
    prop.location.id = device;
    return prop;
  }

  const Hip hip_;
  const uint64_t chunk_bytes_;
};

int HipOperations::Drain(int device) {
  int before = 0;
  int result = hip_.hipGetDevice(&before);
  if (result != 0) return result;
  if (before != device) result = hip_.hipSetDevice(device);
  if (result != 0) return result;
  result = hip_.hipDeviceSynchronize();
  if (before != device) hip_.hipSetDevice(before);
  return result;
}

// The one that the program has loaded already, which need not be the newest; else the newest.
void* OpenHip() {
  constexpr const char* kNames[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5",
                                    "libamdhip64.so"};
  for (const int loaded : {RTLD_NOLOAD, 0}) {
    for (const char* name : kNames) {
      if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL | loaded)) return library;
    }
  }
  return nullptr;
}

// The first name that is missing, or null.
const char* BindAll(void* library, Hip* hip) {
  const char* missing = nullptr;
  // A HIP function may have a newer version beside it, but none of these has changed its type.
#define GPUROOM_HIP_FUNCTION(name, result, arguments)                       \
  hip->name = reinterpret_cast<decltype(hip->name)>(dlsym(library, #name)); \
  if (hip->name == nullptr && missing == nullptr) missing = #name;
#include "cumem/hip_functions.def"
  return missing;
}

}  // namespace

Operations* BindHip(char* reason, size_t size) {
  void* library = OpenHip();
  if (library == nullptr) {
    std::snprintf(reason, size, "libamdhip64.so was not found");
    return nullptr;
  }
  Hip hip;
  if (const char* missing = BindAll(library, &hip)) {
    std::snprintf(reason, size, "libamdhip64.so has no %s; ROCm 5.2 or newer has it", missing);
    return nullptr;
  }
  int devices = 0;
  const int result = hip.hipGetDeviceCount(&devices);
  if (result == 0 && devices > 0) return new HipOperations(hip);
  std::snprintf(reason, size, "libamdhip64.so has no device (%s)",
                result != 0 ? hip.hipGetErrorString(result) : "none");
  return nullptr;
}

}  // namespace gpuroom::cumem
