// Programs that start another one: `env`, `timeout`, `sudo`, `docker`. Which word of theirs is that program,
// and whether gpuroom's library reaches it. Pure functions over words; nothing is looked up or run.
//
// What a shell, a script or a program starts by itself cannot be seen here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpuroom {

struct Launch {
  // The program that is started and its arguments. Empty where that cannot be told, or is another machine's
  // or daemon's business.
  std::vector<std::string> command;
  // What takes LD_PRELOAD from that program, as in "env -i". Empty: nothing does.
  std::string drops;
};

// What `name` (a file name without folders) starts, given `arguments`. Empty where it is no launcher that is
// known here.
std::optional<Launch> ReadLaunch(std::string_view name, const std::vector<std::string>& arguments);

// Words between spaces and tabs.
std::vector<std::string> SplitWords(std::string_view text);

}  // namespace gpuroom
