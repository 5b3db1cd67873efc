// Asleep: what memory has instead of chunks while it sleeps: its contents, or the
// word that they are gone, and what is needed to make it again. src/sleep makes
// and reads them; all others only drop them, when the memory is freed.
#pragma once

#include <cstdint>

namespace gpuroom {

// What becomes of the contents.
enum class SleepAction : uint8_t {
  kKeep,  // backed up to host memory
  kDisk,  // backed up to a file
  kDrop,  // lost
};

// Bytes of the memory by where they are now.
struct AsleepBytes {
  uint64_t kept = 0;     // in host memory
  uint64_t on_disk = 0;  // in a file
  uint64_t dropped = 0;  // nowhere
};

class Asleep {
 public:
  Asleep() = default;
  // Gives the backup back. Any thread.
  virtual ~Asleep() = default;
  Asleep(const Asleep&) = delete;
  Asleep& operator=(const Asleep&) = delete;

  virtual AsleepBytes Bytes() const = 0;
  // Bytes of contents that backups in host memory hold: what the sleep took of the host. Contents that lay on
  // the host before, and stay in their own chunks, are not among them.
  virtual uint64_t BackupBytes() const = 0;
};

}  // namespace gpuroom
