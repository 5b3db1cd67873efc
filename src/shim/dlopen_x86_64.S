// dlopen and dlmopen, as the shim exports them: their hook looks at the arguments, and the C library's own is reached
// by a jump, not a call, since it finds the caller's search path and namespace by the return address.
        .macro  forward name
        .globl  \name
        .type   \name, @function
\name:
        .cfi_startproc
        endbr64
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        call    gpuroom_\name\()_hook
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        movq    gpuroom_real_\name(%rip), %rax
        jmp     *%rax
        .cfi_endproc
        .size   \name, .-\name
        .endm

        .text
        forward dlopen
        forward dlmopen
        .section .note.GNU-stack,"",@progbits
