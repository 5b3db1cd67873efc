// The file of measured link speeds: what was written comes back, what is odd is
// as good as absent, and a failed write leaves the old file.
#include "cli/link_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "cli/bench_links.h"

namespace gpuroom {
namespace {

namespace fs = std::filesystem;

LinkEntry Entry(const std::string& uuid, const std::string& driver = "580.159.04") {
  return {"NVIDIA H200",
          uuid,
          driver,
          {4'560'000'000'000, 375'000'000'000, 51'300'000'000},
          "2026-11-21T12:00:00Z"};
}

class LinkCacheFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = testing::TempDir() + "gpuroom-links-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = folder + "/cache/gpuroom/links.json";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Put(const std::string& text) {
    fs::create_directories(fs::path(path_).parent_path());
    std::ofstream(path_, std::ios::binary) << text;
  }
  std::string Get() const {
    std::ostringstream text;
    text << std::ifstream(path_, std::ios::binary).rdbuf();
    return text.str();
  }
  size_t FilesInFolder() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(fs::path(path_).parent_path()), fs::directory_iterator()));
  }

  std::string folder_;
  std::string path_;
};

TEST_F(LinkCacheFile, WhatIsNotThereIsEmptyWithoutAWord) {
  const LinkCache cache = ReadLinkCache(path_);
  EXPECT_TRUE(cache.entries.empty());
  EXPECT_EQ(cache.warning, "");
  EXPECT_TRUE(ReadLinkCache("").entries.empty());
}

