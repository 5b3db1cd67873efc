// Record: one allocation's addresses and the physical memory behind them, and the steps that make it and give
// it back. Each step leaves the record true: which chunk is created, which is mapped; so that whatever failed
// can be tried again. No lock: the caller has one.
#pragma once

#include <cstdint>
#include <vector>

#include "cumem/error.h"
#include "cumem/operations.h"

namespace gpuroom::cumem {

struct Chunk {
  uint64_t handle = 0;  // its address is what the callbacks know the chunk by
  uint64_t bytes = 0;
  bool created = false;
  bool mapped = false;
  bool created_now = false;  // by the step in progress
  bool mapped_now = false;
};

struct Record {
  int device = 0;
  uint64_t va = 0;
  uint64_t bytes = 0;
  std::vector<Chunk> chunks;  // side by side from `va`; never resized once the addresses are reserved
  bool accessible = false;    // all is mapped, and the device may touch it
  bool freed = false;         // the caller has given it up

  bool has_memory() const;
  bool has_mappings() const;
};

// True for code 0; else *error tells of the call: "Create" is cuMemCreate or hipMemCreate.
bool Check(const Operations& gpu, int code, const char* call, uint64_t bytes, int device, const char* file,
           int line, Error* error);

// Creates and maps what is missing. All or nothing.
bool MapMissing(Operations& gpu, Record& record, Error* error);

// Waits for the device; unmaps; releases. Where a chunk cannot be unmapped all are mapped again, with their
// contents. Where one cannot be released that is left to the next call.
bool Withdraw(Operations& gpu, Record& record, Error* error);

// Gives back memory and addresses, with patience: there is no caller any more who could try again. False:
// something is left, for the next time.
bool Dispose(Operations& gpu, Record& record, Error* error);

}  // namespace gpuroom::cumem

#define GPUROOM_CUMEM_CALL(gpu, code, call, bytes, device, error) \
  ::gpuroom::cumem::Check(gpu, code, call, bytes, device, __FILE__, __LINE__, error)
