// A server as sleep and wake meet it: an ordinary CUDA program that answers requests over HTTP by launching
// kernels on memory that it filled when it started. It knows of gpuroom only to give half of its memory
// a tag. Prints its port; one request a connection:
//   GET /check/N       how many words of buffer N are wrong
//   GET /fill/N/SEED   fills buffer N anew
//   GET /quit          ends the program
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>

#include "gpu.h"
#include "gpuroom/gpuroom.h"

namespace {

using gpuroom::samples::Gpu;

constexpr uint64_t kBytes = uint64_t{24} << 20;
constexpr size_t kBuffers = 4;

struct Buffer {
  CUdeviceptr address = 0;
  unsigned long long seed = 0;
};

class Server {
 public:
  bool Start() {
    const auto set_hint =
        reinterpret_cast<decltype(&gpuroom_set_thread_hint)>(dlsym(RTLD_DEFAULT, "gpuroom_set_thread_hint"));
    if (!gpu_.Load() || gpu_.Open() != CUDA_SUCCESS) return false;
    for (size_t i = 0; i < kBuffers; ++i) {
      buffers_[i].seed = i + 1;
      if (set_hint != nullptr) set_hint(GPUROOM_HINT_NONE, i < kBuffers / 2 ? "weights" : "");
      if (gpu_.Allocate(kBytes, &buffers_[i].address) != CUDA_SUCCESS || !Fill(i)) return false;
    }
    return true;
  }

  // False: the program is to end.
  bool Answer(int client) {
    char request[1024] = {};
    if (read(client, request, sizeof request - 1) <= 0) return true;
    if (std::strncmp(request, "GET /quit", 9) == 0) return Reply(client, "200 OK", "bye"), false;
    size_t index = 0;
    unsigned long long seed = 0;
    const int fields = std::sscanf(request, "GET /fill/%zu/%llu", &index, &seed);
    const bool fill = fields == 2;
    if (!fill && std::sscanf(request, "GET /check/%zu", &index) != 1) index = kBuffers;
    if (index >= kBuffers) return Reply(client, "404 Not Found", "no such buffer"), true;
    if (fill) buffers_[index].seed = seed;
    uint64_t wrong = 0;
    const bool good = fill ? Fill(index)
                           : gpu_.CountWrong(buffers_[index].address, kBytes / 8, buffers_[index].seed,
                                             &wrong) == CUDA_SUCCESS;
    Reply(client, good ? "200 OK" : "500 Error", good ? std::to_string(wrong) : "a CUDA call failed");
    return true;
  }

 private:
  bool Fill(size_t index) {
    return gpu_.Fill(buffers_[index].address, kBytes / 8, buffers_[index].seed) == CUDA_SUCCESS;
  }

  static void Reply(int client, const char* status, const std::string& body) {
    const std::string text = std::string("HTTP/1.0 ") + status +
                             "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    (void)!send(client, text.data(), text.size(), MSG_NOSIGNAL);
  }

  Gpu gpu_;
  std::array<Buffer, kBuffers> buffers_;
};

int Listen() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd, generic, length) != 0 || listen(fd, 64) != 0 || getsockname(fd, generic, &length) != 0)
    return -1;
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return fd;
}

}  // namespace

int main() {
  Server server;
  if (!server.Start()) {
    std::fprintf(stderr, "the GPU cannot be used\n");
    return 1;
  }
  const int listener = Listen();
  for (bool go_on = listener >= 0; go_on;) {
    const int client = accept(listener, nullptr, nullptr);
    go_on = client < 0 || server.Answer(client);
    if (client >= 0) close(client);
  }
  return 0;
}
