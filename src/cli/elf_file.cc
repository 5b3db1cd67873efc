#include "cli/elf_file.h"

#include <elf.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
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

// Bounds on hostile input, each several times what the largest real file has.
constexpr uint64_t kMaxDynamic = 4096;  // entries of the dynamic section
constexpr uint64_t kMaxRecords =
    4096;                         // versions that are needed with their files, and versions that are offered
constexpr size_t kMaxName = 255;  // bytes of a library's or a version's name

// Reads the tables that the dynamic section names. They are given by address; the loadable segments say
// where in the file that is.
class LinkReader {
 public:
  LinkReader(int fd, uint64_t size) : fd_(fd), size_(size) {}

  ElfLinks Read() {
    ElfLinks links;
    if (!ReadSegments() || !ReadDynamic()) return links;
    for (const uint64_t name : libraries_) links.libraries.push_back(Name(name));
    ReadNeeds(&links.needs);
    ReadOffers(&links.offers);
    return links;
  }

 private:
  template <typename T>
  bool Get(uint64_t offset, T* out) const {
    return Inside(offset, sizeof *out, size_) && ReadAt(fd_, offset, out, sizeof *out);
  }

  bool ReadSegments() {
    Elf64_Ehdr header = {};
    if (!Get(0, &header) || CheckHeader(header, size_) != ElfVerdict::kStatic) return false;
    segments_.resize(header.e_phnum);
    return ReadAt(fd_, header.e_phoff, segments_.data(), segments_.size() * sizeof(Elf64_Phdr));
  }

  bool ReadDynamic() {
    const auto dynamic = std::find_if(segments_.begin(), segments_.end(),
                                      [](const Elf64_Phdr& each) { return each.p_type == PT_DYNAMIC; });
    if (dynamic == segments_.end()) return false;
    const uint64_t count = std::min(dynamic->p_filesz / sizeof(Elf64_Dyn), kMaxDynamic);
    for (uint64_t i = 0; i < count; ++i) {
      Elf64_Dyn entry = {};
      if (!Get(dynamic->p_offset + i * sizeof entry, &entry) || entry.d_tag == DT_NULL) break;
      const uint64_t value = entry.d_un.d_val;
      switch (entry.d_tag) {
        case DT_NEEDED: libraries_.push_back(value); break;
        case DT_STRTAB: names_ = OffsetOf(value); break;
        case DT_VERNEED: needs_ = OffsetOf(value); break;
        case DT_VERDEF: offers_ = OffsetOf(value); break;
        default: break;
      }
    }
    return names_ != 0;
  }

  // 0: no segment has it. Nothing of interest lies at the beginning of a file.
  uint64_t OffsetOf(uint64_t address) const {
    for (const Elf64_Phdr& each : segments_) {
      if (each.p_type != PT_LOAD || address < each.p_vaddr) continue;
      const uint64_t offset = address - each.p_vaddr;
      if (offset < each.p_filesz && Inside(each.p_offset, each.p_filesz, size_))
        return each.p_offset + offset;
    }
    return 0;
  }

  // "": none that ends.
  std::string Name(uint64_t offset) const {
    if (!Inside(names_, offset, size_)) return "";
    const uint64_t begin = names_ + offset;
    char text[kMaxName + 1];
    const size_t length = std::min<uint64_t>(sizeof text, size_ - begin);
    if (!ReadAt(fd_, begin, text, length)) return "";
    const std::string_view read(text, length);
    const size_t end = read.find('\0');
    return std::string(end == std::string_view::npos ? "" : read.substr(0, end));
  }

  // Records are chained by distances, and the last one has 0.
  static uint64_t Next(uint64_t at, uint32_t distance) { return distance != 0 ? at + distance : 0; }

  // Each file that something is needed of, and behind it the versions that are.
  void ReadNeeds(std::vector<ElfLinks::Version>* out) const {
    uint64_t records = 0;
    Elf64_Verneed file = {};
    for (uint64_t at = needs_; at != 0; at = Next(at, file.vn_next)) {
      if (++records > kMaxRecords || !Get(at, &file)) return;
      const std::string name = Name(file.vn_file);
      Elf64_Vernaux version = {};
      for (uint64_t behind = Next(at, file.vn_aux); behind != 0; behind = Next(behind, version.vna_next)) {
        if (++records > kMaxRecords || !Get(behind, &version)) return;
        out->push_back({name, Name(version.vna_name)});
      }
    }
  }

  void ReadOffers(std::vector<std::string>* out) const {
    Elf64_Verdef version = {};
    for (uint64_t at = offers_; at != 0; at = Next(at, version.vd_next)) {
      Elf64_Verdaux name = {};
      if (out->size() == kMaxRecords || !Get(at, &version) || !Get(at + version.vd_aux, &name)) return;
      out->push_back(Name(name.vda_name));
    }
  }

  int fd_;
  uint64_t size_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<uint64_t> libraries_;  // their names, as offsets into the names
  uint64_t names_ = 0;               // offsets in the file; 0: there is none
  uint64_t needs_ = 0;
  uint64_t offers_ = 0;
};

}  // namespace

ElfLinks ReadElfLinks(int fd, uint64_t size) { return LinkReader(fd, size).Read(); }

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
