// What the real driver was seen to do where its documentation leaves a choice;
// docs/driver-notes.md has the dates. Correct a result here and every entry
// point follows.
#pragma once

#include <cuda.h>

namespace gpuroom::sim::behaviour {

// A memset over regions whose access sets differ. Copies over them work on the
// device alone; with pageable memory on the other side the driver copies on the
// host where some of them is open to it, and faults (CrashAsDriver).
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
// cuMemMap of less, or more, than the whole handle, or from an offset.
inline constexpr CUresult kPartialMap = CUDA_ERROR_NOT_SUPPORTED;
// cuMemUnmap of a span of a reservation in which nothing, or not all, is mapped.
inline constexpr CUresult kNothingToUnmap = CUDA_SUCCESS;
// Host access to a device chunk without a coherent link.
inline constexpr CUresult kNoHostAccess = CUDA_ERROR_NOT_SUPPORTED;
// An import of what is no descriptor of the driver's.
inline constexpr CUresult kBadImport = CUDA_ERROR_UNKNOWN;

}  // namespace gpuroom::sim::behaviour
