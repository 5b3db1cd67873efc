// Operations: the calls of a GPU driver that sleeping memory is made of, over CUDA's or HIP's. Bound at run
// time; nothing links libcuda or libamdhip64. Every call gives the driver's own code, 0 for success. The
// caller lets one thread in at a time (Allocations does).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cumem/error.h"

namespace gpuroom::cumem {

class Operations {
 public:
  virtual ~Operations() = default;

  // "cuMem" or "hipMem": what the names of its calls begin with.
  virtual const char* prefix() const = 0;
  // A text for a code; never null.
  virtual const char* Text(int code) const = 0;
  // Of a code: the driver does not do this while a stream is captured.
  virtual bool IsCapture(int code) const = 0;
  // Bytes of one physical allocation at most; 0: an allocation is one, whatever its size.
  virtual uint64_t chunk_bytes() const = 0;
  // Whether a reservation has to be aligned by hand.
  virtual bool aligns() const = 0;

  // Gives this thread a context to work in where it has none; it keeps it, as the original has it.
  virtual int Enter(int device) = 0;
  // Waits for all that runs on the device.
  virtual int Drain(int device) = 0;
  virtual int Granularity(int device, size_t* bytes) = 0;
  virtual int Reserve(uint64_t* va, size_t bytes, size_t alignment) = 0;
  virtual int FreeAddress(uint64_t va, size_t bytes) = 0;
  // Memory of the device, as shareable as the device can.
  virtual int Create(int device, size_t bytes, uint64_t* handle) = 0;
  virtual int Release(uint64_t handle) = 0;
  virtual int Map(uint64_t va, size_t bytes, uint64_t handle) = 0;
  virtual int Unmap(uint64_t va, size_t bytes) = 0;
  // Reading and writing for the device.
  virtual int SetAccess(int device, uint64_t va, size_t bytes) = 0;
};

// Null where libcuda.so.1 has no GPU; *reason (at least 128 bytes) says why.
Operations* BindCuda(char* reason, size_t size);
// Null where libamdhip64.so has none.
Operations* BindHip(char* reason, size_t size);

// What GPUROOM_CUMEM_BACKEND names, cuda or hip; unset: CUDA where it has a GPU, else HIP. The answer holds
// for the process; a failure does not, so that a later call asks again. One thread at a time.
Operations* SelectOperations(Error* error);

// For programs: forget the answer of SelectOperations. For tests.
void ForgetOperationsForTest();

}  // namespace gpuroom::cumem
