// The per-thread-default-stream forms (_ptds, _ptsz) of the functions in
// entry_points.def: the same call, with stream 0 meaning the thread's own.
#include <cuda.h>

#include <tuple>

#include "entry.h"

namespace gpuroom::sim {

template <typename F>
struct Arguments;
template <typename... A>
struct Arguments<CUresult (*)(A...)> {
  using Tuple = std::tuple<A...>;
};
template <typename F, size_t I>
using Arg = std::tuple_element_t<I, typename Arguments<F>::Tuple>;

}  // namespace gpuroom::sim

#define SIM_P(f, i) gpuroom::sim::Arg<decltype(&f), i> a##i
#define SIM_PARAMS_1(f) SIM_P(f, 0)
#define SIM_PARAMS_2(f) SIM_PARAMS_1(f), SIM_P(f, 1)
#define SIM_PARAMS_3(f) SIM_PARAMS_2(f), SIM_P(f, 2)
#define SIM_PARAMS_4(f) SIM_PARAMS_3(f), SIM_P(f, 3)
#define SIM_PARAMS_5(f) SIM_PARAMS_4(f), SIM_P(f, 4)
#define SIM_PARAMS_6(f) SIM_PARAMS_5(f), SIM_P(f, 5)
#define SIM_PARAMS_7(f) SIM_PARAMS_6(f), SIM_P(f, 6)
#define SIM_PARAMS_8(f) SIM_PARAMS_7(f), SIM_P(f, 7)
#define SIM_PARAMS_9(f) SIM_PARAMS_8(f), SIM_P(f, 8)
#define SIM_PARAMS_10(f) SIM_PARAMS_9(f), SIM_P(f, 9)
#define SIM_PARAMS_11(f) SIM_PARAMS_10(f), SIM_P(f, 10)
#define SIM_ARGS_1 a0
#define SIM_ARGS_2 SIM_ARGS_1, a1
#define SIM_ARGS_3 SIM_ARGS_2, a2
#define SIM_ARGS_4 SIM_ARGS_3, a3
#define SIM_ARGS_5 SIM_ARGS_4, a4
#define SIM_ARGS_6 SIM_ARGS_5, a5
#define SIM_ARGS_7 SIM_ARGS_6, a6
#define SIM_ARGS_8 SIM_ARGS_7, a7
#define SIM_ARGS_9 SIM_ARGS_8, a8
#define SIM_ARGS_10 SIM_ARGS_9, a9
#define SIM_ARGS_11 SIM_ARGS_10, a10

#define SIM_FUNCTION(name, symbol, version)
#define SIM_STREAM_FUNCTION(name, symbol, version, suffix, thread_version, arity) \
  SIM_API symbol##suffix(SIM_PARAMS_##arity(symbol)) {                            \
    const gpuroom::sim::PerThreadScope scope;                                     \
    return symbol(SIM_ARGS_##arity);                                              \
  }
#include "entry_points.def"
