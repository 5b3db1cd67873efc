// dlopen and dlmopen, as the shim exports them: their hook looks at the arguments, and the C library's own is reached
// by a jump, not a call, since it finds the caller's search path and namespace by the return address.
        .macro  forward name
        .globl  \name
        .type   \name, %function
\name:
        .cfi_startproc
        stp     x29, x30, [sp, #-48]!
        .cfi_def_cfa_offset 48
        .cfi_offset 29, -48
        .cfi_offset 30, -40
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        bl      gpuroom_\name\()_hook
        ldr     x2, [sp, #32]
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #48
        .cfi_restore 29
        .cfi_restore 30
        .cfi_def_cfa_offset 0
        adrp    x16, gpuroom_real_\name
        ldr     x16, [x16, :lo12:gpuroom_real_\name]
        br      x16
        .cfi_endproc
        .size   \name, .-\name
        .endm

        .text
        forward dlopen
        forward dlmopen
        .section .note.GNU-stack,"",%progbits
