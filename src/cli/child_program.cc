#include "cli/child_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace gpuroom {

int RunChild(std::vector<std::string> words, const ChildFiles& files) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (files.input >= 0) posix_spawn_file_actions_adddup2(&actions, files.input, STDIN_FILENO);
  if (files.output >= 0) posix_spawn_file_actions_adddup2(&actions, files.output, STDOUT_FILENO);
  if (files.errors >= 0) posix_spawn_file_actions_adddup2(&actions, files.errors, STDERR_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, words[0].c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return -1;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int UnnamedFile(const std::string& text) {
  FILE* file = std::tmpfile();
  if (file == nullptr) return -1;
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  const int copy = written ? fcntl(fileno(file), F_DUPFD_CLOEXEC, 3) : -1;
  std::fclose(file);
  if (copy >= 0) lseek(copy, 0, SEEK_SET);
  return copy;
}

std::string ReadFromStart(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace gpuroom
