// A program's ELF header, which `run` reads before it starts the program.
#include <sys/mman.h>
#include <unistd.h>

#include "cli/elf_file.h"
#include "fuzz.h"

using gpuroom::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("program", MFD_CLOEXEC);
  Require(file >= 0 && ftruncate(file, 0) == 0, "there is memory for a file");
  Require(pwrite(file, data, size, 0) == static_cast<ssize_t>(size), "the file is written");
  const gpuroom::ElfFile elf = gpuroom::InspectElf(file, size);
  Require(elf.verdict != gpuroom::ElfVerdict::kDynamic || !elf.interpreter.empty(),
          "a dynamic program has a loader");
  Require(!gpuroom::MachineName(elf.machine).empty(), "every machine has a name");
  return 0;
}
