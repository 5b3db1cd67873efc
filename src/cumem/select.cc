#include <cstdlib>
#include <cstring>
#include <memory>

#include "cumem/operations.h"

namespace gpuroom::cumem {
namespace {

constexpr char kBackendVariable[] = "GPUROOM_CUMEM_BACKEND";

std::unique_ptr<Operations>& Selected() {
  static auto* selected = new std::unique_ptr<Operations>;  // threads may outlive main
  return *selected;
}

Operations* Choose(Error* error) {
  const char* wish = std::getenv(kBackendVariable);
  const bool any = wish == nullptr || *wish == 0;
  const bool cuda = any || std::strcmp(wish, "cuda") == 0;
  const bool hip = any || std::strcmp(wish, "hip") == 0;
  if (!cuda && !hip) {
    GPUROOM_CUMEM_FAIL(error, kInvalidArgument, "%s is '%.40s'; write cuda or hip, or unset it",
                       kBackendVariable, wish);
    return nullptr;
  }
  char no_cuda[160] = "not asked for";
  char no_hip[160] = "not asked for";
  Operations* found = cuda ? BindCuda(no_cuda, sizeof no_cuda) : nullptr;
  if (found == nullptr && hip) found = BindHip(no_hip, sizeof no_hip);
  if (found == nullptr) GPUROOM_CUMEM_FAIL(error, "no GPU", "CUDA: %s; HIP: %s", no_cuda, no_hip);
  return found;
}

}  // namespace

Operations* SelectOperations(Error* error) {
  std::unique_ptr<Operations>& selected = Selected();
  if (selected == nullptr) selected.reset(Choose(error));
  return selected.get();
}

void ForgetOperationsForTest() { Selected().reset(); }

}  // namespace gpuroom::cumem
