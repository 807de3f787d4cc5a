/*
 * The smallest program around a sequence that switches an MMU on, for any regime and any sequence.
 *
 *   .boot      where the CPU starts, at the highest exception level of the machine with all MMUs off: loads the
 *              registers the lab asked for and returns from an exception to the code under test at its level
 *   .code      the code under test: the sequence (lines that the lab puts into enable_sequence.s) and what uses the
 *              new translation right after it: stack, literal, argument, UART
 *   .literals  a literal in a page of its own
 *   .vectors   every entry parks the CPU
 *   .argument  what x0 points to
 *
 * Each part lies where the lab puts it (enable.ld); the lab patches the .quad values at the labels below.
 *
 * The sequence finds x0 the argument, x1 MAIR, x2 TCR, x3 TTBR0, x4 TTBR1, x5 SCTLR, and may use x9 to x28. It ends
 * with the MMU on and x0 as it was.
 */

	.equ	PL011_DR, 0x09000000
	.equ	PL011_CR, 0x09000030
	.equ	PL011_ON, 0x301			// UARTEN, TXE, RXE
	.equ	CURRENT_EL_EL1, (1 << 2)
	.equ	CURRENT_EL_EL3, (3 << 2)

/* MMU, caches and alignment checks off: the RES1 bits of ARMv8.0. */
	.equ	SCTLR_EL1_OFF, 0x30d00800
	.equ	SCTLR_EL2_OFF, 0x30c50830

	.arch	armv8.5-a

	.section .boot, "ax"
	.globl	enable_start
enable_start:
	ldr	x9, =PL011_CR
	mov	w10, #PL011_ON
	str	w10, [x9]
	adr	x9, enable_parameters
	ldr	x10, [x9, #lab_vbar - enable_parameters]
	ldr	x11, =SCTLR_EL1_OFF
	ldr	x12, =SCTLR_EL2_OFF
	mrs	x13, CurrentEL
	cmp	x13, #CURRENT_EL_EL3
	b.ne	1f
	ldr	x14, [x9, #lab_scr_el3 - enable_parameters]
	msr	scr_el3, x14
	msr	sctlr_el3, x12
	msr	vbar_el3, x10
	isb
1:	msr	sctlr_el1, x11
	msr	vbar_el1, x10
	cmp	x13, #CURRENT_EL_EL1
	b.eq	2f
	msr	sctlr_el2, x12
	msr	vbar_el2, x10
	ldr	x14, [x9, #lab_hcr_el2 - enable_parameters]
	msr	hcr_el2, x14				// last: with E2H set, _EL1 names mean EL2 registers at EL2
2:	isb
	ldr	x10, [x9, #lab_spsr - enable_parameters]
	ldr	x11, =code_under_test
	.irp	level, 1, 2, 3
	cmp	x13, #(\level << 2)
	b.ne	3f
	msr	spsr_el\level, x10
	msr	elr_el\level, x11
3:
	.endr
	ldp	x0, x1, [x9, #lab_argument - enable_parameters]
	ldp	x2, x3, [x9, #lab_tcr - enable_parameters]
	ldp	x4, x5, [x9, #lab_ttbr1 - enable_parameters]
	ldr	x8, [x9, #lab_sp - enable_parameters]
	.irp	number, 6, 7, 9, 10, 11, 12, 13, 14, 29, 30
	mov	x\number, xzr
	.endr
	isb
	eret

	.balign	8
	.globl	enable_parameters, lab_vbar, lab_scr_el3, lab_hcr_el2, lab_spsr, lab_argument, lab_mair, lab_tcr
	.globl	lab_ttbr0, lab_ttbr1, lab_sctlr, lab_sp
enable_parameters:
lab_vbar:	.quad	0
lab_scr_el3:	.quad	0
lab_hcr_el2:	.quad	0
lab_spsr:	.quad	0
lab_argument:	.quad	0
lab_mair:	.quad	0
lab_tcr:	.quad	0
lab_ttbr0:	.quad	0
lab_ttbr1:	.quad	0
lab_sctlr:	.quad	0
lab_sp:		.quad	0
	.ltorg

	.section .code, "ax"
	.globl	code_under_test, enable_sequence, enabled, parked
code_under_test:
	mov	sp, x8
	mov	x8, xzr
enable_sequence:
	.include "enable_sequence.s"
enabled:
	stp	x29, x30, [sp, #-16]!
	ldr	x6, uart
	ldr	x7, [x0]				// the text
1:	ldrb	w9, [x7], #1
	cbz	w9, 2f
	strb	w9, [x6]
	b	1b
2:	ldp	x29, x30, [sp], #16
parked:
	b	parked

	.section .literals, "a"
	.balign	8
	.globl	uart
uart:	.quad	PL011_DR

	.section .vectors, "ax"
	.balign	0x800
	.globl	enable_vectors
enable_vectors:
	.rept	16
	.balign	0x80
	b	.
	.endr

	.section .argument, "aw"
	.balign	8
	.globl	argument
argument:
	.quad	text
text:	.asciz	"enabled\n"
