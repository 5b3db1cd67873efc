#include "slab.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "profile.h"

namespace gpuroom::sim {
namespace {

constexpr char kNamePrefix[] = "gpuroom-sim place=";
constexpr int kBytesShift =
    31;  // a position is the piece's bytes and, below this bit, its offset, both in granules
constexpr uint64_t kOffsetMask = (uint64_t{1} << kBytesShift) - 1;

struct flock LockOn(Piece piece, int type) {
  struct flock lock = {};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(piece.offset);
  lock.l_len = static_cast<off_t>(piece.bytes);
  return lock;
}

// The lock belongs to the open file, not to the process: descriptors that are passed on share it.
bool SetLock(int fd, Piece piece, int type) {
  struct flock lock = LockOn(piece, type);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

off_t Position(Piece piece) {
  return static_cast<off_t>(piece.bytes / kGranularity << kBytesShift | piece.offset / kGranularity);
}

}  // namespace

int OpenPiece(int fd, Piece piece) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int own = open(path, O_RDWR | O_CLOEXEC);
  if (own < 0) return -1;
  if (lseek(own, Position(piece), SEEK_SET) >= 0 && SetLock(own, piece, F_RDLCK)) return own;
  close(own);
  return -1;
}

bool ReadPiece(int fd, int* place, Piece* piece) {
  char path[64];
  char name[128] = {};
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (readlink(path, name, sizeof name - 1) <= 0) return false;
  const char* start = std::strstr(name, kNamePrefix);
  if (start == nullptr || std::sscanf(start + std::strlen(kNamePrefix), "%d", place) != 1) return false;
  const off_t position = lseek(fd, 0, SEEK_CUR);
  if (position <= 0) return false;
  piece->offset = (static_cast<uint64_t>(position) & kOffsetMask) * kGranularity;
  piece->bytes = (static_cast<uint64_t>(position) >> kBytesShift) * kGranularity;
  return piece->bytes != 0;
}

std::shared_ptr<Slab> Slab::Create(uint64_t bytes, int place) {
  char name[64];
  std::snprintf(name, sizeof name, "%s%d", kNamePrefix, place);
  const int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return nullptr;
  void* alias = MAP_FAILED;
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    alias = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  }
  if (alias == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  return std::shared_ptr<Slab>(new Slab(fd, bytes, static_cast<char*>(alias), place));
}

Slab::Slab(int fd, uint64_t bytes, char* alias, int place)
    : fd_(fd), bytes_(bytes), alias_(alias), place_(place) {
  free_.emplace(0, bytes);
}

Slab::~Slab() {
  munmap(alias_, bytes_);
  close(fd_);
}

bool Slab::Take(uint64_t bytes, uint64_t* offset) {
  CollectLent();
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

void Slab::Return(uint64_t offset, uint64_t bytes, bool exported) {
  const Piece piece{offset, bytes};
  if (exported && HeldElsewhere(piece)) {
    lent_.push_back(piece);
  } else {
    Free(piece);
  }
}

bool Slab::HeldElsewhere(Piece piece) const {
  struct flock lock = LockOn(piece, F_WRLCK);
  return fcntl(fd_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void Slab::CollectLent() {
  for (const Piece& piece : std::exchange(lent_, {})) Return(piece.offset, piece.bytes, true);
}

void Slab::Free(Piece piece) {
  if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(piece.offset),
                static_cast<off_t>(piece.bytes)) != 0) {
    std::memset(alias_ + piece.offset, 0, piece.bytes);  // what is reused must read as zeros
  }
  auto it = free_.emplace(piece.offset, piece.bytes).first;
  const auto next = std::next(it);
  if (next != free_.end() && it->first + it->second == next->first) {
    it->second += next->second;
    free_.erase(next);
  }
  if (it == free_.begin()) return;
  const auto previous = std::prev(it);
  if (previous->first + previous->second != it->first) return;
  previous->second += it->second;
  free_.erase(it);
}

// One file of another process, with the pieces of it that are held here and how often each is.
class ImportedPiece::File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // The file behind `fd`, which it takes over. Null: `fd` is none.
  static std::shared_ptr<File> Of(int fd) {
    static auto* known = new std::map<std::pair<dev_t, ino_t>, std::weak_ptr<File>>;
    struct stat info;
    if (fstat(fd, &info) != 0) {
      close(fd);
      return nullptr;
    }
    std::erase_if(*known, [](const auto& entry) { return entry.second.expired(); });
    std::weak_ptr<File>& slot = (*known)[{info.st_dev, info.st_ino}];
    std::shared_ptr<File> file = slot.lock();
    if (file != nullptr) {
      close(fd);
    } else {
      slot = file = std::make_shared<File>(fd);
    }
    return file;
  }

  bool Hold(Piece piece) {
    if (!SetLock(fd_, piece, F_RDLCK)) return false;
    ++held_[{piece.offset, piece.bytes}];
    return true;
  }
  void LetGo(Piece piece) {
    const auto held = held_.find({piece.offset, piece.bytes});
    if (--held->second > 0) return;
    held_.erase(held);
    SetLock(fd_, piece, F_UNLCK);
  }

  int fd() const { return fd_; }

 private:
  const int fd_;
  std::map<std::pair<uint64_t, uint64_t>, int> held_;
};

std::shared_ptr<ImportedPiece> ImportedPiece::Adopt(int fd, Piece piece) {
  std::shared_ptr<File> file = File::Of(fd);
  if (file == nullptr || !file->Hold(piece)) return nullptr;
  const uint64_t lead = piece.offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  void* mapped = mmap(nullptr, piece.bytes + lead, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                      file->fd(), static_cast<off_t>(piece.offset - lead));
  if (mapped == MAP_FAILED) {
    file->LetGo(piece);
    return nullptr;
  }
  char* start = static_cast<char*>(mapped);
  return std::shared_ptr<ImportedPiece>(new ImportedPiece(std::move(file), piece, start, start + lead));
}

ImportedPiece::ImportedPiece(std::shared_ptr<File> file, Piece piece, char* mapped, char* alias)
    : file_(std::move(file)), piece_(piece), mapped_(mapped), alias_(alias) {}

ImportedPiece::~ImportedPiece() {
  munmap(mapped_, piece_.bytes + static_cast<uint64_t>(alias_ - mapped_));
  file_->LetGo(piece_);
}

int ImportedPiece::fd() const { return file_->fd(); }

}  // namespace gpuroom::sim
