// What the real driver was seen to do where its documentation leaves a choice;
// docs/driver-notes.md has the dates. Correct a result here and every entry
// point follows.
#pragma once

#include <cuda.h>

namespace headroom::sim::behaviour {

// A memset or copy over regions whose access sets differ (facts: invalid argument).
inline constexpr CUresult kMixedAccess = CUDA_ERROR_INVALID_VALUE;
// A memset or copy whose device address is not mapped when it is called.
inline constexpr CUresult kUnknownAddress = CUDA_ERROR_INVALID_VALUE;
// A memset or copy over memory that the device has no access to, when called.
inline constexpr CUresult kNoAccess = CUDA_ERROR_INVALID_VALUE;
// The same met by a kernel, or by work that runs after the mapping went away.
inline constexpr CUresult kFault = CUDA_ERROR_ILLEGAL_ADDRESS;
// cuMemFree, cuMemRelease, cuMemUnmap, cuMemAddressFree of what is not there.
inline constexpr CUresult kBadFree = CUDA_ERROR_INVALID_VALUE;
inline constexpr CUresult kBadRelease = CUDA_ERROR_INVALID_VALUE;
inline constexpr CUresult kBadUnmap = CUDA_ERROR_INVALID_VALUE;
inline constexpr CUresult kBadAddressFree = CUDA_ERROR_INVALID_VALUE;
// cuMemAddressFree of a reservation that still has mappings.
inline constexpr CUresult kStillMapped = CUDA_ERROR_INVALID_VALUE;
// cuMemMap over a mapping that is there.
inline constexpr CUresult kAlreadyMapped = CUDA_ERROR_INVALID_VALUE;
// cuMemCreate at a host node that does not exist.
inline constexpr CUresult kNoSuchNode = CUDA_ERROR_INVALID_VALUE;
inline constexpr CUresult kNoSuchDevice = CUDA_ERROR_INVALID_DEVICE;
// Fabric handles where the machine has no fabric.
inline constexpr CUresult kNoFabric = CUDA_ERROR_NOT_PERMITTED;
// cuIpcGetMemHandle on VMM, managed or pool memory.
inline constexpr CUresult kIpcRefused = CUDA_ERROR_INVALID_VALUE;
// cuPointerGetAttribute on an address that the driver does not know.
inline constexpr CUresult kPointerUnknown = CUDA_ERROR_INVALID_VALUE;
// cuMemGetAddressRange on one.
inline constexpr CUresult kRangeUnknown = CUDA_ERROR_NOT_FOUND;
// cuMemFree and cuMemFreeHost wait for the context's work.
inline constexpr bool kFreeSynchronizes = true;
// Calls of the VMM family count as unsafe during a global-mode capture.
inline constexpr bool kVmmUnsafeInCapture = false;

}  // namespace headroom::sim::behaviour
