// dlsym, as the shim exports it. gpuroom_dlsym_hook(handle, name) says what to
// hand out; where it has nothing, the C library's dlsym is reached by a jump, not
// a call, since it finds the caller of RTLD_NEXT by its return address.
        .text
        .globl  dlsym
        .type   dlsym, %function
dlsym:
        .cfi_startproc
        stp     x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_offset 29, -32
        .cfi_offset 30, -24
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        bl      gpuroom_dlsym_hook
        mov     x16, x0
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #32
        .cfi_restore 29
        .cfi_restore 30
        .cfi_def_cfa_offset 0
        cbz     x16, 1f
        mov     x0, x16
        ret
1:      adrp    x16, gpuroom_real_dlsym
        ldr     x16, [x16, :lo12:gpuroom_real_dlsym]
        br      x16
        .cfi_endproc
        .size   dlsym, .-dlsym
        .section .note.GNU-stack,"",%progbits
