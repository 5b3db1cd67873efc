// Status and Result: how the core reports failure. Nothing here allocates or
// throws; the text is a static string that names the step that failed. A front
// (CLI, shim) turns a Status into its world's own form.
//
// Lack of memory has a code of its own, since every caller must tell it from a
// defect: it is an answer, not an error.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

namespace gpuroom {

enum class Code : uint8_t {
  kOk,
  kOutOfMemory,      // a budget or the driver has no more; try another tier
  kInvalidArgument,  // the caller's input; the text names what to change
  kNotFound,         // no such file, symbol, device or range
  kUnsupported,      // this driver, GPU or kernel cannot do it
  kDriver,           // a CUDA call failed; native() is its CUresult
  kSystem,           // a system call failed; native() is errno
  kBusy,             // not now: a capture or another holder is in the way
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  // `what` must outlive the Status: pass a string literal.
  Status(Code code, const char* what, int native = 0) : what_(what), native_(native), code_(code) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const char* what() const { return what_; }
  int native() const { return native_; }

 private:
  const char* what_ = "";
  int native_ = 0;
  Code code_ = Code::kOk;
};

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit by design
  Result(Status status) : status_(status) {}     // NOLINT

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  // By value: a reference into a temporary would end before a loop over it does.
  T operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

// The code's name as logs and JSON show it, e.g. "out_of_memory".
const char* CodeName(Code code);

}  // namespace gpuroom
