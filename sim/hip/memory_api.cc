// Virtual memory: reserve, create, map, give access, and back.
#include <sys/mman.h>
#include <unistd.h>

#include <iterator>

#include "state.h"

namespace sim = gpuroom::hip_sim;

namespace {

bool Aligned(uint64_t value) { return value % sim::kGranularity == 0; }
uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

hipError_t CheckProperties(const hipMemAllocationProp* prop) {
  if (prop == nullptr || prop->type != 1 || prop->requestedHandleType > 1) return hipErrorInvalidValue;
  // The real one takes a host location and gives device memory; a test had better see it refused.
  if (prop->location.type != 1) return sim::Misuse("memory at another place than a device");
  return prop->location.id >= 0 && prop->location.id < sim::kDevices ? hipSuccess : hipErrorInvalidValue;
}

// PROT_NONE in front of what was shown there.
bool Hide(void* at, size_t bytes) {
  const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return mmap(at, bytes, PROT_NONE, flags, -1, 0) == at;
}

// Addresses for `bytes` that start at a multiple of `alignment`.
void* ReserveAligned(size_t bytes, size_t alignment) {
  const size_t span = bytes + alignment;
  void* base = mmap(nullptr, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  const uint64_t start = (Address(base) + alignment - 1) / alignment * alignment;
  const uint64_t head = start - Address(base);
  if (head > 0) munmap(base, head);
  void* result = reinterpret_cast<void*>(start);  // NOLINT
  if (span - head > bytes) munmap(static_cast<char*>(result) + bytes, span - head - bytes);
  return result;
}

bool InReservation(uint64_t at, uint64_t bytes) {
  auto& reservations = sim::GetState().reservations;
  auto it = reservations.upper_bound(at);
  if (it == reservations.begin()) return false;
  --it;
  return at + bytes <= it->first + it->second;
}

bool Overlaps(uint64_t at, uint64_t bytes) {
  auto& mappings = sim::GetState().mappings;
  const auto next = mappings.lower_bound(at + bytes);
  if (next == mappings.begin()) return false;
  const auto last = std::prev(next);
  return last->first + last->second.bytes > at;
}

}  // namespace

HIP_SIM_API hipError_t hipMemGetAllocationGranularity(size_t* granularity, const hipMemAllocationProp* prop,
                                                      int option) {
  HIP_SIM_ENTER(hipMemGetAllocationGranularity);
  if (granularity == nullptr || option < 0 || option > 1) return hipErrorInvalidValue;
  *granularity = sim::kGranularity;
  return CheckProperties(prop);
}

HIP_SIM_API hipError_t hipMemAddressReserve(void** out, size_t bytes, size_t alignment, void* hint,
                                            unsigned long long flags) {
  HIP_SIM_ENTER(hipMemAddressReserve);
  if (out == nullptr || flags != 0 || hint != nullptr) return hipErrorInvalidValue;
  if (bytes == 0 || !Aligned(bytes))
    return sim::Misuse("hipMemAddressReserve of no multiple of the granularity");
  // Less than the granularity is what the real one may give where nothing is said.
  void* start = ReserveAligned(bytes, alignment != 0 ? alignment : 4096);
  if (start == nullptr) return hipErrorOutOfMemory;
  state.reservations[Address(start)] = bytes;
  *out = start;
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemAddressFree(void* at, size_t bytes) {
  HIP_SIM_ENTER(hipMemAddressFree);
  const auto found = state.reservations.find(Address(at));
  if (found == state.reservations.end() || found->second != bytes) {
    return sim::Misuse("hipMemAddressFree of what is not reserved so");
  }
  if (Overlaps(Address(at), bytes)) return sim::Misuse("hipMemAddressFree of what is mapped");
  state.reservations.erase(found);
  munmap(at, bytes);
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemCreate(hipHandle* out, size_t bytes, const hipMemAllocationProp* prop,
                                    unsigned long long flags) {
  HIP_SIM_ENTER(hipMemCreate);
  if (out == nullptr || flags != 0) return hipErrorInvalidValue;
  const hipError_t result = CheckProperties(prop);
  if (result != hipSuccess) return result;
  if (bytes == 0 || !Aligned(bytes)) return sim::Misuse("hipMemCreate of no multiple of the granularity");
  uint64_t& used = state.used[prop->location.id];
  if (bytes > state.capacity - used) return hipErrorOutOfMemory;
  const int fd = memfd_create("gpuroom-hip-sim", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    if (fd >= 0) close(fd);
    return hipErrorOutOfMemory;
  }
  used += bytes;
  *out = new SimulatedHandle{fd, bytes, 1, 0, *prop};
  state.handles.insert(*out);
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemRelease(hipHandle handle) {
  HIP_SIM_ENTER(hipMemRelease);
  if (state.handles.count(handle) == 0) return sim::Misuse("hipMemRelease of a handle that is not live");
  if (--handle->references == 0) state.handles.erase(handle);
  sim::Drop(handle);
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemRetainAllocationHandle(hipHandle* out, void* at) {
  HIP_SIM_ENTER(hipMemRetainAllocationHandle);
  uint64_t start = 0;
  const sim::Mapping* mapping = sim::FindMapping(Address(at), &start);
  if (out == nullptr || mapping == nullptr) return hipErrorInvalidValue;
  *out = mapping->handle;
  ++mapping->handle->references;
  state.handles.insert(mapping->handle);
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemGetAllocationPropertiesFromHandle(hipMemAllocationProp* prop, hipHandle handle) {
  HIP_SIM_ENTER(hipMemGetAllocationPropertiesFromHandle);
  if (prop == nullptr || state.handles.count(handle) == 0) return hipErrorInvalidValue;
  *prop = handle->prop;
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemMap(void* at, size_t bytes, size_t offset, hipHandle handle,
                                 unsigned long long flags) {
  HIP_SIM_ENTER(hipMemMap);
  if (flags != 0 || offset != 0 || !Aligned(Address(at)))
    return sim::Misuse("hipMemMap at an unaligned place");
  if (state.handles.count(handle) == 0) return sim::Misuse("hipMemMap of a handle that is not live");
  if (bytes != handle->bytes) return sim::Misuse("hipMemMap of other than the whole handle");
  if (!InReservation(Address(at), bytes)) return sim::Misuse("hipMemMap beyond a reservation");
  if (Overlaps(Address(at), bytes)) return sim::Misuse("hipMemMap over a mapping");
  if (mmap(at, bytes, PROT_NONE, MAP_FIXED | MAP_SHARED, handle->fd, 0) != at) return hipErrorUnknown;
  state.mappings[Address(at)] = {bytes, handle, {}};
  ++handle->mappings;
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemUnmap(void* at, size_t bytes) {
  HIP_SIM_ENTER(hipMemUnmap);
  const auto found = state.mappings.find(Address(at));
  if (found == state.mappings.end() || found->second.bytes != bytes) {
    return sim::Misuse("hipMemUnmap of what is not mapped so");
  }
  if (!Hide(at, bytes)) return hipErrorUnknown;
  const hipHandle handle = found->second.handle;
  state.mappings.erase(found);
  --handle->mappings;
  sim::Drop(handle);
  return hipSuccess;
}

HIP_SIM_API hipError_t hipMemSetAccess(void* at, size_t bytes, const hipMemAccessDesc* access, size_t count) {
  HIP_SIM_ENTER(hipMemSetAccess);
  if (access == nullptr || count != 1 || access->location.type != 1) return hipErrorInvalidValue;
  if (access->location.id < 0 || access->location.id >= sim::kDevices) return hipErrorInvalidDevice;
  uint64_t done = 0;
  while (done < bytes) {
    const auto found = state.mappings.find(Address(at) + done);
    if (found == state.mappings.end() || done + found->second.bytes > bytes) {
      return sim::Misuse("hipMemSetAccess of what is not mapped");
    }
    found->second.access[access->location.id] = access->flags;
    done += found->second.bytes;
  }
  const int protection = access->flags == 3   ? PROT_READ | PROT_WRITE
                         : access->flags == 1 ? PROT_READ
                                              : PROT_NONE;
  return mprotect(at, bytes, protection) == 0 ? hipSuccess : hipErrorUnknown;
}
