#include "ipc_actor.h"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>

#include "gpuroom/gpuroom.h"

namespace gpuroom::shim_test {
namespace {

using Arguments = std::istringstream;

std::string Done(CUresult result) { return NameOf(result); }

uint64_t Number(Arguments& arguments) {
  uint64_t value = 0;
  arguments >> value;
  return value;
}

std::string PlayAlloc(Arguments& arguments) {
  CUdeviceptr p = 0;
  Cu().MemAlloc(&p, Number(arguments));
  return std::to_string(p);
}

std::string PlayExport(Arguments& arguments) {
  CUipcMemHandle handle;
  const CUresult result = Cu().IpcGetMemHandle(&handle, Number(arguments));
  return result == CUDA_SUCCESS ? ToHex(handle) : Done(result);
}

std::string PlayOpen(Arguments& arguments) {
  std::string text;
  arguments >> text;
  CUdeviceptr p = 0;
  const CUresult result = Cu().IpcOpenMemHandle(&p, FromHex(text), CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  return result == CUDA_SUCCESS ? std::to_string(p) : Done(result);
}

std::string PlayFill(Arguments& arguments) {
  const CUdeviceptr p = Number(arguments);
  const uint64_t bytes = Number(arguments);
  Fill(p, bytes, Number(arguments));
  return Done(Cu().CtxSynchronize());
}

std::string PlayCheck(Arguments& arguments) {
  const CUdeviceptr p = Number(arguments);
  const uint64_t bytes = Number(arguments);
  return std::to_string(CountBad(p, bytes, Number(arguments)));
}

// A child that has nothing to do with CUDA and outlives this process.
std::string PlayFork(Arguments&) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) close(fd);
    pause();
  }
  return std::to_string(pid);
}

const std::map<std::string, std::function<std::string(Arguments&)>>& Commands() {
  static const std::map<std::string, std::function<std::string(Arguments&)>> commands = {
      {"alloc", PlayAlloc},
      {"export", PlayExport},
      {"open", PlayOpen},
      {"fill", PlayFill},
      {"check", PlayCheck},
      {"fork", PlayFork},
      {"descriptors",
       [](Arguments&) {
         const std::filesystem::directory_iterator all("/proc/self/fd");
         return std::to_string(std::distance(begin(all), end(all)));
       }},
      {"limit",
       [](Arguments& a) {
         LimitDescriptors(Number(a));
         return std::string("limited");
       }},
      {"close", [](Arguments& a) { return Done(Cu().IpcCloseMemHandle(Number(a))); }},
      {"free", [](Arguments& a) { return Done(Cu().MemFree(Number(a))); }},
      {"hot", [](Arguments& a) { return std::to_string(gpuroom_set_hint(Number(a), GPUROOM_HINT_HOT)); }},
      {"host_bytes", [](Arguments& a) { return std::to_string(PlacementOf(Number(a)).host_bytes); }},
      {"device",
       [](Arguments& a) {
         UseDevice(static_cast<int>(Number(a)));
         return std::string("ready");
       }},
  };
  return commands;
}

}  // namespace

void LimitDescriptors(uint64_t more) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  int next = 0;
  while (fcntl(next, F_GETFD) >= 0) ++next;
  limit.rlim_cur = more == 0 ? limit.rlim_max : static_cast<rlim_t>(next) + more;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string ToHex(const CUipcMemHandle& handle) {
  std::string text;
  char two[3];
  for (const char byte : handle.reserved) {
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(byte));
    text += two;
  }
  return text;
}

CUipcMemHandle FromHex(const std::string& text) {
  CUipcMemHandle handle{};
  for (size_t i = 0; i < sizeof handle.reserved && 2 * i + 2 <= text.size(); ++i) {
    handle.reserved[i] = static_cast<char>(std::strtoul(text.substr(2 * i, 2).c_str(), nullptr, 16));
  }
  return handle;
}

Actor::Actor(Environment environment, const std::string& log_path) {
  if (!log_path.empty()) environment.emplace_back("GPUROOM_TEST_LOG", log_path);
  child_ = StartChild("actor", environment);
  EXPECT_EQ(Ask("device 0"), "ready");
}

Actor::~Actor() {
  if (running_) End();
}

std::string Actor::Ask(const std::string& command) const {
  child_.Tell(command + "\n");
  std::string line = child_.ReadLine();
  if (!line.empty()) line.pop_back();
  return line;
}

CUdeviceptr Actor::Open(const CUipcMemHandle& handle, std::string* error) const {
  const std::string answer = Ask("open " + ToHex(handle));
  if (!answer.empty() && answer[0] >= '0' && answer[0] <= '9') return std::stoull(answer);
  if (error != nullptr) {
    *error = answer;
  } else {
    ADD_FAILURE() << "open: " << answer;
  }
  return 0;
}

void Actor::Fill(CUdeviceptr va, uint64_t bytes, uint64_t seed) const {
  std::ostringstream command;
  command << "fill " << va << ' ' << bytes << ' ' << seed;
  EXPECT_EQ(Ask(command.str()), "CUDA_SUCCESS");
}

uint64_t Actor::CountBad(CUdeviceptr va, uint64_t bytes, uint64_t seed) const {
  std::ostringstream command;
  command << "check " << va << ' ' << bytes << ' ' << seed;
  return std::stoull(Ask(command.str()));
}

void Actor::Kill() {
  running_ = false;
  kill(child_.pid, SIGKILL);
  child_.Wait();
}

void Actor::Stop() const {
  int status = 0;
  ASSERT_EQ(kill(child_.pid, SIGSTOP), 0);
  ASSERT_EQ(waitpid(child_.pid, &status, WUNTRACED), child_.pid);
  ASSERT_TRUE(WIFSTOPPED(status)) << status;
}

void Actor::Continue() const { ASSERT_EQ(kill(child_.pid, SIGCONT), 0); }

int Actor::End() {
  running_ = false;
  return child_.Wait();
}

int PlayActor() {
  const char* log = std::getenv("GPUROOM_TEST_LOG");
  if (log != nullptr && std::freopen(log, "w", stderr) == nullptr) return 1;
  std::string line;
  while (std::getline(std::cin, line)) {
    Arguments arguments(line);
    std::string name;
    arguments >> name;
    const auto command = Commands().find(name);
    if (command == Commands().end()) return 1;
    std::cout << command->second(arguments) << std::endl;
  }
  return 0;
}

}  // namespace gpuroom::shim_test
