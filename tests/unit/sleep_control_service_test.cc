// The control socket's server, with a core that the tests play: who may ask, how slow and bad
// clients are met, what is answered while a sleep is in progress, forks and names left behind.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "sleep/control_directory.h"
#include "sleep/control_service.h"

namespace gpuroom {
namespace {

// The core that the tests play.
std::atomic<int> g_sleeps{0};
std::atomic<int> g_in_core{0};
std::atomic<bool> g_held{false};  // sleeps do not return
std::atomic<bool> g_overlapped{false};
std::string* g_seen = nullptr;  // of the last sleep; read when it has been answered

void Within(const std::atomic<bool>& held) {
  if (g_in_core.fetch_add(1) > 0) g_overlapped.store(true);
  while (held.load()) poll(nullptr, 0, 1);
  g_in_core.fetch_sub(1);
}

int FakeSleep(const gpuroom_sleep_request* request, size_t, gpuroom_sleep_report* out, size_t) {
  g_sleeps.fetch_add(1);
  std::string seen = "hold=" + std::to_string(request->hold) + " verify=" + std::to_string(request->verify);
  for (size_t i = 0; i < request->tag_count; ++i) {
    const char* tag = request->tags[i].tag;
    seen +=
        std::string(" ") + (tag == nullptr ? "(rest)" : tag) + ":" + std::to_string(request->tags[i].action);
  }
  if (request->directory != nullptr) seen += std::string(" in ") + request->directory;
  *g_seen = seen;
  Within(g_held);
  if (request->verify != 0) return GPUROOM_OUT_OF_MEMORY;
  *out = {};
  out->kept = 123;
  return GPUROOM_OK;
}

int FakeWake(const char* const* tags, size_t count, int lazy, gpuroom_sleep_report* out, size_t) {
  static const std::atomic<bool> never{false};
  Within(never);
  *out = {};
  out->kept = count;
  out->dropped = static_cast<uint64_t>(lazy);
  return count > 0 && std::strcmp(tags[0], "absent") == 0 ? GPUROOM_NOT_FOUND : GPUROOM_OK;
}

int FakeStates(gpuroom_tag_state* out, size_t capacity, size_t* count, size_t) {
  static const std::atomic<bool> never{false};
  Within(never);
  *count = 2;
  for (size_t i = 0; i < capacity && i < 2; ++i) {
    out[i] = {};
    std::strcpy(out[i].tag, i == 0 ? "" : "kv cache");
    out[i].awake = static_cast<uint64_t>(g_sleeps.load());
  }
  return GPUROOM_OK;
}

const char* FakeError() { return "no room; drop some"; }

int FakeHint(const char* const* tags, size_t count, int hint, uint64_t* ranges) {
  *ranges = count == 1 && std::string(tags[0]) == "kv cache" && hint == GPUROOM_HINT_COLD ? 7 : 0;
  return GPUROOM_OK;
}

constexpr ControlCalls kCalls = {FakeSleep, FakeWake, FakeStates, FakeError, nullptr, FakeHint};
constexpr int kLong = 60000;  // milliseconds, until a test gives up

int Connect(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

void Send(int fd, const std::string& text) {
  ASSERT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

// All until the other side closes.
std::string ReadAll(int fd) {
  std::string text;
  char part[1024];
  pollfd wait{fd, POLLIN, 0};
  while (poll(&wait, 1, kLong) > 0) {
    const ssize_t got = read(fd, part, sizeof part);
    if (got <= 0) break;
    text.append(part, static_cast<size_t>(got));
  }
  close(fd);
  return text;
}

class ControlServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    g_sleeps.store(0);
    g_held.store(false);
    g_overlapped.store(false);
    g_seen = &seen_;
    std::string pattern = testing::TempDir() + "gpuroom-control-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    folder_ = root_ + "/sockets";
    service_ = std::make_shared<ControlService>(kCalls, folder_);
    const Status status = service_->Start();
    ASSERT_TRUE(status.ok()) << status.what();
  }
  void TearDown() override {
    g_held.store(false);
    EXPECT_TRUE(service_->Stop(kLong));
    for (int i = 0; i < kLong && !service_->Ended(); ++i) poll(nullptr, 0, 1);
    EXPECT_TRUE(service_->Ended());
    EXPECT_NE(access(Path().c_str(), F_OK), 0);
    EXPECT_FALSE(g_overlapped.load());
    EXPECT_EQ(rmdir(folder_.c_str()), 0);
    EXPECT_EQ(rmdir(root_.c_str()), 0);
  }

  std::string Path() const { return ControlSocketPath(folder_, getpid()); }
  std::string Ask(const std::string& request) const {
    const int fd = Connect(Path());
    EXPECT_GE(fd, 0) << std::strerror(errno);
    Send(fd, request);
    return ReadAll(fd);
  }
  static void WaitForSleeps(int count) {
    for (int i = 0; i < kLong && g_sleeps.load() < count; ++i) poll(nullptr, 0, 1);
    ASSERT_GE(g_sleeps.load(), count);
  }

  std::string root_;
  std::string folder_;
  std::string seen_;
  std::shared_ptr<ControlService> service_;
};

TEST_F(ControlServiceTest, FolderAndSocketArePrivate) {
  struct stat info {};
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  ASSERT_EQ(lstat(Path().c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_NE(access((Path() + ".new").c_str(), F_OK), 0);
}

TEST_F(ControlServiceTest, AStatusHasAllTags) {
  const Result<ControlReply> reply = ParseReply(Ask("gpuroom 1 status\n"));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->doing, "nothing");
  EXPECT_TRUE(reply->fresh);
  EXPECT_FALSE(reply->version.empty());
  ASSERT_EQ(reply->tags.size(), 2u);
  EXPECT_STREQ(reply->tags[1].tag, "kv cache");
}

TEST_F(ControlServiceTest, ASleepReachesTheCoreAsItWasAsked) {
  const std::string text =
      Ask("gpuroom 1 sleep do=drop:kv%20cache do=disk: rest=keep hold=fail directory=/a%20b\n");
  const Result<ControlReply> reply = ParseReply(text);
  ASSERT_TRUE(reply.ok()) << text;
  EXPECT_EQ(reply->result, GPUROOM_OK);
  EXPECT_EQ(reply->report->kept, 123u);
  EXPECT_EQ(seen_, "hold=2 verify=0 kv cache:2 :1 (rest):0 in /a b");
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 sleep\n"))->result, GPUROOM_OK);
  EXPECT_EQ(seen_, "hold=1 verify=0");
}

TEST_F(ControlServiceTest, FailuresComeWithTheirSentence) {
  const Result<ControlReply> sleep = ParseReply(Ask("gpuroom 1 sleep verify=1\n"));
  EXPECT_EQ(sleep->result, GPUROOM_OUT_OF_MEMORY);
  EXPECT_EQ(sleep->text, FakeError());
  EXPECT_FALSE(sleep->report.has_value());
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 wake tag=absent\n"))->result, GPUROOM_NOT_FOUND);
  const Result<ControlReply> wake = ParseReply(Ask("gpuroom 1 wake tag=a tag=b lazy=1\n"));
  EXPECT_EQ(wake->report->kept, 2u);
  EXPECT_EQ(wake->report->dropped, 1u);
}

TEST_F(ControlServiceTest, AHintReachesTheCoreAsItWasAsked) {
  const Result<ControlReply> reply = ParseReply(Ask("gpuroom 1 hint hint=cold tag=kv%20cache\n"));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->result, GPUROOM_OK);
  EXPECT_EQ(reply->report->ranges, 7u);
}

TEST_F(ControlServiceTest, BadRequestsGetAnAnswerAndTheNextIsServed) {
  EXPECT_EQ(ParseReply(Ask("GET / HTTP/1.1\r\n\r\n"))->result, GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(ParseReply(Ask("\n"))->result, GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(ParseReply(Ask("gpuroom 9 status\n"))->result, GPUROOM_UNSUPPORTED);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 sleep do=eat:x\n"))->result, GPUROOM_INVALID_ARGUMENT);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->result, GPUROOM_OK);
  EXPECT_EQ(g_sleeps.load(), 0);
}

TEST_F(ControlServiceTest, ATooLongRequestIsCutOff) {
  const int fd = Connect(Path());
  const std::string part(4096, 'x');
  for (int i = 0; i < 64; ++i) {
    if (send(fd, part.data(), part.size(), MSG_NOSIGNAL) <= 0) break;  // it has seen enough
  }
  close(fd);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->result, GPUROOM_OK);
}

TEST_F(ControlServiceTest, ARequestInPiecesIsARequest) {
  const int fd = Connect(Path());
  for (const char c : std::string("gpuroom 1 status\n")) Send(fd, std::string(1, c));
  EXPECT_EQ(ParseReply(ReadAll(fd))->result, GPUROOM_OK);
}

TEST_F(ControlServiceTest, TheOldestSilentClientGivesWayToTheNext) {
  // As many as are served at once.
  std::vector<int> silent;
  for (int i = 0; i < 16; ++i) silent.push_back(Connect(Path()));
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->result, GPUROOM_OK);
  pollfd first{silent.front(), POLLIN, 0};
  EXPECT_EQ(poll(&first, 1, kLong), 1);
  pollfd last{silent.back(), POLLIN, 0};
  EXPECT_EQ(poll(&last, 1, 0), 0) << "nobody's time was over yet";
  for (const int fd : silent) close(fd);
}

TEST_F(ControlServiceTest, AClientThatLeavesDoesNotStopItsSleep) {
  g_held.store(true);
  const int fd = Connect(Path());
  Send(fd, "gpuroom 1 sleep\n");
  WaitForSleeps(1);
  close(fd);
  g_held.store(false);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 wake\n"))->result, GPUROOM_OK);
}

TEST_F(ControlServiceTest, AStatusIsAnsweredWhileASleepIsInProgress) {
  g_held.store(true);
  const int fd = Connect(Path());
  Send(fd, "gpuroom 1 sleep\n");
  WaitForSleeps(1);
  const Result<ControlReply> status = ParseReply(Ask("gpuroom 1 status\n"));
  EXPECT_EQ(status->doing, "sleep");
  EXPECT_FALSE(status->fresh);
  ASSERT_EQ(status->tags.size(), 2u);
  EXPECT_EQ(status->tags[0].awake, 0u);  // as it was before
  g_held.store(false);
  EXPECT_EQ(ParseReply(ReadAll(fd))->result, GPUROOM_OK);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->tags[0].awake, 1u);
}

TEST_F(ControlServiceTest, SeveralAtOnceAreDoneOneAfterTheOther) {
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      const char* request = i % 2 == 0 ? "gpuroom 1 sleep\n" : "gpuroom 1 wake\n";
      for (int turn = 0; turn < 5; ++turn) {
        if (ParseReply(Ask(request))->result == GPUROOM_OK) good.fetch_add(1);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good.load(), 40);
  EXPECT_EQ(g_sleeps.load(), 20);
}

TEST_F(ControlServiceTest, AForkedChildNeitherAnswersNorTakesTheNameAway) {
  const pid_t pid = fork();
  if (pid == 0) {
    // The listening socket is not here: nobody is kept waiting by this process.
    for (int fd = 3; fd < 256; ++fd) {
      int listens = 0;
      socklen_t length = sizeof listens;
      if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0) _exit(1);
    }
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->result, GPUROOM_OK);
}

