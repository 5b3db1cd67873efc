#include "cli/status_text.h"

#include <fmt/format.h>

#include <cstring>

#include "driver/driver.h"

namespace gpuroom {
namespace {

// What native() is depends on the code.
std::string Cause(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
    case Code::kOutOfMemory: return "";  // the code says it all
    case Code::kInvalidArgument:
    case Code::kSystem:
    case Code::kBusy: return std::strerror(status.native());
    case Code::kNotFound:
    case Code::kUnsupported:
    case Code::kDriver: return ErrorName(static_cast<CUresult>(status.native()));
  }
  return "";
}

}  // namespace

std::string DescribeStatus(const Status& status) {
  const bool old_driver = status.code() == Code::kUnsupported && status.native() >= 1000;
  if (old_driver) {
    return fmt::format("{} (this one serves CUDA {}.{})", status.what(), status.native() / 1000,
                       status.native() % 1000 / 10);
  }
  const std::string cause = status.native() == 0 ? "" : Cause(status);
  return cause.empty() ? status.what() : fmt::format("{}: {}", status.what(), cause);
}

}  // namespace gpuroom
