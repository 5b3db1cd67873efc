// dlsym, as the shim exports it. gpuroom_dlsym_hook(handle, name) says what to
// hand out; where it has nothing, the C library's dlsym is reached by a jump, not
// a call, since it finds the caller of RTLD_NEXT by its return address.
        .text
        .globl  dlsym
        .type   dlsym, @function
dlsym:
        .cfi_startproc
        endbr64
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    gpuroom_dlsym_hook
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        testq   %rax, %rax
        je      1f
        ret
1:      movq    gpuroom_real_dlsym(%rip), %rax
        jmp     *%rax
        .cfi_endproc
        .size   dlsym, .-dlsym
        .section .note.GNU-stack,"",@progbits
