#include "cli/elf_file.h"

#include <elf.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>

namespace gpuroom {
namespace {

#if defined(__x86_64__)
constexpr uint16_t kOurMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kOurMachine = EM_AARCH64;
#else
#error "gpuroom runs on x86-64 and 64-bit Arm"
#endif

// The kernel refuses more than 64 KiB of program headers.
constexpr uint64_t kMaxHeaders = 65536 / sizeof(Elf64_Phdr);

bool Inside(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

bool ReadAt(int fd, uint64_t offset, void* out, size_t length) {
  char* cursor = static_cast<char*>(out);
  while (length > 0) {
    const ssize_t n = pread(fd, cursor, length, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    cursor += n;
    offset += static_cast<uint64_t>(n);
    length -= static_cast<size_t>(n);
  }
  return true;
}

// The path in a PT_INTERP segment; empty where it is none the kernel accepts.
std::string ReadInterpreter(int fd, const Elf64_Phdr& segment) {
  if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX) return "";
  std::string path(segment.p_filesz, '\0');
  if (!ReadAt(fd, segment.p_offset, path.data(), path.size())) return "";
  if (path.back() != '\0') return "";
  return path.substr(0, path.find('\0'));
}

ElfVerdict CheckHeader(const Elf64_Ehdr& header, uint64_t size) {
  if (header.e_ident[EI_DATA] != ELFDATA2LSB) return ElfVerdict::kWrongMachine;
  if (header.e_machine != kOurMachine) return ElfVerdict::kWrongMachine;
  if (header.e_type == ET_REL || header.e_type == ET_CORE) return ElfVerdict::kNotProgram;
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return ElfVerdict::kBroken;
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 || header.e_phnum > kMaxHeaders) {
    return ElfVerdict::kBroken;
  }
  if (!Inside(header.e_phoff, uint64_t{header.e_phnum} * sizeof(Elf64_Phdr), size))
    return ElfVerdict::kBroken;
  return ElfVerdict::kStatic;
}

}  // namespace

ElfFile InspectElf(int fd, uint64_t size) {
  ElfFile file;
  // The class decides the layout of all that follows, so it is read first: a
  // 32-bit header is shorter than ours.
  Elf32_Ehdr small = {};
  if (size < sizeof small || !ReadAt(fd, 0, &small, sizeof small)) return file;
  if (small.e_ident[EI_CLASS] == ELFCLASS32) {
    file.verdict = ElfVerdict::kWrongClass;
    return file;
  }
  Elf64_Ehdr header = {};
  if (small.e_ident[EI_CLASS] != ELFCLASS64 || size < sizeof header ||
      !ReadAt(fd, 0, &header, sizeof header)) {
    return file;
  }
  file.machine = header.e_machine;
  file.verdict = CheckHeader(header, size);
  if (file.verdict != ElfVerdict::kStatic) return file;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment = {};
    if (!ReadAt(fd, header.e_phoff + i * sizeof segment, &segment, sizeof segment)) {
      file.verdict = ElfVerdict::kBroken;
      return file;
    }
    if (segment.p_type != PT_LOAD && segment.p_type != PT_INTERP) continue;
    if (!Inside(segment.p_offset, segment.p_filesz, size)) {
      file.verdict = ElfVerdict::kBroken;
      return file;
    }
    if (segment.p_type == PT_INTERP && file.interpreter.empty()) {
      file.interpreter = ReadInterpreter(fd, segment);
      file.verdict = file.interpreter.empty() ? ElfVerdict::kBroken : ElfVerdict::kDynamic;
      if (file.verdict == ElfVerdict::kBroken) return file;
    }
  }
  return file;
}

std::string_view MachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64: return "x86-64";
    case EM_AARCH64: return "64-bit Arm";
    case EM_386: return "32-bit x86";
    case EM_ARM: return "32-bit Arm";
    case EM_PPC64: return "64-bit POWER";
    case EM_RISCV: return "RISC-V";
    case EM_S390: return "IBM Z";
    default: return "another processor";
  }
}

}  // namespace gpuroom
