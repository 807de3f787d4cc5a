/*
 * The lab guest: the kexec relocation as it was in March 2020, at EL1, as a bare-metal program.
 *
 * Four parts, each at the address that the lab gives it (relocation_v9.ld):
 *   .old_kernel   where the CPU starts, at EL2 with the MMU off: loads the control registers the lab asked for and
 *                 jumps to the relocation code, as cpu_soft_restart() does
 *   .vectors      the old kernel's EL1 vectors: every entry parks the CPU
 *   .el2_vectors  the vectors made for the relocation; only an hvc from EL1 leads anywhere, to the address in x4
 *   .relocation   the relocation code, one page, reached by its physical address
 *
 * The order of the steps is that of "[PATCH v9 00/18] arm64: MMU enabled kexec relocation" (Message-Id
 * 20200326032420.27220-1-pasha.tatashin@soleen.com): from EL2 down to EL1 with vectors of its own left behind, its
 * code mapped one to one by TTBR0, sources and destinations each in a row by TTBR1, the copy in one go, and back to
 * EL2 by hvc. Barriers and cache maintenance are as the architecture asks for.
 *
 * The lab patches the .quad values at the global labels below; it never needs another build for another case.
 */

	.equ	SCTLR_EL1_MMU_OFF, 0x30d00800		// RES1 bits of ARMv8.0
	.equ	SCTLR_FLAGS, ((1 << 0) | (1 << 2) | (1 << 3) | (1 << 12))	// M, C, SA, I
	.equ	PSTATE_EL1H_MASKED, 0x3c5

/* struct kern_reloc_arg of v9 */
	.equ	ARG_ENTRY_ADDR, 8
	.equ	ARG_KERN_ARG0, 16
	.equ	ARG_KERN_ARG1, 24
	.equ	ARG_KERN_ARG2, 32
	.equ	ARG_KERN_ARG3, 40
	.equ	ARG_EL2_VECTOR, 48
	.equ	ARG_TRANS_TTBR0, 56
	.equ	ARG_TRANS_TTBR1, 64
	.equ	ARG_TRANS_T0SZ, 72
	.equ	ARG_SRC_ADDR, 80
	.equ	ARG_DST_ADDR, 88
	.equ	ARG_COPY_LEN, 96

	.arch	armv8-a

	.section .old_kernel, "ax"
	.globl	old_kernel_start
old_kernel_start:
	adr	x9, lab_parameters
	ldr	x0, [x9, #lab_mair_el1 - lab_parameters]
	msr	mair_el1, x0
	ldr	x0, [x9, #lab_tcr_el1 - lab_parameters]
	msr	tcr_el1, x0
	ldr	x0, [x9, #lab_vbar_el1 - lab_parameters]
	msr	vbar_el1, x0
	mov	x0, #(1 << 31)				// HCR_EL2.RW
	msr	hcr_el2, x0
	isb
	ldr	x10, [x9, #lab_relocation_code - lab_parameters]
	ldr	x0, [x9, #lab_kern_reloc_arg - lab_parameters]
	br	x10

	.balign	8
	.globl	lab_parameters, lab_mair_el1, lab_tcr_el1, lab_vbar_el1, lab_relocation_code, lab_kern_reloc_arg
lab_parameters:
lab_mair_el1:		.quad	0
lab_tcr_el1:		.quad	0
lab_vbar_el1:		.quad	0
lab_relocation_code:	.quad	0
lab_kern_reloc_arg:	.quad	0

	.section .vectors, "ax"
	.balign	0x800
	.rept	16
	.balign	0x80
	b	.
	.endr
	.balign	0x800

	.section .el2_vectors, "ax"
	.balign	0x800
	.globl	el2_vectors, el2_vectors_hvc
el2_vectors:
	.rept	8
	.balign	0x80
	b	.
	.endr
	.balign	0x80
el2_vectors_hvc:
	br	x4					// the new kernel, x0 to x3 as they are
	nop
	.rept	7
	.balign	0x80
	b	.
	.endr
	.balign	0x800

	.section .relocation, "ax"
	.globl	relocate_new_kernel, relocate_new_kernel_end, turn_on_mmu_sctlr_write, copy_loop, copy_done, to_el2
relocate_new_kernel:
	ldr	x5, [x0, #ARG_EL2_VECTOR]
	msr	vbar_el2, x5
	adr	x5, 1f
	msr	elr_el2, x5
	mov	x5, #PSTATE_EL1H_MASKED
	msr	spsr_el2, x5
	movz	x5, #(SCTLR_EL1_MMU_OFF & 0xffff)
	movk	x5, #(SCTLR_EL1_MMU_OFF >> 16), lsl #16
	msr	sctlr_el1, x5
	eret

1:	ldr	x5, [x0, #ARG_TRANS_T0SZ]
	mrs	x6, tcr_el1
	bfi	x6, x5, #0, #6
	msr	tcr_el1, x6
	ldr	x5, [x0, #ARG_TRANS_TTBR0]
	msr	ttbr0_el1, x5
	ldr	x5, [x0, #ARG_TRANS_TTBR1]
	msr	ttbr1_el1, x5
	isb
	tlbi	vmalle1
	ic	iallu
	dsb	nsh
	isb
	/* The tables do not map the argument: everything is read before they are used. */
	ldr	x19, [x0, #ARG_ENTRY_ADDR]
	ldr	x20, [x0, #ARG_KERN_ARG0]
	ldr	x21, [x0, #ARG_KERN_ARG1]
	ldr	x22, [x0, #ARG_KERN_ARG2]
	ldr	x23, [x0, #ARG_KERN_ARG3]
	ldr	x1, [x0, #ARG_DST_ADDR]
	ldr	x2, [x0, #ARG_SRC_ADDR]
	ldr	x3, [x0, #ARG_COPY_LEN]
	add	x3, x2, x3
	mrs	x5, sctlr_el1
	movz	x6, #SCTLR_FLAGS
	orr	x5, x5, x6
turn_on_mmu_sctlr_write:
	msr	sctlr_el1, x5
	isb

copy_loop:
	ldp	x5, x6, [x2]
	ldp	x7, x8, [x2, #16]
	stp	x5, x6, [x1]
	stp	x7, x8, [x1, #16]
	dc	civac, x1				// more than once for each line: they are 64 bytes or so
	add	x2, x2, #32
	add	x1, x1, #32
	cmp	x2, x3
	b.lo	copy_loop

copy_done:
	dsb	sy
	ic	iallu
	dsb	nsh
	isb
	mrs	x5, sctlr_el1
	movz	x6, #SCTLR_FLAGS
	bic	x5, x5, x6
	msr	sctlr_el1, x5
	isb
	mov	x0, x20
	mov	x1, x21
	mov	x2, x22
	mov	x3, x23
	mov	x4, x19
to_el2:	hvc	#0
relocate_new_kernel_end:
