#include "runner.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>

namespace gpuroom::conformance {
namespace {

constexpr int kHungMilliseconds = 60000;

bool WriteAll(int fd, const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(fd, p, bytes);
    if (n <= 0) return false;
    p += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

bool OnSimulator() {
  static const bool answer = [] {
    const pid_t child = fork();
    if (child == 0) {
      void* library = dlopen("libcuda.so.1", RTLD_NOW);
      _exit(library != nullptr && dlsym(library, "gpuroom_sim_call_count") != nullptr ? 0 : 1);
    }
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }();
  return answer;
}

std::string Runner::Answer(size_t index) {
  const bool isolated = probes_[index].isolation != Isolation::kShared;
  if (isolated) StopWorker();
  if (worker_ < 0) StartWorker();
  if (!WriteAll(requests_, &index, sizeof index)) return Died("died before the probe");
  std::string answer = ReadAnswer();
  if (isolated || answer.find(" [context: ") != std::string::npos) StopWorker();
  return answer;
}

void Runner::StartWorker() {
  int requests[2];
  int answers[2];
  if (pipe2(requests, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) {
    std::perror("gpuroom_conformance: pipe");
    _exit(1);
  }
  std::fflush(nullptr);
  worker_ = fork();
  if (worker_ == 0) {
    close(requests[1]);
    close(answers[0]);
    Work(requests[0], answers[1]);
  }
  close(requests[0]);
  close(answers[1]);
  requests_ = requests[1];
  answers_ = answers[0];
}

void Runner::StopWorker() {
  if (worker_ < 0) return;
  close(requests_);
  close(answers_);
  // A worker between probes leaves by itself when its requests end.
  waitpid(worker_, nullptr, 0);
  worker_ = -1;
}

void Runner::Work(int requests, int answers) {
  std::unique_ptr<Session> session;
  size_t index = 0;
  while (read(requests, &index, sizeof index) == static_cast<ssize_t>(sizeof index)) {
    std::string answer;
    try {
      if (session == nullptr) session = std::make_unique<Session>();
      answer = Ask(probes_[index], *session);
      const bool bare = probes_[index].isolation == Isolation::kBare;
      const CUresult after = bare ? CUDA_SUCCESS : session->cu().CtxSynchronize();
      if (after != CUDA_SUCCESS) answer += " [context: " + Name(after) + "]";
    } catch (const ProbeFailure& failure) {
      answer = failure.what();
    }
    answer += '\n';
    if (!WriteAll(answers, answer.data(), answer.size())) break;
  }
  std::fflush(nullptr);
  _exit(0);
}

std::string Runner::ReadAnswer() {
  std::string answer;
  while (true) {
    pollfd ready = {answers_, POLLIN, 0};
    if (poll(&ready, 1, kHungMilliseconds) == 0) {
      kill(worker_, SIGKILL);
      return Died("hung");
    }
    char buffer[512];
    const ssize_t n = read(answers_, buffer, sizeof buffer);
    if (n <= 0) return Died("died");
    answer.append(buffer, static_cast<size_t>(n));
    if (answer.back() == '\n') break;
  }
  answer.pop_back();
  return answer;
}

std::string Runner::Died(const char* why) {
  int status = 0;
  waitpid(worker_, &status, 0);
  worker_ = -1;
  close(requests_);
  close(answers_);
  if (std::strcmp(why, "hung") == 0) return why;
  if (WIFSIGNALED(status)) return std::string(why) + ": signal " + std::to_string(WTERMSIG(status));
  return std::string(why) + ": exit status " + std::to_string(WEXITSTATUS(status));
}

}  // namespace gpuroom::conformance
