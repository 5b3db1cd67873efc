// Physical memory: chunks of real bytes in memory files, charged to a budget.
//
// A chunk lies in a slab (slab.h): a sparse memory file, mapped once (the alias) for
// the executor's own use. Nothing is touched before the program touches it, so a
// profile may be far larger than this machine. A chunk lives while a handle or
// a mapping holds its shared_ptr; its destructor punches the bytes out (so the
// next holder sees zeros) and returns the budget. Exported bytes stay until no
// other process holds them. All under the State's lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace gpuroom::sim {

// Where memory is: a device ordinal, or host node n as -1 - n.
struct Place {
  int index = 0;
  bool is_device() const { return index >= 0; }
  int node() const { return -1 - index; }
  static Place Device(int ordinal) { return {ordinal}; }
  static Place Node(int node) { return {-1 - node}; }
  bool operator==(const Place&) const = default;
};

class Slab;
class ImportedPiece;

struct Chunk {
  Chunk() = default;
  ~Chunk();
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  uint64_t id = 0;
  Place place;
  uint64_t bytes = 0;
  char* alias = nullptr;
  int fd = -1;          // the memory file, the slab's or the import's
  uint64_t offset = 0;  // of this chunk in it
  bool shareable = false;
  bool exported = false;  // a descriptor was given out: others may hold the bytes
  int location_type = 0;  // CUmemLocationType and id, as cuMemCreate was asked
  int location_id = 0;
  bool rdma = false;
  uint64_t handle = 0;         // what cuMemCreate or the import returned; kept when all references are gone
  bool charged = true;         // an imported chunk is its exporter's
  std::shared_ptr<Slab> slab;  // where it was created, or
  std::shared_ptr<ImportedPiece> import;  // where it came from
};
using ChunkPtr = std::shared_ptr<Chunk>;

// Null: the budget or this machine has no more.
ChunkPtr CreateChunk(Place place, uint64_t bytes, bool shareable);

// A chunk of another process (or of this one) behind a descriptor that
// ExportChunk gave; null where it is no such descriptor. Keeps its own copy.
ChunkPtr ImportChunk(int fd);

// A piece of a memory file that is another process's, in the place of that name (State::SharedName); takes
// `fd` over. Null also where this process does not see that GPU.
ChunkPtr AdoptPiece(int fd, int shared_name, uint64_t offset, uint64_t bytes);

// A new descriptor for a shareable chunk, or -1.
int ExportChunk(Chunk& chunk);

}  // namespace gpuroom::sim
