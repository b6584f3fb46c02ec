# SPDX-License-Identifier: Apache-2.0
# A boot sector that reads the rest of the image, enters long mode with AVX-512 switched on, and calls run_program.
# Memory up to 1 GiB is mapped to itself. Nothing interrupts. Everything runs in ring 0, system calls included.

.equ image_sectors, 63            # after the boot sector; machine.ld and bochs.py know it too
.equ page_tables, 0x1000          # three pages
.equ system_stack, 0x70000
.equ long_mode_code, 0x08
.equ data, 0x10

.section .boot, "ax"
.code16
.globl boot
boot:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $boot, %sp
    movb $0x42, %ah               # the BIOS's extended read; its drive is still in dl
    movw $disk_packet, %si
    int $0x13
    jc stop
    inb $0x92, %al                # address line 20
    orb $2, %al
    outb %al, $0x92

    movw $page_tables, %di        # one table of each level, the last of 512 pages of 2 MiB
    movw $(3 * 4096 / 2), %cx
    xorw %ax, %ax
    rep stosw
    movl $(page_tables + 0x1003), page_tables
    movl $(page_tables + 0x2003), page_tables + 0x1000
    movw $(page_tables + 0x2000), %di
    movl $0x83, %eax              # present, writable, large
    movw $512, %cx
1:  movl %eax, (%di)
    addl $0x200000, %eax
    addw $8, %di
    loop 1b

    movl $0x40620, %eax           # CR4: PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    movl %eax, %cr4
    movl $page_tables, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx        # EFER: long mode, syscall
    movl $0x101, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80000023, %eax        # CR0: paging, native x87 errors, monitor, protection
    movl %eax, %cr0
    lgdtl descriptors
    ljmpw $long_mode_code, $long_mode
stop:
    hlt
    jmp stop

disk_packet:
    .byte 16, 0
    .word image_sectors, 0, 0x7e00 >> 4
    .quad 1

    .balign 8
descriptor_table:
    .quad 0
    .quad 0x00af9a000000ffff      # long-mode code
    .quad 0x00cf92000000ffff      # data
descriptors:
    .word . - descriptor_table - 1
    .long descriptor_table

    .org 510
    .word 0xaa55

.code64
.text
long_mode:
    movw $data, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movq $system_stack, %rsp
    xorl %ecx, %ecx               # XCR0: x87, SSE, AVX, and the three of AVX-512
    xorl %edx, %edx
    movl $0xe7, %eax
    xsetbv
    movl $0xc0000081, %ecx        # STAR: the selectors that syscall loads
    movl $(long_mode_code), %edx
    xorl %eax, %eax
    wrmsr
    movl $0xc0000082, %ecx        # LSTAR: where it goes
    movl $system_call, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xc0000084, %ecx        # FMASK: no flag is cleared
    xorl %eax, %eax
    wrmsr
    fninit
    call run_program

# The convention of Linux: number in rax, arguments in rdi rsi rdx r10 r8 r9; only rax, rcx and r11 change.
system_call:
    movq %rsp, program_stack      # the program's red zone is left alone
    movq $system_stack, %rsp
    pushq %rcx
    pushq %r11
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %r8
    pushq %r9
    pushq %r10
    movq %r10, %rcx
    movq %rax, %r9                # the number in place of the sixth argument, which no call here needs
    call serve
    popq %r10
    popq %r9
    popq %r8
    popq %rdx
    popq %rsi
    popq %rdi
    popfq                         # as syscall left them in r11
    popq %rcx
    movq program_stack, %rsp
    jmp *%rcx

# enter_program(entry, stack)
.globl enter_program
enter_program:
    movq %rsi, %rsp
    xorl %edx, %edx               # no function to call at exit
    xorl %ebp, %ebp
    jmp *%rdi

.data
program_stack:
    .quad 0
