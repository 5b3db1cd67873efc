#include "alloc.h"

#include <sys/mman.h>

#include <map>
#include <vector>

#include "context.h"
#include "state.h"

namespace gpuroom::sim {
namespace {

constexpr uint64_t kSmallLimit = kMiB;
constexpr uint64_t kSmallUnit = 512;

// A chunk at an address, cut into small allocations.
struct Block {
  CUdeviceptr start = 0;
  ChunkPtr chunk;
  const void* owner = nullptr;        // a context or a pool
  std::map<uint64_t, uint64_t> free;  // offset to bytes
};

std::map<CUdeviceptr, Block>& Blocks() {
  static auto* blocks = new std::map<CUdeviceptr, Block>;
  return *blocks;
}

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

bool TakeFirstFit(Block& block, uint64_t bytes, uint64_t* offset) {
  for (auto it = block.free.begin(); it != block.free.end(); ++it) {
    if (it->second < bytes) continue;
    *offset = it->first;
    const uint64_t rest = it->second - bytes;
    block.free.erase(it);
    if (rest > 0) block.free.emplace(*offset + bytes, rest);
    return true;
  }
  return false;
}

void GiveBack(Block& block, uint64_t offset, uint64_t bytes) {
  auto it = block.free.emplace(offset, bytes).first;
  const auto next = std::next(it);
  if (next != block.free.end() && it->first + it->second == next->first) {
    it->second += next->second;
    block.free.erase(next);
  }
  if (it != block.free.begin()) {
    const auto previous = std::prev(it);
    if (previous->first + previous->second == it->first) {
      previous->second += it->second;
      block.free.erase(it);
    }
  }
}

bool NewSpan(Place place, uint64_t bytes, CUdeviceptr* start, ChunkPtr* chunk) {
  *chunk = CreateChunk(place, bytes, false);
  if (*chunk == nullptr) return false;
  *start = VaTable::ReserveSpan(bytes, kGranularity, 0);
  return *start != 0;
}

Region MakeRegion(const Request& request) {
  Region region;
  region.requested = request.bytes;
  region.kind = request.kind;
  region.device = request.device;
  region.context = request.context;
  region.access = DeviceAccess(request.device);
  region.pool = request.pool;
  region.id = GetState().NextId();
  return region;
}

const void* Owner(const Request& request) {
  if (request.pool != nullptr) return request.pool;
  return request.context;
}

bool PlaceSmall(const Request& request, Region* region) {
  uint64_t offset = 0;
  for (auto& [start, block] : Blocks()) {
    if (block.owner != Owner(request) || !TakeFirstFit(block, region->bytes, &offset)) continue;
    region->start = start + offset;
    region->chunk = block.chunk;
    region->chunk_offset = offset;
    return true;
  }
  Block block;
  if (!NewSpan(request.place, kGranularity, &block.start, &block.chunk)) return false;
  block.owner = Owner(request);
  block.free.emplace(0, kGranularity);
  TakeFirstFit(block, region->bytes, &offset);
  region->start = block.start;
  region->chunk = block.chunk;
  Blocks().emplace(block.start, std::move(block));
  return true;
}

}  // namespace

AccessSet DeviceAccess(int device) {
  AccessSet access;
  access.device[static_cast<size_t>(device)] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return access;
}

AccessSet EveryAccess() {
  AccessSet access;
  access.device.fill(CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  access.host = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return access;
}

Request OrdinaryRequest(CUcontext context, uint64_t bytes) {
  return {context, context->device, Place::Device(context->device), bytes, RegionKind::kAlloc, nullptr};
}

uint64_t RoundedSize(uint64_t bytes) {
  return RoundUp(bytes, bytes <= kSmallLimit ? kSmallUnit : kGranularity);
}

uint64_t ImportedSpan(uint64_t bytes) { return RoundUp(bytes, kGranularity); }

CUresult AllocateDevice(const Request& request, CUdeviceptr* out) {
  Region region = MakeRegion(request);
  region.bytes = RoundedSize(request.bytes);
  if (region.bytes < request.bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  const bool placed = request.bytes <= kSmallLimit
                          ? PlaceSmall(request, &region)
                          : NewSpan(request.place, region.bytes, &region.start, &region.chunk);
  if (!placed) return CUDA_ERROR_OUT_OF_MEMORY;
  region.data = region.chunk->alias + region.chunk_offset;
  *out = region.start;
  GetState().va.Add(std::move(region));
  return CUDA_SUCCESS;
}

void FreeDevice(Region* region) {
  const CUdeviceptr start = region->start;
  const uint64_t bytes = region->bytes;
  auto& blocks = Blocks();
  auto it = blocks.upper_bound(start);
  const bool small = it != blocks.begin() && start < std::prev(it)->first + kGranularity;
  GetState().va.Remove(start);
  if (!small) {
    VaTable::FreeSpan(start, bytes);
    return;
  }
  --it;
  Block& block = it->second;
  GiveBack(block, start - block.start, bytes);
  if (block.free.begin()->second != kGranularity) return;
  VaTable::FreeSpan(block.start, kGranularity);
  blocks.erase(it);
}

Region* AddHostRegion(CUcontext context, void* data, uint64_t bytes, RegionKind kind, unsigned flags) {
  Request request = OrdinaryRequest(context, bytes);
  request.kind = kind;
  Region region = MakeRegion(request);
  region.start = reinterpret_cast<CUdeviceptr>(data);
  region.bytes = bytes;
  region.data = static_cast<char*>(data);
  region.access = EveryAccess();
  region.flags = flags;
  return GetState().va.Add(std::move(region));
}

void FreeContextMemory(CUcontext context) {
  State& state = GetState();
  std::vector<CUdeviceptr> starts;
  for (auto& [start, region] : state.va.regions()) {
    if (region.context == context && region.kind == RegionKind::kAlloc) starts.push_back(start);
  }
  for (const CUdeviceptr start : starts) FreeDevice(state.va.Find(start));
}

}  // namespace gpuroom::sim
