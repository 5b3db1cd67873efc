// The ELF reader on hostile input: every truncation and thousands of damaged
// copies of a real program (this one). Under a sanitizer it shows any bad read.
#include "cli/elf_file.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
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

// The whole of this program, for what lies behind its head.
std::vector<char> OwnBytes() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

ElfLinks LinksOf(const std::vector<char>& bytes) {
  const TemporaryFile file(bytes);
  return ReadElfLinks(file.fd(), bytes.size());
}

bool Needs(const ElfLinks& links, std::string_view file, std::string_view prefix) {
  return std::any_of(links.needs.begin(), links.needs.end(), [&](const ElfLinks::Version& each) {
    return each.file == file && each.name.starts_with(prefix);
  });
}

TEST(ElfLinks, ThisProgramNamesItsLibrariesAndTheirVersions) {
  const ElfLinks links = LinksOf(OwnBytes());
  EXPECT_NE(std::find(links.libraries.begin(), links.libraries.end(), "libc.so.6"), links.libraries.end());
  EXPECT_TRUE(Needs(links, "libc.so.6", "GLIBC_2."));
  EXPECT_TRUE(links.offers.empty());
}

TEST(ElfLinks, TheCLibraryOffersWhatThisProgramNeeds) {
  Dl_info info = {};
  ASSERT_NE(dladdr(reinterpret_cast<void*>(&std::getenv), &info), 0);
  const int fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const ElfLinks library = ReadElfLinks(fd, static_cast<uint64_t>(lseek(fd, 0, SEEK_END)));
  close(fd);
  for (const ElfLinks::Version& each : LinksOf(OwnBytes()).needs) {
    if (each.file != "libc.so.6") continue;
    EXPECT_NE(std::find(library.offers.begin(), library.offers.end(), each.name), library.offers.end())
        << each.name;
  }
}

TEST(ElfLinks, WhatIsCutOffIsLeftOut) {
  const std::vector<char> whole = OwnBytes();
  for (const size_t length : {size_t{0}, size_t{4}, sizeof(Elf64_Ehdr), size_t{200}, size_t{4096}}) {
    const ElfLinks links = LinksOf({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)});
    EXPECT_TRUE(links.offers.empty()) << length;
    for (const std::string& name : links.libraries) EXPECT_LE(name.size(), 255u) << length;
  }
}

// Where the dynamic section lies in the file.
Elf64_Phdr DynamicSection(const std::vector<char>& program) {
  Elf64_Ehdr header = {};
  std::memcpy(&header, program.data(), sizeof header);
  Elf64_Phdr segment = {};
  for (size_t i = 0; i < header.e_phnum && segment.p_type != PT_DYNAMIC; ++i)
    std::memcpy(&segment, program.data() + header.e_phoff + i * sizeof segment, sizeof segment);
  return segment;
}

// Damages the program headers, the dynamic section, and the beginning of the file, where linkers put names
// and versions. Whatever sizes and chains say then, reading ends.
TEST(ElfLinks, DamageIsReadToAnEnd) {
  std::mt19937_64 random(20261130);
  const std::vector<char> whole = OwnBytes();
  const Elf64_Phdr dynamic = DynamicSection(whole);
  ASSERT_EQ(dynamic.p_type, static_cast<Elf64_Word>(PT_DYNAMIC));
  const TemporaryFile file(whole);
  size_t found = 0;
  for (int round = 0; round < 1000; ++round) {
    std::vector<uint64_t> places;
    for (uint64_t i = 0, count = 1 + random() % 32; i < count; ++i) {
      places.push_back(sizeof(Elf64_Ehdr) + random() % 32768);
      places.push_back(dynamic.p_offset + random() % dynamic.p_filesz);
    }
    for (const uint64_t place : places) {
      const auto byte = static_cast<char>(random());
      ASSERT_EQ(pwrite(file.fd(), &byte, 1, static_cast<off_t>(place)), 1);
    }
    const ElfLinks links = ReadElfLinks(file.fd(), whole.size());
    found += links.needs.size() + links.offers.size();
    EXPECT_LE(links.needs.size(), 4096u);
    EXPECT_LE(links.offers.size(), 4096u);
    for (const uint64_t place : places)
      ASSERT_EQ(pwrite(file.fd(), &whole[place], 1, static_cast<off_t>(place)), 1);
  }
  EXPECT_GT(found, 0u);
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
