// A folder that nobody but this user can write to or look into. Others may have made its name first, as a
// link or with rights of theirs, where they can write beside it (/tmp). Plain system calls, no allocation;
// any thread.
#pragma once

namespace gpuroom {

enum class FolderState {
  kPrivate,
  kMissing,       // it is not there, or cannot be made; errno says why
  kNotAFolder,    // it is a link or a file, or may not be read; errno says why
  kForeign,       // it is another user's
  kOpenToOthers,  // it is this user's, and others have rights in it
};

FolderState StateOfFolder(const char* path);
// The same, after making it (mode 0700) where it is missing. The folder above it has to be there.
FolderState MakePrivateFolder(const char* path);

}  // namespace gpuroom
