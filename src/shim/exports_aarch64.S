// The functions of submit.def and hooks.def by name: each jumps to its hook with the arguments
// as they are.
        .set    index, 0
#define GPUROOM_SUBMIT(name, symbol, type_name, since, stream) \
        .globl  symbol; \
        .type   symbol, %function; \
symbol: adrp    x16, gpuroom_submit_hooks; \
        add     x16, x16, :lo12:gpuroom_submit_hooks; \
        ldr     x16, [x16, 8 * index]; \
        br      x16; \
        .size   symbol, . - symbol; \
        .set    index, index + 1;
#define GPUROOM_HOOK(name, symbol, since, stream) \
        .globl  symbol; \
        .type   symbol, %function; \
symbol: adrp    x16, gpuroom_hooks; \
        add     x16, x16, :lo12:gpuroom_hooks; \
        ldr     x16, [x16, 8 * index]; \
        br      x16; \
        .size   symbol, . - symbol; \
        .set    index, index + 1;
        .text
#include "shim/submit.def"
        .set    index, 0
#include "shim/hooks.def"
        .section .note.GNU-stack,"",%progbits
