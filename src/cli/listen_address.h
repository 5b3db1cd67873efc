// Where `gpuroom exporter --listen` listens: an address in numbers, so that no name server decides who can
// reach it.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "cli/exit_codes.h"

namespace gpuroom {

struct ListenAddress {
  std::string text;  // as it was given
  sockaddr_storage storage{};
  socklen_t length = 0;
  bool loopback = false;  // this machine alone reaches it
};

// "127.0.0.1:9400", "[::1]:9400", "localhost:9400", or "9400" alone, which is 127.0.0.1's. Port 0: any that
// is free.
Failure ParseListenAddress(const std::string& text, ListenAddress* out);
// The address and port of the listening socket `fd`, in the same form.
std::string ListeningAt(int fd);

}  // namespace gpuroom
