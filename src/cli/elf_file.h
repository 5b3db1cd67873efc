// Reads what the loader would read of an ELF program: class, machine, type and
// program headers. For one purpose: to say before exec whether a library can be
// preloaded into it. The file is hostile input: every offset is checked against
// the file's size, and nothing is read through a pointer into it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gpuroom {

enum class ElfVerdict : uint8_t {
  kDynamic,       // a program of this machine with a loader; `interpreter` names it
  kStatic,        // a program of this machine without one
  kWrongClass,    // 32-bit
  kWrongMachine,  // `machine` is another one's
  kNotProgram,    // an object file or a core
  kBroken,        // truncated, or fields that make no sense
};

struct ElfFile {
  ElfVerdict verdict = ElfVerdict::kBroken;
  uint16_t machine = 0;
  std::string interpreter;  // of kDynamic: path in PT_INTERP
};

inline constexpr std::string_view kElfMagic("\177ELF", 4);

// Inspects an open regular file of `size` bytes that begins with kElfMagic.
// Moves no file offset.
ElfFile InspectElf(int fd, uint64_t size);

// "x86-64", "64-bit Arm", ... or "another processor" for an e_machine.
std::string_view MachineName(uint16_t machine);

}  // namespace gpuroom