TEST_F(ControlServiceTest, ANameInUseIsNotTakenOver) {
  EXPECT_EQ(ControlSocket::Listen(folder_).status().code(), Code::kBusy);
  EXPECT_EQ(ParseReply(Ask("gpuroom 1 status\n"))->result, GPUROOM_OK);
}

class ControlFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "gpuroom-control-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { rmdir(root_.c_str()); }
  static std::string Refusal(const std::string& folder) {
    const Result<ControlSocket> socket = ControlSocket::Listen(folder);
    EXPECT_FALSE(socket.ok());
    return socket.status().what();
  }

  std::string root_;
};

TEST_F(ControlFolderTest, AFolderThatIsOpenToOthersIsRefused) {
  ASSERT_EQ(chmod(root_.c_str(), 0755), 0);
  EXPECT_NE(Refusal(root_).find("chmod 700"), std::string::npos);
  ASSERT_EQ(chmod(root_.c_str(), 0700), 0);
  EXPECT_TRUE(MakeControlDirectory(root_).ok());
}

TEST_F(ControlFolderTest, LinksAndFilesAreRefused) {
  const std::string link = root_ + "/link";
  ASSERT_EQ(symlink(root_.c_str(), link.c_str()), 0);
  EXPECT_NE(Refusal(link).find("it is a link"), std::string::npos);
  unlink(link.c_str());
  const int fd = open(link.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  close(fd);
  EXPECT_NE(Refusal(link).find("a file"), std::string::npos);
  unlink(link.c_str());
}

TEST_F(ControlFolderTest, APathThatIsTooLongOrCannotBeMadeIsRefused) {
  EXPECT_NE(Refusal(root_ + "/absent/folder").find("GPUROOM_CONTROL_DIR"), std::string::npos);
  const std::string deep = root_ + "/" + std::string(100, 'd');
  EXPECT_NE(Refusal(deep).find("too long"), std::string::npos);
  rmdir(deep.c_str());
}

TEST_F(ControlFolderTest, ANameThatAKilledProcessLeftIsReplaced) {
  Result<ControlSocket> first = ControlSocket::Listen(root_);
  ASSERT_TRUE(first.ok());
  close(first->fd());  // as the kernel does; the name stays
  EXPECT_FALSE(first->Intact());
  Result<ControlSocket> second = ControlSocket::Listen(root_);
  ASSERT_TRUE(second.ok()) << second.status().what();
  first->Remove();  // not its name any more
  EXPECT_EQ(access(second->path().c_str(), F_OK), 0);
  const std::string path = second->path();
  second->Remove();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(ControlFolderTest, NamesOfSockets) {
  EXPECT_EQ(PidOfSocket("123.sock"), 123);
  for (const char* name : {"", ".sock", "a.sock", "-1.sock", "12", "123.sock.new", "99999999999.sock",
                           "1 .sock", "0123.sock", "00.sock"})
    EXPECT_EQ(PidOfSocket(name), 0) << name;
}

}  // namespace
}  // namespace gpuroom
