// Slab: a sparse memory file that many chunks lie in, so that a process needs few descriptors however many
// chunks it has. Piece: one chunk's bytes in such a file.
//
// A descriptor that stands for one piece alone is an open file of its own on the slab's file: its position
// says which piece it is, and it holds a lock on the piece's bytes. The kernel drops that lock when the last
// copy of the descriptor is closed, in whatever process, so the slab's owner can tell when a piece that it
// gave away is no longer in use. All under the State's lock.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace gpuroom::sim {

struct Piece {
  uint64_t offset = 0;  // bytes, a multiple of the granularity where it is exported
  uint64_t bytes = 0;
  bool operator==(const Piece&) const = default;
};

// A descriptor that stands for `piece` of the slab's file `fd`, or -1.
int OpenPiece(int fd, Piece piece);
// What a descriptor that OpenPiece gave stands for. False: it is none.
bool ReadPiece(int fd, int* place, Piece* piece);

class Slab {
 public:
  // `place` is the shared name (State::SharedName) of where all chunks in it are. Null: this machine has no
  // more.
  static std::shared_ptr<Slab> Create(uint64_t bytes, int place);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  // First fit. The bytes read as zeros.
  bool Take(uint64_t bytes, uint64_t* offset);
  // `exported`: other processes may hold the piece; it is reused when they have let go.
  void Return(uint64_t offset, uint64_t bytes, bool exported);

  bool Empty() const { return free_.size() == 1 && free_.begin()->second == bytes_; }
  int place() const { return place_; }
  int fd() const { return fd_; }
  char* alias() const { return alias_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Slab(int fd, uint64_t bytes, char* alias, int place);
  bool HeldElsewhere(Piece piece) const;
  void CollectLent();
  void Free(Piece piece);

  const int fd_;
  const uint64_t bytes_;
  char* const alias_;
  const int place_;
  std::map<uint64_t, uint64_t> free_;  // offset to bytes
  std::vector<Piece> lent_;            // returned, but held elsewhere
};

// A piece of another process's slab, mapped here. All pieces of one file share a descriptor.
class ImportedPiece {
 public:
  // Takes `fd` over. Null: it cannot be mapped.
  static std::shared_ptr<ImportedPiece> Adopt(int fd, Piece piece);
  ~ImportedPiece();
  ImportedPiece(const ImportedPiece&) = delete;
  ImportedPiece& operator=(const ImportedPiece&) = delete;

  int fd() const;
  char* alias() const { return alias_; }

 private:
  class File;
  ImportedPiece(std::shared_ptr<File> file, Piece piece, char* mapped, char* alias);

  const std::shared_ptr<File> file_;
  const Piece piece_;
  char* const mapped_;  // alias_, rounded down to a page
  char* const alias_;
};

}  // namespace gpuroom::sim
