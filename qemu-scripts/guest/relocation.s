/*
 * The lab guest: the MMU-enabled kexec relocation of 2019, as a bare-metal program.
 *
 * Three parts, each at the address that the lab gives it (relocation.ld):
 *   .old_kernel   where the CPU starts, at EL2 with the MMU off: loads the control registers the lab asked for
 *                 and jumps to the relocation code, as cpu_soft_restart() does
 *   .vectors      the old kernel's EL2 vectors (__hyp_stub_vectors): every entry parks the CPU
 *   .relocation   the relocation code, one page, reached by its physical address
 *
 * The order of the steps is that of "[RFC v2 0/8] arm64: MMU enabled kexec relocation"
 * (Message-Id 20190731153857.4045-1-pasha.tatashin@soleen.com), defects included: no ISB between the TCR/MAIR
 * writes and the SCTLR write, TLB maintenance before them, IC IALLU after.
 *
 * The lab patches the .quad values at the global labels below; it never needs another build for another case.
 */

	.equ	CURRENT_EL_EL2, (2 << 2)

/* SCTLR_ELx.{M,A,C,SA,I}: what the series calls SCTLR_ELx_FLAGS, with IESB. */
	.equ	SCTLR_FLAGS, ((1 << 0) | (1 << 1) | (1 << 2) | (1 << 3) | (1 << 12) | (1 << 21))

	.equ	TCR_EL2_MASK, 0xff3f
	.equ	TCR_EL2_RES1, 0x80800000
	.equ	TCR_T0SZ_48BIT, 16
	.equ	PARANGE_48BIT, 5

	.equ	IND_DESTINATION_BIT, 0
	.equ	IND_INDIRECTION_BIT, 1
	.equ	IND_DONE_BIT, 2
	.equ	IND_SOURCE_BIT, 3

/* struct kern_reloc_arg of RFC v2 */
	.equ	ARG_HEAD, 0
	.equ	ARG_ENTRY_ADDR, 8
	.equ	ARG_KERN_ARG0, 16
	.equ	ARG_KERN_ARG1, 24
	.equ	ARG_KERN_ARG2, 32
	.equ	ARG_KERN_ARG3, 40
	.equ	ARG_TRANS_TABLE, 48

/* The redistributor of CPU 0 on QEMU's virt machine with gic-version=3, and its registers (Arm IHI 0069, 12.10). */
	.equ	GICR, 0x080a0000
	.equ	GICR_CTLR, 0x0
	.equ	GICR_PROPBASER, 0x70
	.equ	GICR_PENDBASER, 0x78
	.equ	GICR_CTLR_ENABLE_LPIS, 1
	.equ	LPI_ID_BITS_FIELD, 15			// 16 bits

	.equ	PAGE_SIZE, 4096

	.arch	armv8-a

	.section .old_kernel, "ax"
	.globl	old_kernel_start
