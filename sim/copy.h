// Moving bytes: what the copy engines and memset do, on addresses of the GPU.
// Check* run when the driver function is called and give its own error codes;
// the others run as stream work, look every address up again, and fail as the
// hardware does (CUDA_ERROR_ILLEGAL_ADDRESS). All under the State's lock.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <functional>

#include "va_table.h"

namespace gpuroom::sim {

enum class Access { kRead, kWrite };
// What may be done to a span whose regions' access sets differ.
enum class Mixed { kRefuse, kAllow, kHostFaults };

// A rectangle of bytes: `height` rows of `width`, `pitch` apart, `depth` slices
// of `slice` bytes. One row: a plain span.
struct Box {
  CUdeviceptr start = 0;
  uint64_t width = 0;
  uint64_t height = 1;
  uint64_t pitch = 0;
  uint64_t depth = 1;
  uint64_t slice = 0;
  bool pageable = false;  // the program's own memory, unknown to the driver
  int device = -1;        // cuMemcpyPeer: whose rights count here; -1: the caller's
};
// Whose rights count. A copy engine reaches ordinary allocations of any device;
// a kernel, and both on mapped chunks, only what the device was given.
struct Actor {
  int device = 0;
  bool kernel = false;
};
Box Span(CUdeviceptr start, uint64_t bytes);

// Whether the address is known to the driver (else it is pageable host memory).
bool IsKnown(CUdeviceptr address);

// The span may be used by `device` in a memset or copy called now.
CUresult CheckSpan(CUdeviceptr start, uint64_t bytes, Actor actor, Access access, Mixed mixed);
// The same for each slice's hull; a pageable box is not checked.
CUresult CheckBox(const Box& box, Actor actor, Access access, Mixed mixed);

// Visits the span's pieces as plain memory, in order; kFault where the device
// may not. Pageable host memory is one piece where `pageable` says so.
using Visitor = std::function<CUresult(char* bytes, uint64_t size)>;
CUresult Visit(CUdeviceptr start, uint64_t bytes, Actor actor, Access access, bool pageable,
               const Visitor& visit);

CUresult CopyBox(const Box& to, const Box& from, Actor actor);
// `unit` (1, 2 or 4) bytes of `value`, repeated.
CUresult FillBox(const Box& to, uint32_t value, unsigned unit, Actor actor);

}  // namespace gpuroom::sim
