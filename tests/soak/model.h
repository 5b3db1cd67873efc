// What the storm believes about memory: blocks, the cells of them that it writes, and what each cell
// must hold. Plain values; no driver call.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <random>
#include <vector>

#include "base/size.h"

namespace gpuroom::soak {

inline constexpr uint64_t kCellBytes = 256;

// What a cell holds: words from a seed as the sample kernel writes them, or one word over and over.
struct Pattern {
  enum class Kind : uint8_t { kUnknown, kMixed, kConstant };
  Kind kind = Kind::kUnknown;
  uint64_t seed = 0;

  uint64_t Word(uint64_t index) const;
};

// A few bytes of a block that are written and checked.
struct Cell {
  uint64_t offset = 0;  // multiple of 8
  uint64_t bytes = 0;   // multiple of 8
  Pattern pattern;
};

// How a block came to be, and so how it goes.
enum class Origin : uint8_t { kAlloc, kAllocAsync, kMapped };

// An allocation, or memory that was created and mapped.
struct Block {
  CUdeviceptr p = 0;
  uint64_t bytes = 0;
  Origin origin = Origin::kAlloc;
  size_t stream = 0;    // of its thread's: all work on it is queued there
  uint32_t graphs = 0;  // that write to it
  std::vector<Cell> cells;
  // Of mapped ones:
  CUmemGenericAllocationHandle handle = 0;  // 0: given back already
  CUdeviceptr alias = 0;                    // a second address; 0: none
  // As last seen, to notice what moves by itself; ~0: not seen since the storm moved it.
  uint64_t host_bytes = ~uint64_t{0};
};

// Cells that do not overlap: at both ends, over every border of a granule, where chunks may meet, and
// somewhere within every granule.
std::vector<Cell> MakeCells(uint64_t bytes, std::mt19937_64& random);

}  // namespace gpuroom::soak