old_kernel_start:
	adr	x9, lab_parameters
	ldr	x0, [x9, #lab_hcr_el2 - lab_parameters]
	msr	hcr_el2, x0
	isb						// from here _EL1 names mean EL2 registers if E2H is set
	ldr	x0, [x9, #lab_vbar_el2 - lab_parameters]
	msr	vbar_el2, x0
	ldr	x0, [x9, #lab_mair_el1 - lab_parameters]
	msr	mair_el1, x0
	ldr	x0, [x9, #lab_tcr_el1 - lab_parameters]
	msr	tcr_el1, x0
	ldr	x0, [x9, #lab_vbar_el1 - lab_parameters]
	cbz	x0, 1f					// with E2H this would overwrite VBAR_EL2
	msr	vbar_el1, x0
1:	isb
	ldr	x0, [x9, #lab_lpi_configuration - lab_parameters]
	cbz	x0, 3f
	ldr	x2, =GICR
	orr	x0, x0, #LPI_ID_BITS_FIELD
	str	x0, [x2, #GICR_PROPBASER]
	ldr	x0, [x9, #lab_lpi_pending - lab_parameters]
	str	x0, [x2, #GICR_PENDBASER]
	mov	w0, #GICR_CTLR_ENABLE_LPIS
	str	w0, [x2, #GICR_CTLR]
3:	ldr	x10, [x9, #lab_relocation_code - lab_parameters]
	ldr	x0, [x9, #lab_kern_reloc_arg - lab_parameters]
	ldr	x1, [x9, #lab_drop_to_el1 - lab_parameters]
	cbnz	x1, 2f
	br	x10
2:	mov	x1, #0x3c5				// EL1h, DAIF masked
	msr	spsr_el2, x1
	msr	elr_el2, x10
	movz	x1, #0x0800				// SCTLR_EL1 with the MMU off: RES1 bits of ARMv8.0
	movk	x1, #0x30d0, lsl #16
	msr	sctlr_el1, x1
	eret

	.balign	8
	.globl	lab_parameters, lab_hcr_el2, lab_vbar_el2, lab_mair_el1, lab_tcr_el1, lab_vbar_el1
	.globl	lab_relocation_code, lab_kern_reloc_arg, lab_drop_to_el1, lab_lpi_configuration, lab_lpi_pending
lab_parameters:
lab_hcr_el2:		.quad	0
lab_vbar_el2:		.quad	0
lab_mair_el1:		.quad	0
lab_tcr_el1:		.quad	0
lab_vbar_el1:		.quad	0
lab_relocation_code:	.quad	0
lab_kern_reloc_arg:	.quad	0
lab_drop_to_el1:	.quad	0
lab_lpi_configuration:	.quad	0			// GICR_PROPBASER's table, or 0: no LPIs
lab_lpi_pending:	.quad	0			// GICR_PENDBASER's
	.ltorg

	.section .vectors, "ax"
	.balign	0x800
	.globl	old_kernel_vectors
old_kernel_vectors:
	.rept	16
	.balign	0x80
	b	.
	.endr
	.balign	0x800

	.macro	turn_off_mmu_of, sctlr
	mrs	x14, \sctlr
	movz	x13, #(SCTLR_FLAGS & 0xffff)
	movk	x13, #(SCTLR_FLAGS >> 16), lsl #16
	bic	x14, x14, x13
	msr	\sctlr, x14
	isb
	.endm

	.macro	turn_off_mmu
	turn_off_mmu_of sctlr_el1
	mrs	x14, CurrentEL
	cmp	x14, #CURRENT_EL_EL2
	b.ne	90f
	turn_off_mmu_of sctlr_el2
90:
	.endm

	/* Level 1 only and by set and way, as the series had it. */
	.macro	dcache_invalidate
	msr	csselr_el1, xzr
	isb
	mrs	x14, ccsidr_el1
	and	x5, x14, #7
	add	x5, x5, #4				// log2 of the line size
	ubfx	x6, x14, #3, #10			// ways - 1
	clz	w8, w6
	ubfx	x7, x14, #13, #15			// sets - 1
91:	mov	x14, x6
92:	lsl	x15, x14, x8
	lsl	x16, x7, x5
	orr	x15, x15, x16
	dc	cisw, x15
	subs	x14, x14, #1
	b.ge	92b
	subs	x7, x7, #1
	b.ge	91b
	.endm

	.macro	tlb_invalidate
	mrs	x14, CurrentEL
	cmp	x14, #CURRENT_EL_EL2
	dsb	sy
	b.ne	93f
	tlbi	alle2
	tlbi	alle1
	b	94f
93:	tlbi	vmalle1
94:	dsb	ish
	isb
	.endm

	.section .relocation, "ax"
	.globl	arm64_relocate_new_kernel, arm64_relocate_new_kernel_end
	.globl	set_ttbr, turn_on_mmu, turn_on_mmu_insert_ps, turn_on_mmu_sctlr_write, turn_on_mmu_done
	.globl	copy_loop, copy_done, jump_to_new_kernel, sctlr_el2_mmu_on, tcr_el2_override
arm64_relocate_new_kernel:
	turn_off_mmu
	mov	x18, x0					// kern_reloc_arg
	dcache_invalidate
	tlb_invalidate

	ldr	x12, [x18, #ARG_HEAD]
	tbnz	x12, #IND_DONE_BIT, jump_to_new_kernel

set_ttbr:
	ldr	x14, [x18, #ARG_TRANS_TABLE]
	mrs	x15, CurrentEL
	cmp	x15, #CURRENT_EL_EL2
	b.ne	1f
	msr	ttbr0_el2, x14
	b	2f
1:	msr	ttbr0_el1, x14
2:	isb

turn_on_mmu:
	mrs	x14, CurrentEL
	cmp	x14, #CURRENT_EL_EL2
	b.ne	3f
	mrs	x14, tcr_el1
	mov	x15, #TCR_EL2_MASK
	and	x14, x14, x15
	movz	x15, #(TCR_EL2_RES1 >> 16), lsl #16
	orr	x14, x14, x15
	orr	x14, x14, #TCR_T0SZ_48BIT
	mrs	x15, id_aa64mmfr0_el1
	ubfx	x15, x15, #0, #3
	mov	x16, #PARANGE_48BIT
	cmp	x15, x16
	csel	x15, x16, x15, hi
turn_on_mmu_insert_ps:
	bfi	x14, x15, #16, #3
	msr	tcr_el2, x14
	mrs	x14, mair_el1
	msr	mair_el2, x14
	ldr	x14, sctlr_el2_mmu_on
turn_on_mmu_sctlr_write:
	msr	sctlr_el2, x14
	b	turn_on_mmu_done
3:	mrs	x14, sctlr_el1
	movz	x15, #(SCTLR_FLAGS & 0xffff)
	movk	x15, #(SCTLR_FLAGS >> 16), lsl #16
	orr	x14, x14, x15
	msr	sctlr_el1, x14
turn_on_mmu_done:
	ic	iallu
	dsb	nsh
	isb

	mov	x11, xzr				// next entry of the page list
	mov	x1, xzr					// running destination
copy_loop:
	and	x2, x12, #~(PAGE_SIZE - 1)
	tbz	x12, #IND_SOURCE_BIT, 5f
	add	x3, x2, #PAGE_SIZE
4:	ldp	x4, x5, [x2]
	ldp	x6, x7, [x2, #16]
	add	x2, x2, #32
	stp	x4, x5, [x1]
	stp	x6, x7, [x1, #16]
	add	x1, x1, #32
	cmp	x2, x3
	b.lo	4b
	b	7f
5:	tbz	x12, #IND_INDIRECTION_BIT, 6f
	mov	x11, x2
	b	7f
6:	tbz	x12, #IND_DESTINATION_BIT, 7f
	mov	x1, x2
7:	ldr	x12, [x11], #8
	tbz	x12, #IND_DONE_BIT, copy_loop

copy_done:
	ldr	x19, [x18, #ARG_ENTRY_ADDR]
	ldr	x20, [x18, #ARG_KERN_ARG0]
	ldr	x21, [x18, #ARG_KERN_ARG1]
	ldr	x22, [x18, #ARG_KERN_ARG2]
	ldr	x23, [x18, #ARG_KERN_ARG3]
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	turn_off_mmu
	dcache_invalidate
	tlb_invalidate
	mov	x4, x19
	mov	x3, x23
	mov	x2, x22
	mov	x1, x21
	mov	x0, x20
	br	x4

	/* Nothing to relocate: the argument is read here instead of after the loop. */
jump_to_new_kernel:
	ldr	x4, [x18, #ARG_ENTRY_ADDR]
	ldr	x3, [x18, #ARG_KERN_ARG3]
	ldr	x2, [x18, #ARG_KERN_ARG2]
	ldr	x1, [x18, #ARG_KERN_ARG1]
	ldr	x0, [x18, #ARG_KERN_ARG0]
	br	x4

	.balign	8
sctlr_el2_mmu_on:	.quad	0x30e5183f		// SCTLR_EL2_RES1 | SCTLR_FLAGS: the value in the mail
tcr_el2_override:	.quad	0			// read only where the lab patches turn_on_mmu_insert_ps
arm64_relocate_new_kernel_end:
