// Allocations without Python, on both simulated drivers: every driver call of every step fails in turn, for
// good and once; whatever happens, nothing leaks, what slept sleeps, what was mapped has its contents, and
// the next try works.
#include "cumem/allocations.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "base/size.h"
#include "cumem/chunk_size.h"

namespace gpuroom::cumem {
namespace {

constexpr uint64_t kBytes = 6 * kMiB;

// A simulated driver's control functions, found as any program finds them.
class Sim {
 public:
  explicit Sim(bool hip)
      : library_(dlopen(hip ? "libamdhip64.so.7" : "libcuda.so.1", RTLD_NOW)),
        prefix_(hip ? "gpuroom_hip_sim_" : "gpuroom_sim_") {}

  void Fail(const std::string& spec) { Get<void(const char*)>("fail")(spec.c_str()); }
  uint64_t Calls() { return Get<uint64_t(const char*)>("call_count")("*"); }
  uint64_t Used() { return Get<uint64_t(int)>("used")(0); }
  std::string Leaks() { return Lines("leaks"); }
  std::string Misuses() { return Lines("strict_errors"); }

 private:
  template <typename F>
  F* Get(const char* name) {
    auto* found = reinterpret_cast<F*>(dlsym(library_, (prefix_ + name).c_str()));
    if (found == nullptr) std::abort();
    return found;
  }
  std::string Lines(const char* name) {
    char text[4096] = {};
    Get<int(char*, size_t)>(name)(text, sizeof text);
    return text;
  }

  void* const library_;
  const std::string prefix_;
};

Claim ClaimOf(const Grant& grant) {
  return {grant.va, grant.pieces.front().handle_address, grant.pieces.size()};
}

class AllocationsTest : public ::testing::TestWithParam<const char*> {
 protected:
  AllocationsTest() : sim_(std::strcmp(GetParam(), "hip") == 0) {
    setenv("GPUROOM_CUMEM_BACKEND", GetParam(), 1);
    setenv("VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE", "2", 1);
    ForgetOperationsForTest();
  }

  void TearDown() override {
    sim_.Fail("");
    EXPECT_EQ(all_.count(), 0U);
    EXPECT_EQ(sim_.Leaks(), "");
    EXPECT_EQ(sim_.Misuses(), "");
  }

  Grant Awake() {
    Grant grant;
    Error error;
    EXPECT_TRUE(all_.Reserve(kBytes, 0, &grant, &error)) << error.text();
    EXPECT_TRUE(all_.CreateAndMap(ClaimOf(grant), &error)) << error.text();
    return grant;
  }
  void Gone(const Grant& grant) {
    Error error;
    EXPECT_TRUE(all_.Free(grant.va, &error)) << error.text();
  }

  // Fails call 1, 2, ... of `step` once each, until a run meets no failure. After(failed) looks at what is
  // left.
  template <typename Before, typename Step, typename After>
  int Sweep(Before before, Step step, After after) {
    int failures = 0;
    for (int k = 1; k < 200; ++k) {
      before();
      const uint64_t start = sim_.Calls();
      sim_.Fail("*:" + std::to_string(k) + ":999");
      Error error;
      const bool done = step(&error);
      const uint64_t calls = sim_.Calls() - start;
      sim_.Fail("");
      EXPECT_EQ(done, !error.set()) << k << error.text();
      failures += done ? 0 : 1;
      after(done);
      if (static_cast<int>(calls) < k) return failures;
    }
    ADD_FAILURE() << "the sweep found no end";
    return failures;
  }

