// The functions of submit.def and hooks.def by name: each jumps to its hook with the arguments
// as they are.
        .set    index, 0
#define GPUROOM_SUBMIT(name, symbol, type_name, since, stream) \
        .globl  symbol; \
        .type   symbol, @function; \
symbol: endbr64; \
        jmp     *(gpuroom_submit_hooks + 8 * index)(%rip); \
        .size   symbol, . - symbol; \
        .set    index, index + 1;
#define GPUROOM_HOOK(name, symbol, since, stream) \
        .globl  symbol; \
        .type   symbol, @function; \
symbol: endbr64; \
        jmp     *(gpuroom_hooks + 8 * index)(%rip); \
        .size   symbol, . - symbol; \
        .set    index, index + 1;
        .text
#include "shim/submit.def"
        .set    index, 0
#include "shim/hooks.def"
        .section .note.GNU-stack,"",@progbits
