#include "cli/listen_address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstring>

#include "cli/parser.h"
#include "sleep/control_line.h"

namespace gpuroom {
namespace {

constexpr uint32_t kLoopbackNet = 127;  // the first byte of its addresses

template <typename Address>
void Store(const Address& address, ListenAddress* out) {
  static_assert(sizeof(Address) <= sizeof out->storage);
  std::memcpy(&out->storage, &address, sizeof address);
  out->length = sizeof address;
}

bool StoreIPv4(const std::string& host, uint16_t port, ListenAddress* out) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return false;
  out->loopback = ntohl(address.sin_addr.s_addr) >> 24 == kLoopbackNet;
  Store(address, out);
  return true;
}

bool StoreIPv6(const std::string& host, uint16_t port, ListenAddress* out) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  if (inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) != 1) return false;
  out->loopback = IN6_IS_ADDR_LOOPBACK(&address.sin6_addr) != 0;
  Store(address, out);
  return true;
}

}  // namespace

Failure ParseListenAddress(const std::string& text, ListenAddress* out) {
  out->text = text;
  const size_t colon = text.rfind(':');
  std::string host = colon == std::string::npos ? "127.0.0.1" : text.substr(0, colon);
  const Result<uint64_t> port = ParsePlainDecimal(text.substr(colon + 1));  // npos + 1: from the start
  if (host == "localhost") host = "127.0.0.1";
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  const bool good = port.ok() && *port <= UINT16_MAX;
  const auto number = static_cast<uint16_t>(good ? *port : 0);
  if (good && bracketed && StoreIPv6(host.substr(1, host.size() - 2), number, out)) return {};
  if (good && !bracketed && StoreIPv4(host, number, out)) return {};
  return Usage(fmt::format(
      "--listen '{}' is no address and port; write them in numbers, such as 127.0.0.1:9400 or [::1]:9400",
      text));
}

std::string ListeningAt(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  char host[INET6_ADDRSTRLEN] = "?";
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 address{};
    std::memcpy(&address, &storage, sizeof address);
    inet_ntop(AF_INET6, &address.sin6_addr, host, sizeof host);
    return fmt::format("[{}]:{}", host, ntohs(address.sin6_port));
  }
  sockaddr_in address{};
  std::memcpy(&address, &storage, sizeof address);
  inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
  return fmt::format("{}:{}", host, ntohs(address.sin_port));
}

}  // namespace gpuroom
