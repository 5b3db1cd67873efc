// A folder of this process's own below TMPDIR, for targets whose code under test reads files. Removed at
// exit.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "fuzz.h"

namespace gpuroom::fuzz {

class ScratchFolder {
 public:
  ScratchFolder() {
    const char* where = std::getenv("TMPDIR");
    path_ = std::string(where != nullptr ? where : "/tmp") + "/gpuroom-fuzz-XXXXXX";
    Require(mkdtemp(path_.data()) != nullptr, "TMPDIR is a folder that can be written");
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace gpuroom::fuzz
