// What is taken out of PyTorch's allocator configuration, and that the rest is as it was.
#include "cli/alloc_conf.h"

#include <gtest/gtest.h>

namespace gpuroom {
namespace {

AllocConf Parsed(std::string_view text) {
  AllocConf conf;
  const Failure failure = ParseAllocConf("PYTORCH_ALLOC_CONF", text, &conf);
  EXPECT_FALSE(failure.failed()) << text << ": " << failure.text;
  return conf;
}

std::string Refused(std::string_view text) {
  AllocConf conf;
  const Failure failure = ParseAllocConf("PYTORCH_ALLOC_CONF", text, &conf);
  EXPECT_EQ(failure.exit_code, kExitUsage) << text;
  return failure.text;
}

TEST(AllocConf, TheLinesOfThePatches) {
  const AllocConf one = Parsed("use_uvm:True");
  EXPECT_TRUE(one.ours);
  EXPECT_EQ(one.use_uvm, true);
  EXPECT_FALSE(one.ratio || one.pattern);
  EXPECT_EQ(one.rest, "");
  const AllocConf all = Parsed("use_uvm:True,uvm_oversubscription_ratio:5.0,uvm_access_pattern:gpu_first");
  EXPECT_EQ(all.use_uvm, true);
  EXPECT_EQ(all.ratio, "5.0");
  EXPECT_EQ(all.pattern, "gpu_first");
  EXPECT_EQ(all.rest, "");
}

TEST(AllocConf, WithoutOursNothingIsTouched) {
  for (const char* text :
       {"", "expandable_segments:True", "a:1,,b:[1,2", "use_uvm2:True", "'use_uvm:True'"}) {
    const AllocConf conf = Parsed(text);
    EXPECT_FALSE(conf.ours) << text;
    EXPECT_FALSE(conf.use_uvm.has_value()) << text;
    EXPECT_EQ(conf.rest, text);
  }
}

TEST(AllocConf, TheRestSurvivesByteForByte) {
  const std::string lists = "backend:native,roundup_power2_divisions:[256:1,512:2,>:8]";
  EXPECT_EQ(Parsed(lists + ",use_uvm:True").rest, lists);
  EXPECT_EQ(Parsed("use_uvm:True," + lists).rest, lists);
  EXPECT_EQ(Parsed("backend:native,use_uvm:True,roundup_power2_divisions:[256:1,512:2,>:8]").rest, lists);
  EXPECT_EQ(Parsed(" a : \"x y\" ,use_uvm:True,\tb:'1'").rest, " a : \"x y\" ,\tb:'1'");
  EXPECT_EQ(Parsed("a,use_uvm:False,,b:").rest, "a,,b:");
  EXPECT_EQ(Parsed("a:[use_uvm:True,b],use_uvm:False").rest,
            "a:[use_uvm:True,b]");  // inside a list it is no key
  EXPECT_EQ(Parsed("use_uvm:True, ,").rest, "");
}

TEST(AllocConf, SpacesDoNotCountAndTheLastOfAKeyDoes) {
  const AllocConf conf = Parsed(
      " use _uvm : True ,uvm_oversubscription_ratio:2,uvm_oversubscription_ratio: 3 . 5,use_uvm:False");
  EXPECT_EQ(conf.use_uvm, false);
  EXPECT_EQ(conf.ratio, "3.5");
  EXPECT_EQ(conf.rest, "");
}

TEST(AllocConf, BadValuesAreNamedWithTheGoodOnes) {
  EXPECT_EQ(Refused("use_uvm:true"), "PYTORCH_ALLOC_CONF: use_uvm 'true': write True or False");
  EXPECT_EQ(Refused("use_uvm"), "PYTORCH_ALLOC_CONF: use_uvm '': write True or False");
  EXPECT_EQ(Refused("uvm_access_pattern:gpu"),
            "PYTORCH_ALLOC_CONF: uvm_access_pattern 'gpu': take gpu_first, balanced or cpu_first");
  for (const char* ratio : {"", "0", "x", "-1", "1e3", "5.0x"}) {
    EXPECT_NE(
        Refused(std::string("use_uvm:True,uvm_oversubscription_ratio:") + ratio).find("from 0.1 to 100"),
        std::string::npos);
  }
}

}  // namespace
}  // namespace gpuroom
