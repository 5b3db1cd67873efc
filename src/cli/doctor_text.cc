#include "cli/doctor_text.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "cli/exit_codes.h"

namespace gpuroom {
namespace {

constexpr int kIndent = 6;  // of the lines that go on: as wide as "fail  "
constexpr int kNarrowest = 40;

// A line of the report: one fact, or those of several GPUs that say the same.
struct Entry {
  const Fact* fact;
  std::vector<int> gpus;  // ordinals; empty: the fact is not of a GPU
  std::string property;   // what follows the ordinal in its name: ".link"
};

Entry EntryOf(const Fact& fact) {
  constexpr std::string_view kGpu = "gpu";
  Entry entry{&fact, {}, ""};
  if (!fact.name.starts_with(kGpu)) return entry;
  int ordinal = 0;
  const char* end = fact.name.data() + fact.name.size();
  const auto parsed = std::from_chars(fact.name.data() + kGpu.size(), end, ordinal);
  if (parsed.ec != std::errc()) return entry;
  entry.gpus = {ordinal};
  entry.property.assign(parsed.ptr, end);
  return entry;
}

// What is compared, and shown of several: the value without what tells one GPU from another.
const std::string& SharedValue(const Fact& fact) {
  return fact.shared_value.empty() ? fact.value : fact.shared_value;
}

bool Alike(const Entry& one, const Entry& other) {
  return !one.gpus.empty() && !other.gpus.empty() && one.property == other.property &&
         one.fact->group == other.fact->group && one.fact->status == other.fact->status &&
         SharedValue(*one.fact) == SharedValue(*other.fact) && one.fact->meaning == other.fact->meaning &&
         one.fact->fix == other.fact->fix;
}

template <typename Matches>
std::vector<Entry> Fold(const std::vector<Fact>& facts, Matches matches) {
  std::vector<Entry> entries;
  for (const Fact& fact : facts) {
    if (!matches(fact)) continue;
    Entry entry = EntryOf(fact);
    const auto alike = std::find_if(entries.begin(), entries.end(),
                                    [&entry](const Entry& other) { return Alike(entry, other); });
    alike == entries.end() ? entries.push_back(std::move(entry)) : alike->gpus.push_back(entry.gpus[0]);
  }
  return entries;
}

// Ascending ordinals as "0-3,5".
std::string Ranges(const std::vector<int>& ordinals) {
  std::string text;
  for (size_t first = 0; first < ordinals.size();) {
    size_t last = first;
    while (last + 1 < ordinals.size() && ordinals[last + 1] == ordinals[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(ordinals[first]);
    if (last > first) text += '-' + std::to_string(ordinals[last]);
    first = last + 1;
  }
  return text;
}

std::string NameOf(const Entry& entry) {
  return entry.gpus.size() < 2 ? entry.fact->name : "gpu" + Ranges(entry.gpus) + entry.property;
}

// Lines of at most `width` columns where the words are no longer, all but the first indented. A byte counts
// as a column: names are rarely anything but ASCII.
std::string Wrap(const std::string& line, int width) {
  if (width <= 0) return line;
  const auto most = static_cast<size_t>(std::max(width, kNarrowest));
  std::string text;
  std::string current;
  std::string_view rest = line;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(' ', rest.find_first_not_of(' ')), rest.size());
    const std::string_view word = rest.substr(0, end);
    if (!current.empty() && current.size() + word.size() > most) {
      text += current + "\n";
      current.assign(kIndent, ' ');
      current += word.substr(std::min(word.find_first_not_of(' '), word.size()));
    } else {
      current += word;
    }
    rest.remove_prefix(end);
  }
  return text + current;
}

std::string Line(const Entry& entry, int width) {
  const Fact& fact = *entry.fact;
  const std::string& value = entry.gpus.size() < 2 ? fact.value : SharedValue(fact);
  std::string line = fmt::format("{:<5} {}: {}.", StatusName(fact.status), NameOf(entry), value);
  if (!fact.meaning.empty()) line += " " + fact.meaning;
  if (!fact.fix.empty()) line += " Fix: " + fact.fix;
  return Wrap(Printable(line), width) + "\n";  // names come from files and drivers
}

std::vector<Entry> Problems(const std::vector<Fact>& facts) {
  std::vector<Entry> problems =
      Fold(facts, [](const Fact& fact) { return fact.status == FactStatus::kFail; });
  for (Entry& entry : Fold(facts, [](const Fact& fact) { return fact.status == FactStatus::kWarn; })) {
    problems.push_back(std::move(entry));
  }
  return problems;
}

// The first failure, else the first warning, since others may follow from it.
std::string NextStep(const std::vector<Entry>& problems, int width) {
  const auto has_fix = [](const Entry& entry) { return !entry.fact->fix.empty(); };
  const auto first = std::find_if(problems.begin(), problems.end(), has_fix);
  if (first == problems.end()) return "";
  return Wrap(Printable(fmt::format("next step: {} (for {})", first->fact->fix, NameOf(*first))), width) +
         "\n";
}

std::string ProblemsText(const std::vector<Fact>& facts, int width) {
  const std::vector<Entry> problems = Problems(facts);
  if (problems.empty()) return "no problems\n";
  std::string text = "problems\n";
  for (const Entry& entry : problems) text += Line(entry, width);
  return text + "\n" + NextStep(problems, width);
}

std::string WellText(const std::vector<Fact>& facts, int width) {
  std::string text;
  std::string group;
  for (const Entry& entry : Fold(facts, [](const Fact& fact) { return fact.status == FactStatus::kOk; })) {
    if (entry.fact->group != group) {
      group = entry.fact->group;
      text += "\n" + group + "\n";
    }
    text += Line(entry, width);
  }
  return text;
}

}  // namespace

int TerminalWidth() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string DoctorText(const DoctorReport& report, const TextLayout& layout) {
  std::string text = ProblemsText(report.facts(), layout.width);
  if (!layout.problems_only) text += WellText(report.facts(), layout.width);
  return text + "\n" + report.Summary() + "\n";
}

}  // namespace gpuroom
