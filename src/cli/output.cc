#include "cli/output.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace gpuroom {

Failure FlushOutput() {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int error = flushed ? 0 : errno;
  const bool written = flushed && std::ferror(stdout) == 0;
  std::clearerr(stdout);  // one sentence says it
  return written ? Failure{} : UnwrittenOutput(error);
}

Failure UnwrittenOutput(int error) {
  const char* why = error != 0 ? std::strerror(error) : "an earlier part of it was lost";
  return {kExitFailed,
          fmt::format("the output cannot be written: {}; free some space, or print elsewhere", why)};
}

}  // namespace gpuroom
