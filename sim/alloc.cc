#include "alloc.h"

#include <sys/mman.h>

#include <map>
#include <set>
#include <tuple>
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

// What is free in all blocks: owner, bytes, address.
using Hole = std::tuple<const void*, uint64_t, CUdeviceptr>;
std::set<Hole>& Holes() {
  static auto* holes = new std::set<Hole>;
  return *holes;
}

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

void AddHole(Block& block, uint64_t offset, uint64_t bytes) {
  block.free.emplace(offset, bytes);
  Holes().emplace(block.owner, bytes, block.start + offset);
}

void RemoveHole(Block& block, std::map<uint64_t, uint64_t>::iterator hole) {
  Holes().erase({block.owner, hole->second, block.start + hole->first});
  block.free.erase(hole);
}

// The start of the smallest hole of that owner that is large enough, the first of those alike; 0: there is
// none.
CUdeviceptr TakeBestFit(const void* owner, uint64_t bytes) {
  const auto found = Holes().lower_bound({owner, bytes, 0});
  if (found == Holes().end() || std::get<0>(*found) != owner) return 0;
  const CUdeviceptr start = std::get<2>(*found);
  Block& block = std::prev(Blocks().upper_bound(start))->second;
  const auto hole = block.free.find(start - block.start);
  const uint64_t rest = hole->second - bytes;
  const uint64_t next = hole->first + bytes;
  RemoveHole(block, hole);
  if (rest > 0) AddHole(block, next, rest);
  return start;
}

// Joins it to the holes on both sides.
void GiveBack(Block& block, uint64_t offset, uint64_t bytes) {
  auto next = block.free.lower_bound(offset);
  if (next != block.free.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      offset = previous->first;
      bytes += previous->second;
      RemoveHole(block, previous);
    }
  }
  if (next != block.free.end() && offset + bytes == next->first) {
    bytes += next->second;
    RemoveHole(block, next);
  }
  AddHole(block, offset, bytes);
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
  const void* owner = Owner(request);
  region->start = TakeBestFit(owner, region->bytes);
  if (region->start == 0) {
    Block block;
    if (!NewSpan(request.place, kGranularity, &block.start, &block.chunk)) return false;
    block.owner = owner;
    AddHole(Blocks().emplace(block.start, std::move(block)).first->second, 0, kGranularity);
    region->start = TakeBestFit(owner, region->bytes);
  }
  const Block& block = std::prev(Blocks().upper_bound(region->start))->second;
  region->chunk = block.chunk;
  region->chunk_offset = region->start - block.start;
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
  RemoveHole(block, block.free.begin());
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
