// "did you mean": the nearest of a few known words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpuroom {

// The known word fewest edits away from `word`, or "" where none is near
// enough to be what was meant (more than a third of its letters differ).
std::string Nearest(std::string_view word, const std::vector<std::string>& known);

// "; did you mean '--report'?", or `otherwise` where no known word is near.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& known,
                       std::string_view otherwise);

}  // namespace gpuroom
