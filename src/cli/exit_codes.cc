#include "cli/exit_codes.h"

#include <fmt/format.h>

#include <cstdio>

namespace headroom {

int Report(const Failure& failure) {
  fmt::print(stderr, "headroom: {}\n", failure.text);
  return failure.exit_code;
}

}  // namespace headroom
