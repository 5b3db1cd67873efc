// Reads what the loader would read of an ELF file: class, machine, type, program
// headers, and the libraries and versions that it names. For one purpose: to say
// before exec whether a library can be preloaded into a program. The file is
// hostile input: every offset is checked against the file's size, and nothing is
// read through a pointer into it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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

// What a program or a library says to the loader about others.
struct ElfLinks {
  struct Version {
    std::string file;  // "libc.so.6"
    std::string name;  // "GLIBC_2.34"
  };
  std::vector<std::string> libraries;  // that have to be loaded with it, in order
  std::vector<Version> needs;          // versions that these have to offer
  std::vector<std::string> offers;     // versions that it has itself
};

// Of a file that InspectElf takes for a dynamic program or, since a library has no loader of its own, for a
// static one. What is damaged or beyond any real file is left out. Moves no file offset.
ElfLinks ReadElfLinks(int fd, uint64_t size);

// "x86-64", "64-bit Arm", ... or "another processor" for an e_machine.
std::string_view MachineName(uint16_t machine);

}  // namespace gpuroom
