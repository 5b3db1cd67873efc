// Sharing when something goes wrong: processes that end, stop or lie, handles that
// mean nothing, driver calls that fail.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "base/clock.h"
#include "ipc_fixture.h"
#include "runtime/ipc_socket.h"

namespace gpuroom::shim_test {
namespace {

// What a process logs, read while it runs.
class LogFile {
 public:
  LogFile() : path_(testing::TempDir() + "gpuroom-ipc-log-" + std::to_string(getpid())) { Remove(); }
  ~LogFile() { Remove(); }
  const std::string& path() const { return path_; }
  // Waits until the last line that holds `mark` is `text`'s.
  bool WaitFor(const std::string& mark, const std::string& text) const {
    for (int i = 0; i < 2000; ++i) {
      std::ifstream file(path_);
      std::string last;
      for (std::string line; std::getline(file, line);) {
        if (line.find(mark) != std::string::npos) last = line;
      }
      if (last.find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

 private:
  void Remove() const { unlink(path_.c_str()); }
  const std::string path_;
};

class IpcFailureTest : public IpcTest {
 protected:
  static IpcTicket TicketOf(const CUipcMemHandle& handle) {
    const Result<IpcTicket> ticket = DecodeTicket(handle);
    EXPECT_TRUE(ticket.ok());
    return ticket.ok() ? *ticket : IpcTicket();
  }
  static std::string Opened(int times) { return "open " + std::to_string(times) + " times"; }
};

TEST_F(IpcFailureTest, AnOpenRangeIsPinnedUntilItsImporterClosesOrDies) {
  const LogFile log;
  Actor exporter(Environment{{"GPUROOM_LOG", "debug"}}, log.path());
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr p = Open(handle);
  EXPECT_TRUE(log.WaitFor("is open", Opened(1)));
  Actor victim;
  victim.Open(handle);
  EXPECT_TRUE(log.WaitFor("is open", Opened(2)));
  // A child that lives on has no part in it.
  const pid_t grandchild = static_cast<pid_t>(std::stol(victim.Ask("fork")));
  victim.Kill();
  EXPECT_TRUE(log.WaitFor("is open", Opened(1)));
  kill(grandchild, SIGKILL);
  Close(p);
  EXPECT_TRUE(log.WaitFor("is open", Opened(0)));
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

TEST_F(IpcFailureTest, MemoryOutlivesItsExporter) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kMixed);
  exporter.Fill(theirs, kMixed, 7);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr p = Open(handle);
  exporter.Kill();
  EXPECT_EQ(CountBad(p, kMixed, 7), 0u);
  EXPECT_EQ(Open(handle), p);  // it is open here already
  Close(p);
  Close(p);
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(IpcFailureTest, ADeadExportersForkedChildAnswersForNobody) {
  Actor exporter;
  const CUipcMemHandle handle = exporter.Export(exporter.Alloc(kSpilled));
  const pid_t grandchild = static_cast<pid_t>(std::stol(exporter.Ask("fork")));
  exporter.Kill();
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
  kill(grandchild, SIGKILL);
}

TEST_F(IpcFailureTest, FreedFirstTheMemoryStaysTheImportersAlone) {
  // Host chunks would be kept and handed out again.
  Actor exporter(Environment{{"GPUROOM_HOST_KEEP", std::to_string(kSpilled)}, {"GPUROOM_SIM_STRICT", "0"}});
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  exporter.Fill(theirs, kSpilled, 1);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr p = Open(handle);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  const CUdeviceptr next = exporter.Alloc(kSpilled);
  exporter.Fill(next, kSpilled, 2);
  EXPECT_EQ(CountBad(p, kSpilled, 1), 0u);
  Fill(p, kSpilled, 3);
  EXPECT_CU(Cu().CtxSynchronize());
  EXPECT_EQ(exporter.CountBad(next, kSpilled, 2), 0u);
  EXPECT_EQ(Open(handle), p);
  Close(p);
  Close(p);
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);  // freed: it names nothing
  EXPECT_EQ(exporter.Free(next), "CUDA_SUCCESS");
}

TEST_F(IpcFailureTest, HandlesThatNameNothingAreRefused) {
  Actor exporter;
  const CUdeviceptr shared = exporter.Alloc(32 * kMiB);
  const CUdeviceptr secret = exporter.Alloc(32 * kMiB);
  const IpcTicket good = TicketOf(exporter.Export(shared));
  IpcTicket bad = good;
  bad.secret[3] ^= 1;
  EXPECT_CU_IS(TryOpen(EncodeTicket(bad)), CUDA_ERROR_INVALID_VALUE);
  bad = good;
  bad.start += 1;
  EXPECT_CU_IS(TryOpen(EncodeTicket(bad)), CUDA_ERROR_INVALID_VALUE);
  bad = good;
  bad.name += 1;
  EXPECT_CU_IS(TryOpen(EncodeTicket(bad)), CUDA_ERROR_INVALID_VALUE);
  for (const uint64_t range : {good.range + 1, good.range + 1000, UINT64_MAX}) {  // the first: never exported
    bad = good;
    bad.range = range;
    EXPECT_CU_IS(TryOpen(EncodeTicket(bad)), CUDA_ERROR_INVALID_VALUE);
  }
  CUipcMemHandle version = EncodeTicket(good);
  version.reserved[8] = 77;
  EXPECT_CU_IS(TryOpen(version), CUDA_ERROR_INVALID_VALUE);
  CUipcMemHandle garbage;
  std::memset(&garbage, 0x5a, sizeof garbage);
  EXPECT_CU_IS(TryOpen(garbage), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CU(TryOpen(EncodeTicket(good)));
  EXPECT_EQ(exporter.Free(shared), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.Free(secret), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

TEST_F(IpcFailureTest, WithoutGpuroomTheDriverRefusesOurHandles) {
  const CUdeviceptr p = Alloc(kSpilled);
  Actor bare(Environment{{"GPUROOM_HBM_LIMIT", ""}, {"GPUROOM_HOST_LIMIT", ""}});
  std::string error;
  EXPECT_EQ(bare.Open(Export(p), &error), 0u);
  EXPECT_EQ(error, "CUDA_ERROR_INVALID_VALUE");
  Free(p);
}

TEST_F(IpcFailureTest, AnExporterThatDoesNotAnswerIsGivenUp) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  exporter.Stop();
  testing::internal::CaptureStderr();
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("did not answer in time"), std::string::npos) << log;
  exporter.Continue();
  EXPECT_CU(TryOpen(handle));
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

TEST_F(IpcFailureTest, SilentAndNoisyClientsHoldNobodyUp) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const uint64_t deadline = NowNanoseconds() + kIpcPatience;
  std::vector<IpcSocket> clients;
  for (int i = 0; i < 8; ++i) {
    Result<IpcSocket> client = IpcSocket::Connect(TicketOf(handle).name, deadline);
    ASSERT_TRUE(client.ok()) << client.status().what();
    clients.push_back(std::move(*client));
  }
  const std::string noise(300, 'x');
  EXPECT_TRUE(clients[0].Send(noise.data(), noise.size()).ok());
  EXPECT_TRUE(clients[1].Send(noise.data(), 16).ok());
  EXPECT_TRUE(clients[2].Send(&handle, sizeof handle).ok());  // and never asks for the chunks
  EXPECT_TRUE(clients[3].Send(&handle, sizeof handle).ok());
  const IpcNext wrong = MakeNext(7);
  EXPECT_TRUE(clients[3].Send(&wrong, sizeof wrong).ok());
  EXPECT_CU(TryOpen(handle));
  char text[4096];
  for (const int refused : {0, 1}) {
    const Result<size_t> length = clients[refused].Receive(text, sizeof text, nullptr, deadline);
    EXPECT_TRUE(length.ok() && *length == 0) << refused;
  }
  const Result<size_t> reply = clients[2].Receive(text, sizeof text, nullptr, deadline);
  EXPECT_TRUE(reply.ok() && *reply == sizeof(IpcReply));
  // Given up after a while, like one that died.
  const Result<size_t> end = clients[2].Receive(text, sizeof text, nullptr, deadline + 2 * kIpcPatience);
  EXPECT_TRUE(end.ok() && *end == 0);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

TEST_F(IpcFailureTest, SilentClientsHoldFewDescriptors) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const int before = std::stoi(exporter.Ask("descriptors"));
  std::vector<IpcSocket> clients;
  for (int i = 0; i < 100; ++i) {
    Result<IpcSocket> client = IpcSocket::Connect(TicketOf(handle).name, NowNanoseconds() + kIpcPatience);
    ASSERT_TRUE(client.ok()) << client.status().what();
    clients.push_back(std::move(*client));
  }
  EXPECT_CU(TryOpen(handle));  // who comes last is served once all before have been taken
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const auto held = [&] { return std::stoi(exporter.Ask("descriptors")) - before; };
  while (held() > 40 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_LE(held(), 40);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

// This process's sockets alone: the simulated driver's files stay. By system call, since sanitizers
// rightly complain of close() here.
void CloseEverySocket() {
  for (int fd = 3; fd < 256; ++fd) {
    struct stat info {};
    if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode)) syscall(SYS_close, fd);
  }
}

TEST_F(IpcFailureTest, AnImporterThatClosesEveryDescriptorKeepsTheMemory) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  exporter.Fill(theirs, kSpilled, 1);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const CUdeviceptr p = Open(handle);
  CloseEverySocket();
  EXPECT_EQ(CountBad(p, kSpilled, 1), 0u);
  const int reused = open("/dev/null", O_RDONLY | O_CLOEXEC);
  Close(p);
  EXPECT_GE(fcntl(reused, F_GETFD), 0);  // not ours to close
  close(reused);
  EXPECT_CU(TryOpen(handle));
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcFailureTest, AnExporterThatClosesEveryDescriptorMakesNewHandles) {
  const CUdeviceptr p = Alloc(32 * kMiB);
  Fill(p, 32 * kMiB, 1);
  EXPECT_CU(Cu().CtxSynchronize());  // another process waits for no stream of ours
  const CUipcMemHandle before = Export(p);
  CloseEverySocket();
  testing::internal::CaptureStderr();
  const CUipcMemHandle after = Export(p);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("earlier IPC handles are void"), std::string::npos) << log;
  EXPECT_NE(ToHex(before), ToHex(after));
  Actor importer;
  const CUdeviceptr there = importer.Open(after);
  EXPECT_EQ(importer.CountBad(there, 32 * kMiB, 1), 0u);
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  Free(p);
}

// Every driver call of opening and closing fails once. Nothing leaks, and the next try works.
TEST_F(IpcFailureTest, EveryFailingCallLeavesItAsItWas) {
  Actor exporter;
  const CUdeviceptr theirs = exporter.Alloc(kSpilled);
  exporter.Fill(theirs, kSpilled, 3);
  const CUipcMemHandle handle = exporter.Export(theirs);
  // Its ends: contents cost time.
  const auto expect_whole = [](CUdeviceptr p, uint64_t k) {
    EXPECT_EQ(CountBad(p, kMiB, 3), 0u) << k;
    const uint64_t last = kSpilled - kMiB;
    EXPECT_EQ(CountBad(p + last, kMiB, 3 + last / 8), 0u) << k;
  };
  const uint64_t before = GetSim().call_count("*");
  Close(Open(handle));
  const uint64_t calls = GetSim().call_count("*") - before;
  ASSERT_GT(calls, 10u);
  for (uint64_t k = 1; k <= calls; ++k) {
    GetSim().fail(("*:" + std::to_string(k) + ":CUDA_ERROR_UNKNOWN").c_str());
    CUdeviceptr p = 0;
    const bool opened = Cu().IpcOpenMemHandle(&p, handle, kFlags) == CUDA_SUCCESS;
    const bool closed = opened && Cu().IpcCloseMemHandle(p) == CUDA_SUCCESS;
    GetSim().fail("");
    if (opened && !closed) {
      expect_whole(p, k);
      Close(p);
    }
    const CUdeviceptr next = Open(handle);
    expect_whole(next, k);
    Close(next);
    EXPECT_EQ(Leaks(), "") << k;
  }
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
}

TEST_F(IpcFailureTest, AnExportThatFailsIsTheImportersErrorOnce) {
  const LogFile log;
  Actor exporter(Environment{{"GPUROOM_SIM_FAIL", "cuMemExportToShareableHandle:1:CUDA_ERROR_UNKNOWN"}},
                 log.path());
  const CUdeviceptr theirs = exporter.Alloc(kMixed);
  const CUipcMemHandle handle = exporter.Export(theirs);
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_TRUE(log.WaitFor("could not be given", "cuMemExportToShareableHandle failed (999)"));
  EXPECT_CU(TryOpen(handle));
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

// More chunks than travel in one message: at least 36. ctest gives it 4 GiB of host memory.
class IpcManyChunksTest : public IpcFailureTest {
 protected:
  static constexpr uint64_t kMany = 36 * 64 * kMiB;
  static constexpr uint64_t kPart = 64 * 1024;
  static void FillParts(CUdeviceptr p, uint64_t seed) {
    for (uint64_t at = 0; at < kMany; at += 64 * kMiB) Fill(p + at, kPart, seed + at);
    EXPECT_CU(Cu().CtxSynchronize());
  }
  static void ExpectParts(CUdeviceptr p, uint64_t seed) {
    for (uint64_t at = 0; at < kMany; at += 64 * kMiB) EXPECT_EQ(CountBad(p + at, kPart, seed + at), 0u);
  }
};

TEST_F(IpcManyChunksTest, ArriveInTheirOrder) {
  const CUdeviceptr p = Alloc(kMany);
  FillParts(p, 1);
  Actor importer;
  const CUdeviceptr there = importer.Open(Export(p));
  for (uint64_t at = 0; at < kMany; at += 64 * kMiB) {
    EXPECT_EQ(importer.CountBad(there + at, kPart, 1 + at), 0u);
  }
  importer.Fill(there + kMany - kPart, kPart, 99);
  EXPECT_EQ(CountBad(p + kMany - kPart, kPart, 99), 0u);
  EXPECT_EQ(importer.Close(there), "CUDA_SUCCESS");
  EXPECT_EQ(importer.End(), 0);
  Free(p);
}

TEST_F(IpcManyChunksTest, NeedDescriptorsOnBothSides) {
  Actor exporter(Environment{{"GPUROOM_LOG", "off"}});
  const CUdeviceptr theirs = exporter.Alloc(kMany);
  const CUipcMemHandle handle = exporter.Export(theirs);
  const size_t descriptors = Descriptors();
  EXPECT_EQ(exporter.Ask("limit 10"), "limited");
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(exporter.Ask("limit 0"), "limited");
  LimitDescriptors(10);
  EXPECT_CU_IS(TryOpen(handle), CUDA_ERROR_OPERATING_SYSTEM);
  LimitDescriptors(0);
  const CUdeviceptr p = Open(handle);
  FillParts(p, 5);
  ExpectParts(p, 5);
  Close(p);
  EXPECT_EQ(Descriptors(), descriptors);
  EXPECT_EQ(exporter.Free(theirs), "CUDA_SUCCESS");
  EXPECT_EQ(exporter.End(), 0);
}

}  // namespace
}  // namespace gpuroom::shim_test

int main(int argc, char** argv) {
  if (argc == 2 && argv[1][0] != '-') return gpuroom::shim_test::PlayActor();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
