# Two entries, which lead to one state: long mode, our page tables, GDT and stack, interrupts off.
#
#   _start       long mode, RSI = boot_params           (Linux's 64-bit boot protocol)
#   pvh_entry    32-bit protected mode without paging, EBX = hvm_start_info (PVH, as QEMU does it)
#
# Both call kmain(protocol, info), with protocol 0 = boot_params, 1 = hvm_start_info.

    .set CODE64, 0x08
    .set DATA,   0x10
    .set CODE32, 0x18

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18              # length of the name, of the descriptor; XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

# Turns paging on, in 32-bit protected mode with a flat GDT. Clobbers EAX, ECX, EDX.
    .macro enter_long_mode
    movl $page_map, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl  $0x20, %eax            # PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx      # EFER
    rdmsr
    orl  $0x100, %eax           # LME
    wrmsr
    movl %cr0, %eax
    orl  $0x80000001, %eax      # PG, PE
    movl %eax, %cr0
    .endm

    .macro load_data_segments
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    .endm

    .section .text.entry, "ax"
    .code64
    .globl _start
_start:
    cli
    cld
    movl $page_map, %eax
    movq %rax, %cr3
    lgdt gdt_pointer
    movl $boot_stack_end, %esp
    pushq $CODE64
    pushq $1f
    lretq
1:  load_data_segments
    xorl %edi, %edi
    call kmain
    ud2

    .code32
pvh_entry:
    cli
    cld
    lgdt gdt_pointer
    enter_long_mode
    ljmpl $CODE64, $1f
    .code64
1:  load_data_segments
    movl $boot_stack_end, %esp
    movl $1, %edi
    movl %ebx, %esi
    call kmain
    ud2

# ---- application processors -------------------------------------------------------------------
# A start-up IPI starts them in real mode at the page with the copy of the trampoline.

    .section .rodata.trampoline, "a"
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    cld
    lgdtl %cs:(ap_gdt_pointer - ap_trampoline)
    movl %cr0, %eax
    orl  $1, %eax               # PE
    movl %eax, %cr0
    ljmpl $CODE32, $ap_protected
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

    .section .text.entry, "ax"
    .code32
ap_protected:
    load_data_segments
    enter_long_mode
    ljmpl $CODE64, $1f
    .code64
1:  load_data_segments
    movl $1, %edi
    lock xaddl %edi, AP_COUNT   # this processor's index among them: 0, 1, ...
    cmpl $7, %edi
    jae  2f                     # this processor has no stack
    movl %edi, %eax
    incl %eax
    shll $14, %eax              # 16 KiB each
    leaq ap_stacks(%rax), %rsp
    incl %edi                   # CPU number: the boot processor is 0
    call ap_main
2:  hlt
    jmp 2b

# ---- tables -----------------------------------------------------------------------------------

    .section .rodata.gdt, "a"
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # CODE64
    .quad 0x00cf93000000ffff    # DATA
    .quad 0x00cf9b000000ffff    # CODE32
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

# Maps the first 4 GiB one to one by 2-MiB pages, uncached from 0xb0000000 up (ECAM, BARs, APICs).
    .section .data.paging, "aw"
    .balign 4096
page_map:
    .quad page_directory_pointers + 3
    .fill 511, 8, 0
page_directory_pointers:
    .quad page_directories + 0x0003
    .quad page_directories + 0x1003
    .quad page_directories + 0x2003
    .quad page_directories + 0x3003
    .fill 508, 8, 0
page_directories:
    .set address, 0
    .rept 2048
    .if address < 0xb0000000
    .quad address + 0x83        # present, writable, 2 MiB
    .else
    .quad address + 0x9b        # the same, PWT, PCD
    .endif
    .set address, address + 0x200000
    .endr

    .section .bss.stacks, "aw", @nobits
    .balign 16
boot_stack:
    .skip 0x10000
boot_stack_end:
ap_stacks:
    .skip 7 * 0x4000
