// OwnDescriptor: a socket of ours among the program's own descriptors. A forked
// child closes its copy (else the other side would not see this process end), and
// a number that the program has closed or taken is left alone.
//
// One thread at a time.
#pragma once

#include <sys/types.h>

#include "base/status.h"

namespace gpuroom {

class OwnDescriptor {
 public:
  OwnDescriptor() = default;
  ~OwnDescriptor() { Close(); }
  OwnDescriptor(OwnDescriptor&& other) noexcept;
  OwnDescriptor& operator=(OwnDescriptor&& other) noexcept;

  // Takes `fd`, which is close-on-exec; closed where that fails.
  static Result<OwnDescriptor> Take(int fd);

  // False where the program has closed or reused the descriptor.
  bool Intact() const;
  int fd() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace gpuroom
