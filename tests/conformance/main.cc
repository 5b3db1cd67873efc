// gpuroom_conformance: how the CUDA driver behaves where gpuroom depends on it.
//   gpuroom_conformance             each probe is a test against expectations.txt
//   gpuroom_conformance --observe [TOPIC]   prints each answer in that file's form
//   gpuroom_conformance --probe P   runs one probe in this process, for a debugger
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "probe.h"
#include "runner.h"

namespace gpuroom::conformance {
namespace {

ProbeList g_probes;
Expected g_expected;

Runner& TheRunner() {
  static Runner runner(g_probes);
  return runner;
}

// Where the driver is free to choose, an expectation lists the answers: "a | b".
bool IsOneOf(const std::string& answer, const std::string& expected) {
  constexpr std::string_view kOr = " | ";
  for (size_t start = 0; start <= expected.size();) {
    const size_t end = std::min(expected.find(kOr, start), expected.size());
    if (expected.compare(start, end - start, answer) == 0) return true;
    start = end + kOr.size();
  }
  return false;
}

class ProbeTest : public testing::Test {
 public:
  explicit ProbeTest(size_t index) : index_(index) {}
  void TestBody() override {
    const std::string& name = g_probes[index_].name;
    const auto line = g_expected.answers.find(name);
    ASSERT_NE(line, g_expected.answers.end()) << "expectations.txt has no line for " << name;
    const std::string& expected = line->second;
    if (expected == "unobserved") GTEST_SKIP() << "no real driver has been asked yet";
    const std::string answer = TheRunner().Answer(index_);
    if (answer.rfind(kNotHere, 0) == 0) GTEST_SKIP() << answer;
    const auto exempt = g_expected.exempt.find(name);
    if (exempt != g_expected.exempt.end() && answer == exempt->second && OnSimulator()) return;
    EXPECT_TRUE(IsOneOf(answer, expected))
        << name << " answers\n  " << answer << "\nexpected\n  " << expected;
  }

 private:
  size_t index_;
};

TEST(Expectations, EachNamesAProbe) {
  std::map<std::string, int> names;
  for (const Probe& probe : g_probes) EXPECT_EQ(++names[probe.name], 1) << probe.name << " is there twice";
  for (const auto& [name, answer] : g_expected.answers) EXPECT_EQ(names.count(name), 1u) << name;
}

// An exemption that allows what the real driver does would say nothing.
TEST(Expectations, EachExemptionDiffersFromWhatWasSeen) {
  for (const auto& [name, answer] : g_expected.exempt) {
    const auto seen = g_expected.answers.find(name);
    ASSERT_NE(seen, g_expected.answers.end()) << name;
    EXPECT_FALSE(IsOneOf(answer, seen->second)) << name;
  }
}

void RegisterTests() {
  for (size_t i = 0; i < g_probes.size(); ++i) {
    const std::string& name = g_probes[i].name;
    const size_t dot = name.find('.');
    std::string test = name.substr(dot + 1);
    for (char& c : test) c = c == '.' ? '_' : c;
    testing::RegisterTest(name.substr(0, dot).c_str(), test.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [i]() -> testing::Test* { return new ProbeTest(i); });
  }
}

int Observe(const std::string& topic) {
  for (size_t i = 0; i < g_probes.size(); ++i) {
    if (g_probes[i].name.rfind(topic, 0) != 0) continue;
    std::printf("%s = %s\n", g_probes[i].name.c_str(), TheRunner().Answer(i).c_str());
    std::fflush(stdout);
  }
  return 0;
}

int RunHere(const char* name) {
  for (const Probe& probe : g_probes) {
    if (probe.name != name) continue;
    Session session;
    std::printf("%s = %s\n", name, Ask(probe, session).c_str());
    return 0;
  }
  std::fprintf(stderr, "no probe is named %s; --observe lists them\n", name);
  return 2;
}

}  // namespace
}  // namespace gpuroom::conformance

int main(int argc, char** argv) {
  using namespace gpuroom::conformance;
  signal(SIGPIPE, SIG_IGN);
  g_probes = AllProbes();
  g_expected = Expectations();
  if (argc >= 2 && std::strcmp(argv[1], "--observe") == 0) return Observe(argc > 2 ? argv[2] : "");
  if (argc == 3 && std::strcmp(argv[1], "--probe") == 0) return RunHere(argv[2]);
  RegisterTests();
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
