#include "machine.h"

#include <fcntl.h>
#include <unistd.h>

namespace gpuroom::sim {
namespace {

constexpr int kGpus = 16;
constexpr int64_t kTable = 0;  // the byte whose lock is the whole table's; row r's is kTable + 1 + r

// The column of a place's counter: GPU n, or host node n as -1 - n.
int ColumnOf(int place) { return place >= 0 ? place : kGpus - 1 - place; }

}  // namespace

bool Machine::Join(const char* path, Role role) {
  Close();
  if (path == nullptr || *path == '\0') return true;
  fd_ = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd_ >= 0 && (role == Role::kOnlooker || TakeRow())) return true;
  Close();
  return false;
}

void Machine::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  row_ = -1;
}

// What a dead process left in the row is gone before others can take it for this one's.
bool Machine::TakeRow() {
  if (!Lock(F_WRLCK, F_OFD_SETLKW, kTable)) return false;
  for (int row = 0; row < kRows && row_ < 0; ++row) {
    if (Lock(F_WRLCK, F_OFD_SETLK, kTable + 1 + row)) row_ = row;
  }
  const uint64_t none[kCounters] = {};
  const bool taken =
      row_ >= 0 && pwrite(fd_, none, sizeof none, row_ * static_cast<off_t>(sizeof none)) == sizeof none;
  Lock(F_UNLCK, F_OFD_SETLK, kTable);
  return taken;
}

bool Machine::Lock(short type, int command, int64_t byte) const {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(fd_, command, &lock) == 0;
}

bool Machine::IsTaken(int row) const {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kTable + 1 + row;
  lock.l_len = 1;
  return fcntl(fd_, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool Machine::Add(int place, uint64_t bytes, uint64_t capacity) {
  const int column = ColumnOf(place);
  const uint64_t own = own_[column];
  if (bytes > capacity || own > capacity - bytes) return false;
  if (fd_ < 0) return Write(column, own + bytes);
  Lock(F_WRLCK, F_OFD_SETLKW, kTable);
  const bool fits = Others(place) <= capacity - own - bytes && Write(column, own + bytes);
  Lock(F_UNLCK, F_OFD_SETLK, kTable);
  return fits;
}

void Machine::Remove(int place, uint64_t bytes) {
  const int column = ColumnOf(place);
  Write(column, own_[column] - bytes);
}

uint64_t Machine::Own(int place) const { return own_[ColumnOf(place)]; }

void Machine::SetContextBytes(int place, uint64_t bytes) {
  const int column = ColumnOf(place);
  context_bytes_[column] = bytes;
  Write(column, own_[column]);
}

bool Machine::Write(int column, uint64_t bytes) {
  own_[column] = bytes;
  if (fd_ < 0) return true;
  const uint64_t all = bytes + context_bytes_[column];
  const off_t offset = (row_ * kCounters + column) * static_cast<off_t>(sizeof all);
  return pwrite(fd_, &all, sizeof all, offset) == sizeof all;
}

uint64_t Machine::Others(int place) const {
  if (fd_ < 0) return 0;
  uint64_t rows[kRows][kCounters] = {};
  if (pread(fd_, rows, sizeof rows, 0) < 0) return 0;
  uint64_t sum = 0;
  for (int row = 0; row < kRows; ++row) {
    const uint64_t bytes = rows[row][ColumnOf(place)];
    if (row != row_ && bytes != 0 && IsTaken(row)) sum += bytes;
  }
  return sum;
}

}  // namespace gpuroom::sim
