// Counts the instructions of a piece of a program by having it run one at a time (ptrace): the same figures
// on every machine of an architecture, however busy, and at full speed outside of the piece. It needs no
// tool. What the kernel does is not counted, and of other threads nothing.
#pragma once

#include <cstdint>
#include <functional>

namespace gpuroom::bench {

// Runs `program` in a child process, which calls the function that it is given twice, around the piece; *out
// is the number of instructions between. Before this process has used the driver. False: the child ended
// otherwise, or may not be traced here.
bool CountInstructions(const std::function<void(const std::function<void()>& mark)>& program, uint64_t* out);

}  // namespace gpuroom::bench
