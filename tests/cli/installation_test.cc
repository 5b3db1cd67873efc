// Where the command finds its libraries: in a prefix, and in what pip makes of the wheel.
#include "cli/installation.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace gpuroom {
namespace {

namespace fs = std::filesystem;

class Prefix : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "gpuroom-installation-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  // A prefix below the root that holds the library.
  std::string AddPrefix(const std::string& folder) {
    fs::create_directories(root_ / folder / "lib" / "gpuroom");
    std::ofstream(root_ / folder / "lib" / "gpuroom" / kShimName);
    return (root_ / folder).string();
  }

  // The Python package, of a version, as pip installs it below the root.
  std::string AddPackage(const std::string& folder, const std::string& version) {
    fs::create_directories(root_ / folder / ("gpuroom-" + version + ".dist-info"));
    return AddPrefix(folder + "/gpuroom/_native");
  }

  std::string Found() { return FindPrefix((root_ / "bin" / "gpuroom").string(), "2.0"); }

  fs::path root_;
};

TEST_F(Prefix, IsAboveTheCommand) {
  AddPackage("lib/python3.11/site-packages", "2.0");
  AddPrefix(".");
  EXPECT_EQ(fs::path(Found()), root_);
}

TEST_F(Prefix, IsThePackageInAnEnvironment) {
  const std::string package = AddPackage("lib/python3.11/site-packages", "2.0");
  EXPECT_EQ(Found(), package);
}

TEST_F(Prefix, IsThePackageOfDebiansPython) {
  const std::string package = AddPackage("lib/python3.11/dist-packages", "2.0");
  EXPECT_EQ(Found(), package);
}

TEST_F(Prefix, IsThePackageInLib64) {
  const std::string package = AddPackage("lib64/python3.9/site-packages", "2.0");
  EXPECT_EQ(Found(), package);
}

TEST_F(Prefix, IsThePackageInATargetFolder) {
  const std::string package = AddPackage(".", "2.0");
  EXPECT_TRUE(fs::equivalent(Found(), package));
}

TEST_F(Prefix, IsThePackageOfTheCommandsVersion) {
  AddPackage("lib/python3.10/site-packages", "1.0");
  const std::string package = AddPackage("lib/python3.11/site-packages", "2.0");
  AddPackage("lib/python3.12/site-packages", "3.0");
  EXPECT_EQ(Found(), package);
}

TEST_F(Prefix, IsAnotherVersionsPackageWhereThereIsNoBetter) {
  const std::string package = AddPackage("lib/python3.10/site-packages", "1.0");
  EXPECT_EQ(Found(), package);
}

TEST_F(Prefix, IsAboveTheCommandWhereNothingIsFound) {
  fs::create_directories(root_ / "lib" / "python3.11" / "site-packages" / "gpuroom");
  EXPECT_EQ(fs::path(Found()), root_);
}

}  // namespace
}  // namespace gpuroom
