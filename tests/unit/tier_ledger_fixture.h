// What the ledger's tests share: a path in a folder of the test's own, a child
// process with a pipe each way, and the raw locks and bytes of the file.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "tier/ledger.h"

namespace gpuroom {

inline constexpr uint64_t kMi = uint64_t{1} << 20;

inline GpuUuid UuidNamed(char name) {
  GpuUuid uuid{};
  uuid.fill(name);
  return uuid;
}

// The bytes of the word that stands for a share.
inline std::string WordOf(uint32_t slot, uint64_t bytes) {
  const uint64_t word = EncodeShare(slot, bytes);
  return {reinterpret_cast<const char*>(&word), sizeof word};
}

// Of all live shares.
inline uint64_t Total(Ledger& ledger) { return ledger.Own() + ledger.Others(); }

class LedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    char text[] = "/tmp/gpuroom-ledger-XXXXXX";
    ASSERT_NE(mkdtemp(text), nullptr);
    folder_ = text;
    path_ = folder_ + "/ledger";
  }
  void TearDown() override {
    for (const char* name : {"/ledger", "/other", "/moved"}) unlink((folder_ + name).c_str());
    rmdir((folder_ + "/ledger").c_str());
    EXPECT_EQ(rmdir(folder_.c_str()), 0) << "the test left something in " << folder_;
  }

  std::unique_ptr<Ledger> OpenLedger() {
    auto opened = Ledger::Open(path_.c_str());
    EXPECT_TRUE(opened.ok()) << opened.status().what() << " (" << opened.status().native() << ")";
    return opened.ok() ? std::move(*opened) : nullptr;
  }
  Status OpenStatus() const { return Ledger::Open(path_.c_str()).status(); }

  void WriteFile(const std::string& bytes, off_t offset = 0, int flags = O_CREAT) const {
    const int fd = open(path_.c_str(), O_WRONLY | flags, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), offset), static_cast<ssize_t>(bytes.size()));
    close(fd);
  }
  std::string ReadFile(const std::string& path) const {
    std::string bytes(1 << 16, '\0');
    const int fd = open(path.c_str(), O_RDONLY);
    const ssize_t n = pread(fd, bytes.data(), bytes.size(), 0);
    close(fd);
    bytes.resize(n < 0 ? 0 : static_cast<size_t>(n));
    return bytes;
  }

  std::string folder_;
  std::string path_;
};

// A forked process that runs `body(child)` and leaves by _exit. The two sides
// meet by single bytes: Send and Await, which fails when the other side is gone.
class Child {
 public:
  template <typename F>
  explicit Child(F body) {
    int down[2];
    int up[2];
    if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0) abort();
    pid_ = fork();
    in_ = pid_ == 0 ? down[0] : up[0];
    out_ = pid_ == 0 ? up[1] : down[1];
    close(pid_ == 0 ? down[1] : up[1]);
    close(pid_ == 0 ? up[0] : down[0]);
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(body(*this) ? 0 : 1);
  }
  ~Child() {
    if (pid_ > 0) Kill();
    close(in_);
    close(out_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Send() { static_cast<void>(!write(out_, "x", 1)); }
  bool Await() {
    char byte;
    ssize_t n;
    while ((n = read(in_, &byte, 1)) < 0 && errno == EINTR) {
    }
    return n == 1;
  }
  // Until the process has ended, and left as a zombie.
  void KillOnly() {
    kill(pid_, SIGKILL);
    siginfo_t info;
    static_cast<void>(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT));
  }
  void Kill() {
    kill(pid_, SIGKILL);
    Wait();
  }
  int Wait() {
    int status = -1;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  bool Ended() const {
    siginfo_t info = {};
    waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    return info.si_pid != 0;
  }
  // In the child, first: lets the parent count its system calls. False: not here.
  static bool Traced() { return ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 && raise(SIGSTOP) == 0; }
  // Lets a traced child run to its `stop`-th entry to or return from a system call.
  // Returns its wait status; one that has exited was reaped.
  int RunToStop(int stop) {
    int status = 0;
    waitpid(pid_, &status, 0);
    for (int i = 0; i < stop && WIFSTOPPED(status); ++i) {
      if (ptrace(PTRACE_SYSCALL, pid_, nullptr, nullptr) != 0) break;
      waitpid(pid_, &status, 0);
    }
    if (!WIFSTOPPED(status)) pid_ = -1;
    return status;
  }
  // Lets it run on to its end. Returns its wait status.
  int RunOut() {
    ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
    return Wait();
  }
  pid_t pid() const { return pid_; }
  int in() const { return in_; }

 private:
  pid_t pid_;
  int in_;
  int out_;
};

// Locks bytes of the file as another process would, until destroyed.
class RawLock {
 public:
  RawLock(const std::string& path, off_t start, off_t length) : fd_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    Set(F_WRLCK, start, length);
  }
  ~RawLock() { close(fd_); }
  RawLock(const RawLock&) = delete;
  RawLock& operator=(const RawLock&) = delete;
  void Set(short type, off_t start, off_t length) {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = start;
    lock.l_len = length;
    EXPECT_EQ(fcntl(fd_, F_OFD_SETLK, &lock), 0);
  }

 private:
  int fd_;
};

}  // namespace gpuroom
