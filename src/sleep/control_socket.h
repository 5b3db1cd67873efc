// ControlSocket: this process's listening socket, PID.sock in the control folder.
// The name appears once it can be connected to; one that is left from a process
// that was killed is replaced.
//
// One thread at a time.
#pragma once

#include <sys/un.h>

#include <string>

#include "runtime/own_descriptor.h"

namespace gpuroom {

// The address of the socket file `path`. False: the path is too long for one.
bool SocketAddress(const std::string& path, sockaddr_un* out);

class ControlSocket {
 public:
  ControlSocket() = default;

  // kBusy: a process of another pid namespace answers under this name. Else as
  // MakeControlDirectory; the text says what to do.
  static Result<ControlSocket> Listen(const std::string& directory);

  // kNotFound: nobody is waiting. kInvalidArgument: another user's process.
  Result<OwnDescriptor> Accept() const;
  // False where the program has closed or taken the descriptor.
  bool Intact() const { return own_.Intact(); }
  int fd() const { return own_.fd(); }
  const std::string& path() const { return path_; }

  // Takes the name away, if it still is this socket's, and wakes who polls it. Not in a
  // forked child: there the descriptor is closed and the name the parent's.
  void Remove();

 private:
  OwnDescriptor own_;
  std::string path_;
  dev_t device_ = 0;  // of the name
  ino_t inode_ = 0;
};

}  // namespace gpuroom
