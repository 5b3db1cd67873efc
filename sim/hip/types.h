// The few types of HIP that its virtual memory calls take, in C's layout, with HIP's names and values.
#pragma once

#include <cstddef>

enum hipError_t : int {
  hipSuccess = 0,
  hipErrorInvalidValue = 1,
  hipErrorOutOfMemory = 2,
  hipErrorInvalidDevice = 101,
  hipErrorIllegalAddress = 700,
  hipErrorNotSupported = 801,
  hipErrorStreamCaptureUnsupported = 900,
  hipErrorUnknown = 999,
};

struct hipMemLocation {
  int type;  // 1: device, 2: host
  int id;
};

struct hipMemAllocationProp {
  int type;  // 1: pinned
  int requestedHandleType;
  hipMemLocation location;
  void* win32HandleMetaData;
  struct {
    unsigned char compressionType;
    unsigned char gpuDirectRDMACapable;
    unsigned short usage;
  } allocFlags;
};

struct hipMemAccessDesc {
  hipMemLocation location;
  int flags;  // 0: none, 1: read, 3: read and write
};

using hipHandle = struct SimulatedHandle*;
