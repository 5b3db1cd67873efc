#include "physical.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "state.h"

namespace gpuroom::sim {
namespace {
constexpr uint64_t kSlabBytes = kGiB;
constexpr char kNamePrefix[] = "gpuroom-sim place=";
}  // namespace

// A sparse memory file and its alias; hands out pieces first fit.
class Slab {
 public:
  static std::shared_ptr<Slab> Create(uint64_t bytes, const char* name) {
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) return nullptr;
    if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
      close(fd);
      return nullptr;
    }
    return Adopt(fd, bytes);
  }

  // Takes the descriptor over.
  static std::shared_ptr<Slab> Adopt(int fd, uint64_t bytes) {
    void* alias = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (alias == MAP_FAILED) {
      close(fd);
      return nullptr;
    }
    return std::shared_ptr<Slab>(new Slab(fd, bytes, static_cast<char*>(alias)));
  }

  ~Slab() {
    munmap(alias_, bytes_);
    close(fd_);
  }

  bool Take(uint64_t bytes, uint64_t* offset) {
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < bytes) continue;
      *offset = it->first;
      const uint64_t rest = it->second - bytes;
      free_.erase(it);
      if (rest > 0) free_.emplace(*offset + bytes, rest);
      return true;
    }
    return false;
  }

  void Return(uint64_t offset, uint64_t bytes) {
    if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(bytes)) != 0) {
      std::memset(alias_ + offset, 0, bytes);  // what is reused must read as zeros
    }
    auto it = free_.emplace(offset, bytes).first;
    const auto next = std::next(it);
    if (next != free_.end() && it->first + it->second == next->first) {
      it->second += next->second;
      free_.erase(next);
    }
    if (it != free_.begin()) {
      const auto previous = std::prev(it);
      if (previous->first + previous->second == it->first) {
        previous->second += it->second;
        free_.erase(it);
      }
    }
  }

  bool Empty() const { return free_.size() == 1 && free_.begin()->second == bytes_; }
  int fd() const { return fd_; }
  char* alias() const { return alias_; }
  uint64_t bytes() const { return bytes_; }

 private:
  Slab(int fd, uint64_t bytes, char* alias) : fd_(fd), bytes_(bytes), alias_(alias) {
    free_.emplace(0, bytes);
  }
  int fd_;
  uint64_t bytes_;
  char* alias_;
  std::map<uint64_t, uint64_t> free_;
};

namespace {

// Slabs that serve chunks up to half their size.
std::vector<std::shared_ptr<Slab>>& SharedSlabs() {
  static auto* slabs = new std::vector<std::shared_ptr<Slab>>;
  return *slabs;
}

std::shared_ptr<Slab> TakeFromSlab(uint64_t bytes, uint64_t* offset) {
  if (bytes <= kSlabBytes / 2) {
    for (auto& slab : SharedSlabs()) {
      if (slab->Take(bytes, offset)) return slab;
    }
  }
  auto slab = Slab::Create(bytes <= kSlabBytes / 2 ? kSlabBytes : bytes, "gpuroom-sim");
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
  // An exported file may live on in another process.
  if (slab != nullptr && !shareable) slab->Return(offset, bytes);
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
  if (shareable) {
    char name[64];
    std::snprintf(name, sizeof name, "%s%d", kNamePrefix, place.index);
    chunk->slab = Slab::Create(bytes, name);
    if (chunk->slab != nullptr) chunk->slab->Take(bytes, &chunk->offset);
  } else {
    chunk->slab = TakeFromSlab(bytes, &chunk->offset);
  }
  if (chunk->slab == nullptr) return nullptr;
  chunk->fd = chunk->slab->fd();
  chunk->alias = chunk->slab->alias() + chunk->offset;
  return chunk;
}

int ExportChunk(const Chunk& chunk) { return fcntl(chunk.fd, F_DUPFD_CLOEXEC, 0); }

ChunkPtr AdoptFile(int fd, Place place) {
  struct stat info;
  if (fstat(fd, &info) != 0) {
    close(fd);
    return nullptr;
  }
  auto slab = Slab::Adopt(fd, static_cast<uint64_t>(info.st_size));
  if (slab == nullptr) return nullptr;
  auto chunk = std::make_shared<Chunk>();
  chunk->id = GetState().NextId();
  chunk->place = place;
  chunk->bytes = slab->bytes();
  chunk->shareable = true;
  chunk->charged = false;
  chunk->fd = fd;
  chunk->alias = slab->alias();
  chunk->slab = std::move(slab);
  return chunk;
}

ChunkPtr ImportChunk(int fd) {
  char path[64];
  char name[128] = {};
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (readlink(path, name, sizeof name - 1) <= 0) return nullptr;
  const char* start = std::strstr(name, kNamePrefix);
  int place = 0;
  if (start == nullptr || std::sscanf(start + std::strlen(kNamePrefix), "%d", &place) != 1) {
    return nullptr;
  }
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return nullptr;
  return AdoptFile(own, Place{place});
}

}  // namespace gpuroom::sim
