// Child: this test program, run again as another process that plays a role. It
// speaks through its standard output and listens on its standard input.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace gpuroom::shim_test {

using Environment = std::vector<std::pair<std::string, std::string>>;

struct Child {
  pid_t pid = -1;
  FILE* from = nullptr;
  int to = -1;

  std::string ReadLine() const {
    char text[4096] = {};
    return std::fgets(text, sizeof text, from) == nullptr ? "" : text;
  }
  void Tell(const std::string& text) const {
    ASSERT_EQ(write(to, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  int Wait() {
    close(to);
    int status = -1;
    waitpid(pid, &status, 0);
    std::fclose(from);
    return status;
  }
};

// Under an emulator the kernel cannot execute this program; the emulator can.
inline void ExecSelf(const char* role) {
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return;
  const char* emulator = std::getenv("GPUROOM_EMULATOR");
  if (emulator == nullptr) {
    execl(self, self, role, nullptr);
  } else {
    execlp(emulator, emulator, "-L", std::getenv("GPUROOM_EMULATED_ROOT"), self, role, nullptr);
  }
}

// With `environment` added to this process's own.
inline Child StartChild(const char* role, const Environment& environment = {}) {
  int out[2];
  int in[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(in, O_CLOEXEC) != 0) return {};
  Child child;
  child.pid = fork();
  if (child.pid == 0) {
    dup2(out[1], STDOUT_FILENO);
    dup2(in[0], STDIN_FILENO);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    ExecSelf(role);
    _exit(127);
  }
  close(out[1]);
  close(in[0]);
  child.from = fdopen(out[0], "r");
  child.to = in[1];
  return child;
}

}  // namespace gpuroom::shim_test
