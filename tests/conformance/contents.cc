#include "contents.h"

namespace gpuroom::conformance {

uint64_t Mix(uint64_t x) {
  uint64_t z = x + 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::vector<uint64_t> Pattern(uint64_t words, uint64_t seed) {
  std::vector<uint64_t> pattern(words);
  for (uint64_t i = 0; i < words; ++i) pattern[i] = Mix(seed + i);
  return pattern;
}

std::string CheckByKernel(Session& s, CUdeviceptr p, uint64_t words, uint64_t seed) {
  Scope scope(s);
  const CUdeviceptr bad = scope.Alloc(sizeof(uint64_t));
  Need(s.cu().MemsetD8(bad, 0, sizeof(uint64_t)), "clearing the counter");
  s.Verify(p, words, seed, bad, nullptr);
  uint64_t count = 0;
  Need(s.cu().MemcpyDtoH(&count, bad, sizeof count), "reading the counter");
  return count == 0 ? "right" : std::to_string(count) + " words wrong";
}

std::string CheckHere(const uint64_t* p, uint64_t words, uint64_t seed) {
  uint64_t count = 0;
  for (uint64_t i = 0; i < words; ++i) count += p[i] != Mix(seed + i) ? 1 : 0;
  return count == 0 ? "right" : std::to_string(count) + " words wrong";
}

std::string CheckBytes(Session& s, CUdeviceptr p, size_t bytes, unsigned char value) {
  std::vector<unsigned char> copy(bytes, static_cast<unsigned char>(~value));
  Need(s.cu().MemcpyDtoH(copy.data(), p, bytes), "copying out");
  size_t count = 0;
  for (unsigned char byte : copy) count += byte != value ? 1 : 0;
  return count == 0 ? "right" : std::to_string(count) + " bytes wrong";
}

void FillAndWait(Session& s, CUdeviceptr p, uint64_t words, uint64_t seed) {
  s.Fill(p, words, seed, nullptr);
  Need(s.cu().CtxSynchronize(), "gpuroom_fill");
}

}  // namespace gpuroom::conformance