  Sim sim_;
  Allocations all_;
};

TEST_P(AllocationsTest, EveryCallOfAReservationFails) {
  Grant grant;
  const int failures =
      Sweep([&] { grant = {}; }, [&](Error* error) { return all_.Reserve(kBytes, 0, &grant, error); },
            [&](bool done) {
              EXPECT_EQ(all_.count(), done ? 1U : 0U);
              if (done) Gone(grant);
            });
  EXPECT_GE(failures, 2);
}

TEST_P(AllocationsTest, EveryCallOfAWakeFails) {
  const Grant grant = Awake();
  Error error;
  const int failures =
      Sweep([&] { ASSERT_TRUE(all_.UnmapAndRelease(ClaimOf(grant), &error)) << error.text(); },
            [&](Error* why) { return all_.CreateAndMap(ClaimOf(grant), why); },
            [&](bool done) {
              EXPECT_EQ(sim_.Used(), done ? kBytes : 0);
              if (done) return;
              ASSERT_TRUE(all_.CreateAndMap(ClaimOf(grant), &error)) << error.text();
            });
  EXPECT_GE(failures, 3);
  Gone(grant);
}

TEST_P(AllocationsTest, EveryCallOfASleepFails) {
  Grant grant = Awake();
  Error error;
  const int failures = Sweep([] {}, [&](Error* why) { return all_.UnmapAndRelease(ClaimOf(grant), why); },
                             [&](bool done) {
                               EXPECT_EQ(sim_.Used(), done ? 0 : kBytes);
                               // Mapped still, and with access: a wake has nothing to do.
                               Error refused;
                               EXPECT_EQ(all_.CreateAndMap(ClaimOf(grant), &refused), done);
                             });
  EXPECT_GE(failures, 2);
  Gone(grant);
}

TEST_P(AllocationsTest, EveryCallOfAFreeFails) {
  Grant grant;
  Sweep([&] { grant = Awake(); }, [&](Error* error) { return all_.Free(grant.va, error); },
        [&](bool done) {
          if (done) return;
          Gone(Awake());  // gives back what was left
          EXPECT_EQ(sim_.Leaks(), "");
        });
}

TEST_P(AllocationsTest, NothingThatStaysBrokenIsForgotten) {
  // Failures so many that no patience helps; seeds of the CUDA simulation, onwards rules of HIP's.
  const bool hip = std::strcmp(GetParam(), "hip") == 0;
  for (int k = 1; k < 12; ++k) {
    const Grant grant = Awake();
    Error error;
    sim_.Fail(hip ? "*:" + std::to_string(k) + "+:999" : "seed:" + std::to_string(k) + ":97");
    const bool slept = all_.UnmapAndRelease(ClaimOf(grant), &error);
    EXPECT_EQ(slept, !error.set());
    Error freed;
    all_.Free(grant.va, &freed);
    Grant other;
    Error refused;
    const bool more = all_.Reserve(kBytes, 0, &other, &refused);
    sim_.Fail("");
    if (more) Gone(other);
    Gone(Awake());
    EXPECT_EQ(sim_.Leaks(), "") << k;
    EXPECT_EQ(all_.count(), 0U) << k;
  }
}

TEST_P(AllocationsTest, ManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 25; ++i) {
        const Grant grant = Awake();
        Error error;
        EXPECT_TRUE(all_.UnmapAndRelease(ClaimOf(grant), &error)) << error.text();
        EXPECT_FALSE(all_.UnmapAndRelease(ClaimOf(grant), &error));
        Error wake;
        if (i % 2 == 0) {
          EXPECT_TRUE(all_.CreateAndMap(ClaimOf(grant), &wake)) << wake.text();
        }
        Gone(grant);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(Drivers, AllocationsTest, ::testing::Values("cuda", "hip"),
                         [](const auto& driver) { return std::string(driver.param); });

TEST(ChunkSizeTest, TakesWholeMegabytes) {
  uint64_t bytes = 0;
  for (const auto& [text, megabytes] : {std::pair<const char*, uint64_t>{"1", 1},
                                        {"256", 256},
                                        {"0x40", 64},
                                        {"8796093022207", 8796093022207}}) {
    EXPECT_TRUE(ParseChunkSize(text, &bytes)) << text;
    EXPECT_EQ(bytes, megabytes * kMiB) << text;
  }
  for (const char* text : {static_cast<const char*>(nullptr), ""}) {
    EXPECT_TRUE(ParseChunkSize(text, &bytes));
    EXPECT_EQ(bytes, kDefaultChunkBytes);
  }
}

TEST(ChunkSizeTest, NamesTheRestAndUsesTheDefault) {
  for (const char* text :
       {"0", "-1", "+1", " 1", "1 ", "1MB", "1.5", "0x", "x", "8796093022208", "18446744073709551616"}) {
    uint64_t bytes = 0;
    EXPECT_FALSE(ParseChunkSize(text, &bytes)) << text;
    EXPECT_EQ(bytes, kDefaultChunkBytes) << text;
  }
}

TEST(ErrorTest, KeepsTheFirstAndCutsWhatIsTooLong) {
  Error error;
  EXPECT_FALSE(error.set());
  error.Set("out of memory", "some/where/record.cc", 7, "%s", "cuMemCreate");
  error.Set("invalid argument", "record.cc", 8, "%s", "cuMemUnmap");
  EXPECT_STREQ(error.text(), "CUDA Error: out of memory at record.cc:7 (cuMemCreate)");
  Error cut;
  const std::string text(5000, 'x');
  cut.Set(text.c_str(), "record.cc", 7, "%s", text.c_str());
  EXPECT_GT(std::strlen(cut.text()), 400U);
}

}  // namespace
}  // namespace gpuroom::cumem
