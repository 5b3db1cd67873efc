#include "copy.h"

#include <algorithm>
#include <cstring>

#include "behaviour.h"
#include "report.h"
#include "state.h"

namespace gpuroom::sim {
namespace {

bool Allowed(const Region& region, Actor actor, Access access) {
  if (!actor.kernel && region.kind != RegionKind::kVmm) return !region.freed;
  if (region.kind == RegionKind::kAlloc && region.device != actor.device) {
    return GetState().peer_enabled[actor.device][region.device];
  }
  const uint8_t rights = region.access.device[static_cast<size_t>(actor.device)];
  const uint8_t wanted =
      access == Access::kWrite ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_READ;
  return (rights & wanted) == wanted && !region.freed;
}

CUresult Fault(const char* what, CUdeviceptr address) {
  char text[96];
  std::snprintf(text, sizeof text, "%s at 0x%llx", what, static_cast<unsigned long long>(address));
  NoteMisuse(text);
  return behaviour::kFault;
}

uint64_t Hull(const Box& box) { return box.height == 0 ? 0 : (box.height - 1) * box.pitch + box.width; }

// Runs `row` for the start offset of every row of a box.
template <typename Row>
CUresult EachRow(const Box& box, Row row) {
  for (uint64_t z = 0; z < box.depth; ++z) {
    for (uint64_t y = 0; y < box.height; ++y) {
      const CUresult result = row(z, y);
      if (result != CUDA_SUCCESS) return result;
    }
  }
  return CUDA_SUCCESS;
}

CUdeviceptr RowStart(const Box& box, uint64_t z, uint64_t y) {
  return box.start + z * box.slice + y * box.pitch;
}

Actor Whose(const Box& box, Actor actor) { return box.device < 0 ? actor : Actor{box.device, actor.kernel}; }

// What no processor reaches is ordered by streams alone. ThreadSanitizer, which would note its every byte,
// has nothing to find there, and took most of the tests' time.
bool OutOfReach(CUdeviceptr address) {
  const Region* region = GetState().va.Find(address);
  return region != nullptr && (region->kind == RegionKind::kAlloc || region->kind == RegionKind::kVmm);
}

__attribute__((no_sanitize("thread"))) void MoveUnseen(char* out, const char* in, uint64_t bytes) {
  if (out < in) {
    for (uint64_t i = 0; i < bytes; ++i) out[i] = in[i];
  } else {
    for (uint64_t i = bytes; i-- > 0;) out[i] = in[i];
  }
}

#if defined(__SANITIZE_THREAD__)
constexpr bool kByteByByte = true;
#else
constexpr bool kByteByByte = false;
#endif

CUresult CopyRow(const Box& to, CUdeviceptr target, const Box& from, CUdeviceptr source, Actor actor) {
  const bool unseen = kByteByByte && OutOfReach(target) && OutOfReach(source);
  return Visit(
      target, to.width, Whose(to, actor), Access::kWrite, to.pageable, [&](char* out, uint64_t size) {
        const CUresult result = Visit(
            source, size, Whose(from, actor), Access::kRead, from.pageable, [&](char* in, uint64_t piece) {
              unseen ? MoveUnseen(out, in, piece) : void(std::memmove(out, in, piece));
              out += piece;
              return CUDA_SUCCESS;
            });
        source += size;
        return result;
      });
}

void FillPiece(char* out, uint64_t bytes, uint32_t value, unsigned unit) {
  if (unit == 1) {
    std::memset(out, static_cast<int>(value), bytes);
  } else if (unit == 2) {
    std::fill_n(reinterpret_cast<uint16_t*>(out), bytes / 2, static_cast<uint16_t>(value));
  } else {
    std::fill_n(reinterpret_cast<uint32_t*>(out), bytes / 4, value);
  }
}

}  // namespace

Box Span(CUdeviceptr start, uint64_t bytes) { return Box{start, bytes, 1, bytes, 1, bytes, !IsKnown(start)}; }

bool IsKnown(CUdeviceptr address) {
  VaTable& va = GetState().va;
  return va.Find(address) != nullptr || va.FindReservation(address, 1) != nullptr;
}

CUresult CheckSpan(CUdeviceptr start, uint64_t bytes, Actor actor, Access access, Mixed mixed) {
  if (bytes == 0) return CUDA_SUCCESS;
  VaTable& va = GetState().va;
  if (Region* region = va.Find(start); region != nullptr && region->end() >= start + bytes) {
    return Allowed(*region, actor, access) ? CUDA_SUCCESS : behaviour::kNoAccess;
  }
  if (start + bytes < start || !va.Covered(start, bytes)) return behaviour::kUnknownAddress;
  CUresult result = CUDA_SUCCESS;
  const AccessSet* first = nullptr;
  const Region* owner = nullptr;
  va.ForEach(start, bytes, [&](Region& region) {
    if (first == nullptr) {
      first = &region.access;
      owner = &region;
    }
    // Only mappings can be neighbours of one range; allocations end where they end.
    if (region.kind != owner->kind || region.kind != RegionKind::kVmm) result = behaviour::kUnknownAddress;
    // What other devices may do does not count.
    const auto device = static_cast<size_t>(actor.device);
    const bool differs =
        region.access.device[device] != first->device[device] || region.access.host != first->host;
    if (differs && mixed == Mixed::kRefuse) result = behaviour::kMixedAccess;
    if (region.access.host != first->host && mixed == Mixed::kHostFaults) {
      CrashAsDriver("a copy over memory that is open to the host in part");
    }
    if (!Allowed(region, actor, access)) result = behaviour::kNoAccess;
  });
  return result;
}

CUresult CheckBox(const Box& box, Actor actor, Access access, Mixed mixed) {
  if (box.pageable) return CUDA_SUCCESS;
  for (uint64_t z = 0; z < box.depth; ++z) {
    const CUresult result = CheckSpan(box.start + z * box.slice, Hull(box), Whose(box, actor), access, mixed);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

CUresult Visit(CUdeviceptr start, uint64_t bytes, Actor actor, Access access, bool pageable,
               const Visitor& visit) {
  VaTable& va = GetState().va;
  if (bytes > 0 && pageable) return visit(reinterpret_cast<char*>(start), bytes);
  while (bytes > 0) {
    Region* region = va.Find(start);
    if (region == nullptr) return Fault("access to unmapped memory", start);
    if (!Allowed(*region, actor, access)) return Fault("access without the right to it", start);
    const uint64_t size = std::min<uint64_t>(bytes, region->end() - start);
    const CUresult result = visit(region->data + (start - region->start), size);
    if (result != CUDA_SUCCESS) return result;
    start += size;
    bytes -= size;
  }
  return CUDA_SUCCESS;
}

CUresult CopyBox(const Box& to, const Box& from, Actor actor) {
  return EachRow(to, [&](uint64_t z, uint64_t y) {
    return CopyRow(to, RowStart(to, z, y), from, RowStart(from, z, y), actor);
  });
}

CUresult FillBox(const Box& to, uint32_t value, unsigned unit, Actor actor) {
  return EachRow(to, [&](uint64_t z, uint64_t y) {
    return Visit(RowStart(to, z, y), to.width, actor, Access::kWrite, false, [&](char* out, uint64_t size) {
      FillPiece(out, size, value, unit);
      return CUDA_SUCCESS;
    });
  });
}

}  // namespace gpuroom::sim