TEST_F(LinkCacheFile, WhatWasWrittenComesBack) {
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  const LinkCache cache = ReadLinkCache(path_);
  EXPECT_EQ(cache.warning, "");
  const std::optional<LinkEntry> found = FindLinks(cache, "GPU-a", "580.159.04");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->gpu_name, "NVIDIA H200");
  EXPECT_EQ(found->speeds.device, 4'560'000'000'000u);
  EXPECT_EQ(found->speeds.peer, 375'000'000'000u);
  EXPECT_EQ(found->speeds.host, 51'300'000'000u);
  EXPECT_EQ(found->measured, "2026-11-21T12:00:00Z");
  EXPECT_FALSE(FindLinks(cache, "GPU-b", "580.159.04").has_value());
  EXPECT_FALSE(FindLinks(cache, "GPU-a", "590.1").has_value());
}

TEST_F(LinkCacheFile, OnlyItsOwnerMayReadIt) {
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  struct stat info = {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(FilesInFolder(), 1u);
}

TEST_F(LinkCacheFile, ANewMeasurementReplacesTheSameGpusAlone) {
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-b")).failed());
  LinkEntry newer = Entry("GPU-a", "590.10");
  newer.speeds.peer = 0;
  ASSERT_FALSE(WriteLinkCache(path_, newer).failed());
  const LinkCache cache = ReadLinkCache(path_);
  EXPECT_EQ(cache.entries.size(), 2u);
  EXPECT_FALSE(FindLinks(cache, "GPU-a", "580.159.04").has_value());
  EXPECT_TRUE(FindLinks(cache, "GPU-b", "580.159.04").has_value());
  ASSERT_TRUE(FindLinks(cache, "GPU-a", "590.10").has_value());
  EXPECT_EQ(FindLinks(cache, "GPU-a", "590.10")->speeds.peer, 0u);
}

TEST_F(LinkCacheFile, AFileThatIsNoCacheWarnsOnceAndIsReplaced) {
  for (const char* text : {"", "{", "[]", "null", "{\"version\":1}", "{\"version\":2,\"machines\":[]}",
                           "{\"version\":\"1\",\"machines\":[]}", "{\"version\":1,\"machines\":{}}"}) {
    Put(text);
    const LinkCache cache = ReadLinkCache(path_);
    EXPECT_TRUE(cache.entries.empty()) << text;
    EXPECT_NE(cache.warning.find(path_), std::string::npos) << text;
    EXPECT_NE(cache.warning.find("bench tiers"), std::string::npos) << text;
  }
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  EXPECT_EQ(ReadLinkCache(path_).warning, "");
}

TEST_F(LinkCacheFile, EntriesThatMakeNoSenseAreLeftOut) {
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  const std::string good = Get();
  const std::pair<const char*, const char*> damages[] = {
      {"4560000000000", "0"},
      {"4560000000000", "-1"},
      {"51300000000", "1.5"},
      {"51300000000", "\"fast\""},
      {"375000000000", "18446744073709551615"},
      {"375000000000", "1"},
      {"GPU-a", ""},
      {"580.159.04", "\\u001b[2J"},
      {"\"driver\"", "\"drover\""},
      {"\"NVIDIA H200\"", "7"},
  };
  for (const auto& [before, after] : damages) {
    std::string text = good;
    const size_t at = text.find(before);
    ASSERT_NE(at, std::string::npos) << before;
    Put(text.replace(at, std::string(before).size(), after));
    const LinkCache cache = ReadLinkCache(path_);
    EXPECT_TRUE(cache.entries.empty()) << text;
    EXPECT_EQ(cache.warning, "") << text;
  }
}

TEST_F(LinkCacheFile, RandomDamageNeverCrashes) {
  ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-a")).failed());
  const std::string good = Get();
  std::mt19937 random(7);
  int survivors = 0;
  for (int i = 0; i < 500; ++i) {
    std::string text = good;
    // Bytes of any kind, or of the file's own kind, which more often leave it readable.
    const bool any = random() % 2 == 0;
    for (int k = 0; k < 2; ++k) {
      text[random() % text.size()] = any ? static_cast<char>(random() % 256) : good[random() % good.size()];
    }
    Put(text.substr(0, random() % 4 == 0 ? random() % text.size() : text.size()));
    for (const LinkEntry& entry : ReadLinkCache(path_).entries) {
      ++survivors;
      EXPECT_TRUE(ArePlausible(entry.speeds));
      EXPECT_EQ(Printable(entry.driver), entry.driver);
    }
    if (i % 25 != 0) continue;  // each write goes to the disk
    ASSERT_FALSE(WriteLinkCache(path_, Entry("GPU-b")).failed());
    ASSERT_TRUE(FindLinks(ReadLinkCache(path_), "GPU-b", "580.159.04").has_value());
  }
  EXPECT_GT(survivors, 0);  // or the damage was such that nothing was tried
}

TEST_F(LinkCacheFile, WhatIsNoRegularFileIsNotRead) {
  fs::create_directories(path_);
  EXPECT_NE(ReadLinkCache(path_).warning, "");
  fs::remove(path_);
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_NE(ReadLinkCache(path_).warning, "");  // and does not wait for a writer
  fs::remove(path_);
  Put(std::string((1 << 20) + 1, ' '));
  EXPECT_NE(ReadLinkCache(path_).warning, "");
}

TEST_F(LinkCacheFile, ImplausibleSpeedsAreNotWritten) {
  LinkEntry entry = Entry("GPU-a");
  entry.speeds.host = 0;
  const Failure failure = WriteLinkCache(path_, entry);
  EXPECT_EQ(failure.exit_code, kExitUsage);
  EXPECT_NE(failure.text.find("GPU-a"), std::string::npos);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(LinkCacheFile, AFailedWriteLeavesTheOldFileAndNoOther) {
  fs::create_directories(path_ + "/in-the-way");  // rename onto it fails for root, too
  const Failure failure = WriteLinkCache(path_, Entry("GPU-a"));
  EXPECT_EQ(failure.exit_code, kExitFailed);
  EXPECT_NE(failure.text.find(path_), std::string::npos);
  EXPECT_TRUE(fs::exists(path_ + "/in-the-way"));
  EXPECT_EQ(FilesInFolder(), 1u);
  EXPECT_EQ(WriteLinkCache("", Entry("GPU-a")).exit_code, kExitFailed);
}

TEST(LinkCachePath, FollowsTheEnvironment) {
  const char* home = std::getenv("HOME");
  const std::string kept = home != nullptr ? home : "";
  setenv("HOME", "/users/someone", 1);
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(LinkCachePath(), "/users/someone/.cache/gpuroom/links.json");
  setenv("XDG_CACHE_HOME", "/var/cache/someone", 1);
  EXPECT_EQ(LinkCachePath(), "/var/cache/someone/gpuroom/links.json");
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(LinkCachePath(), "/users/someone/.cache/gpuroom/links.json");
  unsetenv("XDG_CACHE_HOME");
  unsetenv("HOME");
  EXPECT_EQ(LinkCachePath(), "");
  setenv("HOME", kept.c_str(), 1);
}

TEST(DriverIdentityOf, ASimulatedDriverIsItsProfile) {
  EXPECT_EQ(DriverIdentity("1GiB,host=4GiB"), "simulated 1GiB,host=4GiB");
}

// What of a measurement is kept: all that can be said truly.
class MeasuredLinks : public LinkCacheFile {
 protected:
  MeasuredLinks() {
    subject_.gpu.name = "NVIDIA H200";
    subject_.gpu.uuid = "GPU-a";
    subject_.driver = "580.159.04";
    subject_.measured = "2026-11-21T12:00:00Z";
    result_.links.push_back({{Tier::kDevice, 0}, {4e12, 3e12}, ""});
    Measured(5e10, &result_.host);
    result_.peer.skipped = "no other GPU can be reached";
  }
  static void Measured(double read, measure::TierSeries* series) {
    measure::SharePoint point;
    point.interleaved.read = read;
    series->points.push_back(point);
  }

  BenchSubject subject_;
  measure::TiersResult result_;
  LinkEntry entry_;
};

TEST_F(MeasuredLinks, AreThoseOfTheDeviceTheHostAndThePeer) {
  Measured(3e11, &result_.peer);
  ASSERT_EQ(LinkEntryOf(subject_, result_, &entry_), "");
  EXPECT_EQ(FormatLinkSpeeds(entry_.speeds), "device=4000000000000,peer=300000000000,host=50000000000");
  EXPECT_FALSE(WriteLinkCache(path_, entry_).failed());
}

TEST_F(MeasuredLinks, OfAnIntegratedGpuTheHostIsAsFastAsItsOwnMemory) {
  subject_.gpu.integrated = true;
  result_.host = {};
  result_.host.skipped = "this GPU has no memory but the host's";
  ASSERT_EQ(LinkEntryOf(subject_, result_, &entry_), "");
  EXPECT_EQ(FormatLinkSpeeds(entry_.speeds), "device=4000000000000,host=4000000000000");
  EXPECT_FALSE(WriteLinkCache(path_, entry_).failed());
}

TEST_F(MeasuredLinks, AHostThatWasSkippedIsNamedAsSuch) {
  result_.host = {};
  result_.host.skipped = "host node 0 has less than 64.0 MiB free";
  EXPECT_EQ(LinkEntryOf(subject_, result_, &entry_), result_.host.skipped);
}

TEST_F(MeasuredLinks, ADriverWithoutAVersionIsNamedAsSuch) {
  subject_.driver = "";
  EXPECT_NE(LinkEntryOf(subject_, result_, &entry_).find("/proc/driver/nvidia/version"), std::string::npos);
}

TEST_F(MeasuredLinks, ASimulatedDriversAreNotKept) {
  subject_.simulated = true;
  EXPECT_EQ(LinkEntryOf(subject_, result_, &entry_), "the driver is simulated");
}

}  // namespace
}  // namespace gpuroom
