#include "physical.h"

#include <sys/resource.h>
#include <unistd.h>

#include "slab.h"
#include "state.h"

namespace gpuroom::sim {
namespace {

// Each is a descriptor, so it is large: it holds memory only where a program touched it.
constexpr uint64_t kSlabBytes = 4 * kGiB;

// Slabs that serve chunks up to half their size.
std::vector<std::shared_ptr<Slab>>& SharedSlabs() {
  static auto* slabs = new std::vector<std::shared_ptr<Slab>>;
  return *slabs;
}

// A file may be no larger than the process is allowed to make one (ulimit -f): then each chunk has its own.
uint64_t SlabBytesFor(uint64_t bytes) {
  rlimit largest = {};
  const bool fits = getrlimit(RLIMIT_FSIZE, &largest) != 0 || largest.rlim_cur >= kSlabBytes;
  return bytes <= kSlabBytes / 2 && fits ? kSlabBytes : bytes;
}

std::shared_ptr<Slab> TakeFromSlab(Place place, uint64_t bytes, uint64_t* offset) {
  const int name = GetState().SharedName(place);
  if (bytes <= kSlabBytes / 2) {
    for (auto& slab : SharedSlabs()) {
      if (slab->place() == name && slab->Take(bytes, offset)) return slab;
    }
  }
  auto slab = Slab::Create(SlabBytesFor(bytes), name);
  if (slab == nullptr || !slab->Take(bytes, offset)) return nullptr;
  if (slab->bytes() != bytes) SharedSlabs().push_back(slab);
  return slab;
}

void DropEmptySlabs() {
  auto& slabs = SharedSlabs();
  if (slabs.size() > 1) std::erase_if(slabs, [](const auto& slab) { return slab->Empty(); });
}

}  // namespace

Chunk::~Chunk() {
  if (charged) GetState().Credit(place, bytes);
  if (slab != nullptr) slab->Return(offset, bytes, exported);
  slab.reset();
  DropEmptySlabs();
}

ChunkPtr CreateChunk(Place place, uint64_t bytes, bool shareable) {
  State& state = GetState();
  if (!state.Charge(place, bytes)) return nullptr;
  auto chunk = std::make_shared<Chunk>();
  chunk->id = state.NextId();
  chunk->place = place;
  chunk->bytes = bytes;  // from here on the destructor gives the budget back
  chunk->shareable = shareable;
  chunk->slab = TakeFromSlab(place, bytes, &chunk->offset);
  if (chunk->slab == nullptr) return nullptr;
  chunk->fd = chunk->slab->fd();
  chunk->alias = chunk->slab->alias() + chunk->offset;
  return chunk;
}

int ExportChunk(Chunk& chunk) {
  const int fd = OpenPiece(chunk.fd, {chunk.offset, chunk.bytes});
  chunk.exported = chunk.exported || fd >= 0;
  return fd;
}

ChunkPtr AdoptPiece(int fd, int shared_name, uint64_t offset, uint64_t bytes) {
  Place place;
  if (!GetState().FindPlace(shared_name, &place)) {
    close(fd);
    return nullptr;
  }
  auto import = ImportedPiece::Adopt(fd, {offset, bytes});
  if (import == nullptr) return nullptr;
  auto chunk = std::make_shared<Chunk>();
  chunk->id = GetState().NextId();
  chunk->place = place;
  chunk->bytes = bytes;
  chunk->shareable = true;
  chunk->charged = false;
  chunk->fd = import->fd();
  chunk->offset = offset;
  chunk->alias = import->alias();
  chunk->import = std::move(import);
  return chunk;
}

ChunkPtr ImportChunk(int fd) {
  int name = 0;
  Piece piece;
  if (!ReadPiece(fd, &name, &piece)) return nullptr;
  const int own = OpenPiece(fd, piece);
  return own >= 0 ? AdoptPiece(own, name, piece.offset, piece.bytes) : nullptr;
}

}  // namespace gpuroom::sim
