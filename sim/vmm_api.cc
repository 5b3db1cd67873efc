// Virtual memory management: reserve, create, map, set access, and back.
#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "entry.h"
#include "report.h"

namespace gpuroom::sim {
namespace {

constexpr uint64_t kFirstHandle = 0x7000'0000'0000;

bool Aligned(uint64_t value) { return value % kGranularity == 0; }

CUresult Misuse(CUresult result, const char* what) {
  NoteMisuse(what);
  return result;
}

// Where a location's memory lies; CUDA_ERROR_* for one that is not there.
CUresult ResolveLocation(State& state, const CUmemLocation& location, Place* place) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      if (!state.IsDevice(location.id)) return behaviour::kNoSuchDevice;
      *place = Place::Device(location.id);
      return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      if (location.id < 0 || location.id >= state.profile.nodes) return behaviour::kNoSuchNode;
      *place = Place::Node(location.id);
      return CUDA_SUCCESS;
    case CU_MEM_LOCATION_TYPE_HOST: {
      *place = Place::Node(0);  // the node with most room
      for (int node = 1; node < state.profile.nodes; ++node) {
        if (state.Free(Place::Node(node)) > state.Free(*place)) *place = Place::Node(node);
      }
      return CUDA_SUCCESS;
    }
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

const char* KindOf(const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE: return "DEVICE";
    case CU_MEM_LOCATION_TYPE_HOST: return "HOST";
    case CU_MEM_LOCATION_TYPE_HOST_NUMA: return "HOST_NUMA";
    default: return "";
  }
}

CUresult CheckProperties(const CUmemAllocationProp* prop) {
  if (prop == nullptr || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED) return CUDA_ERROR_INVALID_VALUE;
  if ((prop->requestedHandleTypes & CU_MEM_HANDLE_TYPE_FABRIC) != 0) return behaviour::kNoFabric;
  if ((prop->requestedHandleTypes & ~CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  if (prop->location.type == CU_MEM_LOCATION_TYPE_HOST && prop->requestedHandleTypes != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool special = prop->allocFlags.gpuDirectRDMACapable != 0 || prop->allocFlags.compressionType != 0;
  if (special && prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
  return CUDA_SUCCESS;
}

CUmemGenericAllocationHandle AddHandle(State& state, ChunkPtr chunk) {
  if (chunk->handle == 0) chunk->handle = kFirstHandle + state.NextId() * 16;
  const CUmemGenericAllocationHandle handle = chunk->handle;
  state.handles.emplace(handle, HandleRecord{std::move(chunk)});
  return handle;
}

// Zero is refused; other numbers the driver takes for addresses.
bool LooksLikeHandle(CUmemGenericAllocationHandle handle) { return handle == 0 || handle >= kFirstHandle; }

HandleRecord* FindHandle(State& state, CUmemGenericAllocationHandle handle) {
  const auto it = state.handles.find(handle);
  return it != state.handles.end() ? &it->second : nullptr;
}

// Makes the program's view of a mapping agree with the host's right to it.
bool ShowToHost(const Region& region, unsigned rights) {
  void* at = reinterpret_cast<void*>(region.start);
  if (rights == CU_MEM_ACCESS_FLAGS_PROT_NONE) {
    return mmap(at, region.bytes, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0) == at;
  }
  const int protection = rights == CU_MEM_ACCESS_FLAGS_PROT_READ ? PROT_READ : PROT_READ | PROT_WRITE;
  return mmap(at, region.bytes, protection, MAP_FIXED | MAP_SHARED | MAP_NORESERVE, region.chunk->fd,
              static_cast<off_t>(region.chunk->offset)) == at;
}

CUresult CheckAccess(State& state, const CUmemAccessDesc& desc, const Region& region) {
  if (desc.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && desc.flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
      desc.flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Place home = region.chunk->place;
  if (desc.location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
    if (!state.IsDevice(desc.location.id)) return CUDA_ERROR_INVALID_VALUE;
    if (home.is_device() && !state.Linked(desc.location.id, home.index)) return CUDA_ERROR_INVALID_DEVICE;
    return CUDA_SUCCESS;
  }
  const bool host = desc.location.type == CU_MEM_LOCATION_TYPE_HOST ||
                    (desc.location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && desc.location.id >= 0 &&
                     desc.location.id < state.profile.nodes);
  // The host reaches HBM only over a coherent link.
  if (!host) return CUDA_ERROR_INVALID_VALUE;
  return !home.is_device() || state.profile.coherent ? CUDA_SUCCESS : behaviour::kNoHostAccess;
}

void ApplyAccess(const CUmemAccessDesc& desc, Region& region) {
  if (desc.location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
    region.access.device[static_cast<size_t>(desc.location.id)] = static_cast<uint8_t>(desc.flags);
  } else if (ShowToHost(region, desc.flags)) {
    region.access.host = static_cast<uint8_t>(desc.flags);
  }
}

bool CutsMapping(VaTable& va, CUdeviceptr address, size_t bytes) {
  bool cuts = false;
  va.ForEach(address, bytes, [&](Region& region) {
    if (region.start < address || region.end() > address + bytes) cuts = true;
  });
  return cuts;
}

// Mappings cover the span exactly, from the start of one to the end of another.
bool WholeMappings(State& state, CUdeviceptr address, size_t bytes) {
  if (bytes == 0 || !state.va.Covered(address, bytes)) return false;
  bool whole = true;
  state.va.ForEach(address, bytes, [&](Region& region) {
    if (region.kind != RegionKind::kVmm || region.start < address || region.end() > address + bytes)
      whole = false;
  });
  return whole;
}

void DescribeChunk(const Chunk& chunk, CUmemAllocationProp* prop) {
  std::memset(prop, 0, sizeof *prop);
  prop->type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop->requestedHandleTypes =
      chunk.shareable && chunk.charged ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR : CU_MEM_HANDLE_TYPE_NONE;
  prop->location.type = static_cast<CUmemLocationType>(chunk.location_type);
  prop->location.id = chunk.location_id;
  prop->allocFlags.gpuDirectRDMACapable = chunk.rdma;
}

}  // namespace
}  // namespace gpuroom::sim

namespace sim = gpuroom::sim;
namespace behaviour = gpuroom::sim::behaviour;

SIM_API cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* prop,
                                      CUmemAllocationGranularity_flags option) {
  SIM_ENTER(cuMemGetAllocationGranularity, kInit);
  if (granularity == nullptr || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
    return CUDA_ERROR_INVALID_VALUE;
  CUresult result = sim::CheckProperties(prop);
  sim::Place place;
  const bool near_caller =
      result == CUDA_SUCCESS && prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
  if (result == CUDA_SUCCESS && !near_caller)
    result = sim::ResolveLocation(guard.state(), prop->location, &place);
  if (result == CUDA_SUCCESS) *granularity = sim::kGranularity;
  return result;
}

SIM_API cuMemAddressReserve(CUdeviceptr* out, size_t bytes, size_t alignment, CUdeviceptr hint,
                            unsigned long long flags) {
  SIM_ENTER(cuMemAddressReserve, kInit);
  if (out == nullptr || flags != 0 || (alignment & (alignment - 1)) != 0) return CUDA_ERROR_INVALID_VALUE;
  if (bytes == 0 || !sim::Aligned(bytes)) {
    return sim::Misuse(CUDA_ERROR_INVALID_VALUE,
                       "cuMemAddressReserve: the size is no multiple of the granularity");
  }
  const CUdeviceptr start = sim::VaTable::ReserveSpan(bytes, alignment, hint);
  if (start == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  guard.state().va.reservations().emplace(start, sim::Reservation{start, bytes});
  *out = start;
  return CUDA_SUCCESS;
}

SIM_API cuMemAddressFree(CUdeviceptr address, size_t bytes) {
  SIM_ENTER(cuMemAddressFree, kInit);
  auto& va = guard.state().va;
  const auto it = va.reservations().find(address);
  if (it == va.reservations().end() || it->second.bytes != bytes) {
    return sim::Misuse(behaviour::kBadAddressFree, "cuMemAddressFree of what is not reserved so");
  }
  if (va.Overlaps(address, bytes)) {
    return sim::Misuse(behaviour::kStillMapped, "cuMemAddressFree of a reservation that has mappings");
  }
  va.reservations().erase(it);
  sim::VaTable::FreeSpan(address, bytes);
  return CUDA_SUCCESS;
}

SIM_API cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes, const CUmemAllocationProp* prop,
                    unsigned long long flags) {
  SIM_ENTER(cuMemCreate, kInit);
  if (handle == nullptr || flags != 0) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = sim::CheckProperties(prop);
  sim::Place place;
  if (result == CUDA_SUCCESS) result = sim::ResolveLocation(guard.state(), prop->location, &place);
  if (result == CUDA_SUCCESS) result = sim::InjectedFailure("cuMemCreate", sim::KindOf(prop->location));
  if (result != CUDA_SUCCESS) return result;
  if (bytes == 0 || !sim::Aligned(bytes)) {
    return sim::Misuse(CUDA_ERROR_INVALID_VALUE, "cuMemCreate: the size is no multiple of the granularity");
  }
  sim::ChunkPtr chunk = sim::CreateChunk(place, bytes, prop->requestedHandleTypes != 0);
  if (chunk == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  // A chunk asked for at HOST says which node it got.
  chunk->location_type = place.is_device() ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
  chunk->location_id = place.is_device() ? place.index : place.node();
  chunk->rdma = prop->allocFlags.gpuDirectRDMACapable != 0;
  *handle = sim::AddHandle(guard.state(), std::move(chunk));
  return CUDA_SUCCESS;
}

SIM_API cuMemRelease(CUmemGenericAllocationHandle handle) {
  SIM_ENTER(cuMemRelease, kInit);
  auto* record = sim::FindHandle(guard.state(), handle);
  if (!sim::LooksLikeHandle(handle)) sim::CrashAsDriver("cuMemRelease of what never was a handle");
  if (record == nullptr)
    return sim::Misuse(behaviour::kBadRelease, "cuMemRelease of a handle that is not live");
  if (--record->references == 0) guard.state().handles.erase(handle);
  return CUDA_SUCCESS;
}

SIM_API cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) {
  SIM_ENTER(cuMemRetainAllocationHandle, kInit);
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* region = guard.state().va.Find(reinterpret_cast<CUdeviceptr>(address));
  if (region == nullptr || region->kind != sim::RegionKind::kVmm) return CUDA_ERROR_INVALID_VALUE;
  if (auto* record = sim::FindHandle(guard.state(), region->chunk->handle)) {
    ++record->references;
    *handle = region->chunk->handle;
  } else {
    *handle = sim::AddHandle(guard.state(), region->chunk);
  }
  return CUDA_SUCCESS;
}

SIM_API cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                               CUmemGenericAllocationHandle handle) {
  SIM_ENTER(cuMemGetAllocationPropertiesFromHandle, kInit);
  auto* record = sim::FindHandle(guard.state(), handle);
  if (!sim::LooksLikeHandle(handle)) sim::CrashAsDriver("properties of what never was a handle");
  if (prop == nullptr || record == nullptr) return CUDA_ERROR_INVALID_VALUE;
  sim::DescribeChunk(*record->chunk, prop);
  return CUDA_SUCCESS;
}

SIM_API cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                 unsigned long long flags) {
  SIM_ENTER(cuMemMap, kInit);
  auto& state = guard.state();
  auto* record = sim::FindHandle(state, handle);
  if (flags != 0 || record == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!sim::Aligned(address))
    return sim::Misuse(CUDA_ERROR_INVALID_VALUE, "cuMemMap at an unaligned address");
  if (offset != 0 || bytes != record->chunk->bytes) {
    return sim::Misuse(behaviour::kPartialMap, "cuMemMap of other than the whole handle");
  }
  if (state.va.FindReservation(address, bytes) == nullptr) {
    return sim::Misuse(CUDA_ERROR_INVALID_VALUE, "cuMemMap outside any reservation");
  }
  if (state.va.Overlaps(address, bytes))
    return sim::Misuse(behaviour::kAlreadyMapped, "cuMemMap over a mapping");
  sim::Region region;
  region.start = address;
  region.bytes = bytes;
  region.requested = bytes;
  region.kind = sim::RegionKind::kVmm;
  region.chunk = record->chunk;
  region.data = record->chunk->alias;
  region.device = record->chunk->place.is_device() ? record->chunk->place.index : 0;
  region.context = sim::CurrentContext();
  region.id = state.NextId();
  state.va.Add(std::move(region));
  return CUDA_SUCCESS;
}

SIM_API cuMemUnmap(CUdeviceptr address, size_t bytes) {
  SIM_ENTER(cuMemUnmap, kInit);
  auto& va = guard.state().va;
  if (bytes == 0 || va.FindReservation(address, bytes) == nullptr || sim::CutsMapping(va, address, bytes)) {
    return sim::Misuse(behaviour::kBadUnmap, "cuMemUnmap outside a reservation, or of a part of a mapping");
  }
  const bool covered = va.Covered(address, bytes);
  std::vector<CUdeviceptr> starts;
  va.ForEach(address, bytes, [&](sim::Region& region) {
    if (region.access.host != 0) sim::ShowToHost(region, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    starts.push_back(region.start);
  });
  for (const CUdeviceptr start : starts) va.Remove(start);
  return covered ? CUDA_SUCCESS : sim::Misuse(behaviour::kNothingToUnmap, "cuMemUnmap of what is not mapped");
}

SIM_API cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc* descs, size_t count) {
  SIM_ENTER(cuMemSetAccess, kInit);
  auto& state = guard.state();
  if (descs == nullptr || count == 0) return CUDA_ERROR_INVALID_VALUE;
  if (!sim::WholeMappings(state, address, bytes)) {
    return sim::Misuse(CUDA_ERROR_INVALID_VALUE,
                       "cuMemSetAccess of what is not mapped, or of a part of a mapping");
  }
  CUresult result = CUDA_SUCCESS;
  for (size_t i = 0; i < count; ++i) {
    state.va.ForEach(address, bytes, [&](sim::Region& region) {
      if (result == CUDA_SUCCESS) result = sim::CheckAccess(state, descs[i], region);
    });
  }
  if (result != CUDA_SUCCESS) return result;
  for (size_t i = 0; i < count; ++i) {
    state.va.ForEach(address, bytes, [&](sim::Region& region) { sim::ApplyAccess(descs[i], region); });
  }
  return CUDA_SUCCESS;
}

SIM_API cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr address) {
  SIM_ENTER(cuMemGetAccess, kInit);
  if (flags == nullptr || location == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto* region = guard.state().va.Find(address);
  if (region == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) {
    if (!guard.state().IsDevice(location->id)) return behaviour::kNoSuchDevice;
    *flags = region->access.device[static_cast<size_t>(location->id)];
  } else {
    // Seen: asked for the host, the driver answers with what some device has.
    *flags = region->access.host;
    for (const uint8_t rights : region->access.device) *flags |= rights;
  }
  return CUDA_SUCCESS;
}

SIM_API cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                     CUmemAllocationHandleType type, unsigned long long flags) {
  SIM_ENTER(cuMemExportToShareableHandle, kInit);
  auto* record = sim::FindHandle(guard.state(), handle);
  if (out == nullptr || flags != 0 || record == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type == CU_MEM_HANDLE_TYPE_FABRIC) return CUDA_ERROR_NOT_SUPPORTED;
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR || !record->chunk->shareable)
    return CUDA_ERROR_INVALID_VALUE;
  const int fd = sim::ExportChunk(*record->chunk);
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}

SIM_API cuMemImportFromShareableHandle(CUmemGenericAllocationHandle* handle, void* shareable,
                                       CUmemAllocationHandleType type) {
  SIM_ENTER(cuMemImportFromShareableHandle, kInit);
  if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
  if (type == CU_MEM_HANDLE_TYPE_FABRIC) return CUDA_ERROR_NOT_SUPPORTED;
  if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_INVALID_VALUE;
  sim::ChunkPtr chunk = sim::ImportChunk(static_cast<int>(reinterpret_cast<intptr_t>(shareable)));
  if (chunk == nullptr) return behaviour::kBadImport;
  const bool device = chunk->place.is_device();
  chunk->location_type = device ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
  chunk->location_id = device ? chunk->place.index : chunk->place.node();
  *handle = sim::AddHandle(guard.state(), std::move(chunk));
  return CUDA_SUCCESS;
}
