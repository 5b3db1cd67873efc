// The socket between members and the arbiter: a Unix socket that keeps the borders of messages, so that one
// send is one message and neither side waits for the rest of one. Nobody but the same user and root is heard.
#pragma once

#include <sys/socket.h>

#include <string>

#include "runtime/own_descriptor.h"

namespace gpuroom {

// A file that one process at a time has locked, as long as it lives.
class ShareLock {
 public:
  // kBusy: another process has it.
  static Result<ShareLock> Take(const std::string& path);
  // Whether the name still leads to it: else another process may have locked what has the name now.
  bool HasName() const;

 private:
  OwnDescriptor file_;
  std::string path_;
};

// A socket that listens under a name.
class ShareListener {
 public:
  // Takes the place of what has that name, once it can be connected to.
  static Result<ShareListener> At(const std::string& path);

  const OwnDescriptor& socket() const { return socket_; }
  const std::string& path() const { return path_; }
  // Whether the name still leads here: it may have been cleaned up.
  bool HasName() const;

 private:
  OwnDescriptor socket_;
  std::string path_;
  dev_t device_ = 0;  // of the name
  ino_t inode_ = 0;
};

// Does not wait. kNotFound: nobody listens. kInvalidArgument: another user's process does.
Result<OwnDescriptor> ConnectTo(const std::string& path);
// kNotFound: nobody is waiting. kInvalidArgument: another user's process. `peer` is who connected.
Result<OwnDescriptor> AcceptFrom(const OwnDescriptor& listener, ucred* peer);

// Neither waits. kBusy: the other side has not read what was sent before. kNotFound: it is gone.
Status SendPacket(const OwnDescriptor& socket, const std::string& packet);
// kBusy: nothing has come. kNotFound: the other side is gone.
Result<std::string> ReceivePacket(const OwnDescriptor& socket);

}  // namespace gpuroom
