// The sockets between processes that share memory: messages, descriptors, waits with an end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/clock.h"
#include "runtime/ipc_socket.h"

namespace gpuroom {
namespace {

constexpr uint64_t kSecond = 1000000000;

uint64_t Name() { return (static_cast<uint64_t>(getpid()) << 32) + 1; }
uint64_t Soon() { return NowNanoseconds() + 10 * kSecond; }

struct Pair {
  IpcSocket listener;
  IpcSocket client;
  IpcSocket server;
};

Pair Connected() {
  Pair pair;
  Result<IpcSocket> listener = IpcSocket::Listen(Name());
  EXPECT_TRUE(listener.ok());
  pair.listener = std::move(*listener);
  EXPECT_EQ(pair.listener.Accept().status().code(), Code::kNotFound);
  Result<IpcSocket> client = IpcSocket::Connect(Name(), Soon());
  EXPECT_TRUE(client.ok());
  pair.client = std::move(*client);
  Result<IpcSocket> server = pair.listener.Accept();
  EXPECT_TRUE(server.ok());
  pair.server = std::move(*server);
  return pair;
}

TEST(IpcSocketTest, OnlyTheSameUserAndRootMayShare) {
  EXPECT_TRUE(MaySharePeer(1000, 1000));
  EXPECT_TRUE(MaySharePeer(1000, 0));
  EXPECT_TRUE(MaySharePeer(0, 0));
  EXPECT_FALSE(MaySharePeer(1000, 1001));
  EXPECT_FALSE(MaySharePeer(0, 1000));
}

TEST(IpcSocketTest, MessagesKeepTheirBorders) {
  const Pair pair = Connected();
  ASSERT_TRUE(pair.client.Send("one", 3).ok());
  ASSERT_TRUE(pair.client.Send("fourteen bytes", 14).ok());
  char text[32] = {};
  Result<size_t> length = pair.server.Receive(text, sizeof text, nullptr, Soon());
  ASSERT_TRUE(length.ok());
  EXPECT_EQ(std::string(text, *length), "one");
  EXPECT_EQ(pair.server.Receive(text, 5, nullptr, 0).status().code(), Code::kInvalidArgument);  // cut off
  EXPECT_EQ(pair.server.Receive(text, sizeof text, nullptr, 0).status().code(), Code::kBusy);
}

TEST(IpcSocketTest, WaitingEnds) {
  const Pair pair = Connected();
  char text[8];
  const uint64_t deadline = NowNanoseconds() + kSecond / 50;
  EXPECT_EQ(pair.client.Receive(text, sizeof text, nullptr, deadline).status().code(), Code::kBusy);
  EXPECT_GE(NowNanoseconds(), deadline);
}

TEST(IpcSocketTest, TheOtherSidesEndIsAnEmptyMessage) {
  Pair pair = Connected();
  pair.client.Close();
  char text[8];
  const Result<size_t> length = pair.server.Receive(text, sizeof text, nullptr, Soon());
  ASSERT_TRUE(length.ok());
  EXPECT_EQ(*length, 0u);
  EXPECT_FALSE(pair.server.Send("x", 1).ok());  // and no signal
}

TEST(IpcSocketTest, DescriptorsTravelAndAreClosedByWhoeverHasThem) {
  const Pair pair = Connected();
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  {
    IpcDescriptors sent;
    for (uint32_t i = 0; i < kIpcBatch; ++i) sent.fds[sent.count++] = dup(ends[1]);
    ASSERT_TRUE(pair.server.Send("here", 4, &sent).ok());
  }
  close(ends[1]);
  {
    IpcDescriptors got;
    char text[8];
    ASSERT_TRUE(pair.client.Receive(text, sizeof text, &got, Soon()).ok());
    ASSERT_EQ(got.count, kIpcBatch);
    EXPECT_NE(fcntl(got.fds[7], F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(write(got.fds[kIpcBatch - 1], "x", 1), 1);
  }
  char byte = 0;
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  EXPECT_EQ(read(ends[0], &byte, 1), 0);  // no writer is left anywhere
  close(ends[0]);
}

TEST(IpcSocketTest, UnwantedDescriptorsAreClosed) {
  const Pair pair = Connected();
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  {
    IpcDescriptors sent;
    sent.fds[sent.count++] = ends[1];
    ASSERT_TRUE(pair.client.Send("take", 4, &sent).ok());
  }
  char text[8];
  ASSERT_TRUE(pair.server.Receive(text, sizeof text, nullptr, Soon()).ok());
  EXPECT_EQ(read(ends[0], text, 1), 0);
  close(ends[0]);
}

TEST(IpcSocketTest, NobodyThereIsAnAnswer) {
  EXPECT_EQ(IpcSocket::Connect(Name() + 7, Soon()).status().code(), Code::kNotFound);
  const Pair pair = Connected();
  EXPECT_EQ(IpcSocket::Listen(Name()).status().code(), Code::kSystem);  // taken
}

TEST(IpcSocketTest, AForkedChildKeepsNoCopy) {
  Pair pair = Connected();
  const int fds[] = {pair.listener.fd(), pair.client.fd(), pair.server.fd()};
  const pid_t pid = fork();
  if (pid == 0) {
    for (const int fd : fds) {
      if (fcntl(fd, F_GETFD) >= 0) _exit(1);
    }
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  for (const int fd : fds) EXPECT_GE(fcntl(fd, F_GETFD), 0);
}

TEST(IpcSocketTest, ANumberThatTheProgramTookIsNotOurs) {
  Pair pair = Connected();
  const int number = pair.client.fd();
  EXPECT_TRUE(pair.client.Intact());
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(dup2(null, number), number);
  EXPECT_FALSE(pair.client.Intact());
  pair.client.Close();
  struct stat info {};
  EXPECT_EQ(fstat(number, &info), 0);
  close(number);
  close(null);
}

}  // namespace
}  // namespace gpuroom
