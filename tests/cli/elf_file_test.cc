// The ELF reader on hostile input: every truncation and thousands of damaged
// copies of a real program (this one). Under a sanitizer it shows any bad read.
#include "cli/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace gpuroom {
namespace {

// A file that holds given bytes for as long as it lives.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<char>& bytes) {
    char path[] = "/tmp/gpuroom_elf_XXXXXX";
    fd_ = mkstemp(path);
    unlink(path);
    Write(bytes);
  }
  ~TemporaryFile() { close(fd_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void Write(const std::vector<char>& bytes) {
    ASSERT_EQ(ftruncate(fd_, 0), 0);
    ASSERT_EQ(pwrite(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// The head of this test program: its header, program headers and interpreter.
std::vector<char> OwnHead() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  bytes.resize(std::min<size_t>(bytes.size(), 4096));
  return bytes;
}

// The whole program's size, so that the head alone passes for the program.
uint64_t OwnSize() {
  std::ifstream file("/proc/self/exe", std::ios::binary | std::ios::ate);
  return static_cast<uint64_t>(file.tellg());
}

ElfFile Inspect(const std::vector<char>& bytes, uint64_t claimed_size) {
  const TemporaryFile file(bytes);
  return InspectElf(file.fd(), claimed_size);
}

TEST(ElfFile, ThisProgramIsDynamicAndNamesItsLoader) {
  const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const ElfFile file = InspectElf(fd, static_cast<uint64_t>(lseek(fd, 0, SEEK_END)));
  EXPECT_EQ(file.verdict, ElfVerdict::kDynamic);
  EXPECT_NE(file.interpreter.find("ld-"), std::string::npos);
  close(fd);
}

TEST(ElfFile, EveryTruncationIsBroken) {
  const std::vector<char> head = OwnHead();
  ASSERT_EQ(Inspect(head, OwnSize()).verdict, ElfVerdict::kDynamic);
  for (size_t length = 0; length < head.size(); ++length) {
    const std::vector<char> cut(head.begin(), head.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_EQ(Inspect(cut, length).verdict, ElfVerdict::kBroken) << length;
  }
}

// stat may say more than is there: the file can shrink between the two calls.
TEST(ElfFile, ASizeThatIsNoLongerTrueIsBroken) {
  std::vector<char> head = OwnHead();
  head.resize(sizeof(Elf64_Ehdr) + 10);
  EXPECT_EQ(Inspect(head, uint64_t{1} << 40).verdict, ElfVerdict::kBroken);
}

TEST(ElfFile, DamageNeverReadsOutsideTheFile) {
  std::mt19937_64 random(20261120);
  const std::vector<char> head = OwnHead();
  const uint64_t size = OwnSize();
  TemporaryFile file(head);
  size_t broken = 0;
  size_t dynamic = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<char> damaged = head;
    for (uint64_t i = 0, count = 1 + random() % 8; i < count; ++i) {
      damaged[4 + random() % 1020] = static_cast<char>(random());
    }
    file.Write(damaged);
    const ElfFile result = InspectElf(file.fd(), size);
    dynamic += result.verdict == ElfVerdict::kDynamic ? 1 : 0;
    broken += result.verdict == ElfVerdict::kBroken ? 1 : 0;
    EXPECT_TRUE(result.verdict != ElfVerdict::kDynamic || !result.interpreter.empty());
    EXPECT_LE(result.interpreter.size(), 4096u);
  }
  EXPECT_GT(broken, 0u);
  EXPECT_GT(dynamic, 0u);
}

TEST(ElfFile, ExtremeFieldsAreBrokenNotWrapped) {
  const std::vector<char> head = OwnHead();
  for (const uint64_t value : {UINT64_MAX, UINT64_MAX - 63, uint64_t{1} << 63, OwnSize() - 8}) {
    std::vector<char> damaged = head;
    std::memcpy(damaged.data() + offsetof(Elf64_Ehdr, e_phoff), &value, sizeof value);
    EXPECT_EQ(Inspect(damaged, OwnSize()).verdict, ElfVerdict::kBroken) << value;
  }
}

}  // namespace
}  // namespace gpuroom
