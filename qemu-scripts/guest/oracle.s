/*
 * The oracle's guest: asks the CPU about translations, one record after the other, and writes down what it says.
 *
 * It runs at EL3 on QEMU's virt machine (secure=on, virtualization=on, gic-version=3). The lab (kexecdbg/lab/oracle)
 * writes tables, records and then a batch number into RAM; the guest loads the registers of each record, executes an
 * AT or really fetches from the address, notes PAR_EL1 or the syndromes, and prints the batch number when all are done.
 *
 * An address translation instruction at EL3 needs no mapping of this program for EL1 and EL2. For EL3's own tables the
 * MMU has to be on: the program then runs under an identity map, and TCR_EL3 and TTBR0_EL3 are exchanged with that
 * map's entry still in the TLB. Everything that runs there, the vectors too, lies in one page.
 *
 * A fetch at EL0 to EL2 that faults goes to that level's vectors, where an SMC tells us. If the fetch of the vector
 * faults as well, the CPU would do so for ever: the secure timer's FIQ, which only EL3 can mask, ends it. The timer goes
 * on while the machine waits for a processor, so that it has expired does not say that the CPU is stuck: it is, if the
 * last exception came from the instruction that it is at, which is then its own vector. Otherwise it goes on.
 */

	.equ	PL011_DR, 0x09000000
	.equ	PL011_CR, 0x09000030
	.equ	PL011_ON, 0x301			// UARTEN, TXE, RXE
	.equ	GICD_CTLR, 0x08000000
	.equ	GICD_ENABLE_GROUP0, 0x31	// EnableGrp0, ARE_S, ARE_NS
	.equ	GICR_WAKER, 0x080a0014
	.equ	GICR_ISENABLER0, 0x080b0100
	.equ	SECURE_TIMER, 29		// INTID of CNTPS

	.equ	SCR_EL3, 0x535			// RW, HCE, the RES1 bits, FIQ, NS
	.equ	SCTLR_EL3_OFF, 0x30c50830	// the RES1 bits only
	.equ	BASE_TCR_EL3, 0x80853519	// 39-bit addresses, 4K granule, 48-bit output, the RES1 bits
	.equ	BASE_MAIR_EL3, 0xff

/* A record: struct of 64-bit words, kexecdbg/lab/oracle/record.py. */
	.equ	R_OP, 0
	.equ	R_VA, 8
	.equ	R_PAN, 16
	.equ	R_SPSR, 24
	.equ	R_HCR_EL2, 32
	.equ	R_SCTLR_EL1, 40
	.equ	R_TCR_EL1, 48
	.equ	R_TTBR0_EL1, 56
	.equ	R_TTBR1_EL1, 64
	.equ	R_MAIR_EL1, 72
	.equ	R_VBAR_EL1, 80
	.equ	R_SCTLR_EL2, 88
	.equ	R_TCR_EL2, 96
	.equ	R_TTBR0_EL2, 104
	.equ	R_TTBR1_EL2, 112
	.equ	R_MAIR_EL2, 120
	.equ	R_VBAR_EL2, 128
	.equ	R_VTCR_EL2, 136
	.equ	R_VTTBR_EL2, 144
	.equ	R_SCTLR_EL3, 152
	.equ	R_TCR_EL3, 160
	.equ	R_TTBR0_EL3, 168
	.equ	R_MAIR_EL3, 176
	.equ	R_BASE_TTBR0_EL3, 184
	.equ	R_STATUS, 192
	.equ	R_PAR, 200
	.equ	R_ESR_EL3, 208
	.equ	R_ELR_EL3, 216
	.equ	R_FAR_EL3, 224
	.equ	R_ESR_EL1, 232
	.equ	R_FAR_EL1, 240
	.equ	R_ELR_EL1, 248
	.equ	R_ESR_EL2, 256
	.equ	R_FAR_EL2, 264
	.equ	R_ELR_EL2, 272
	.equ	R_HPFAR_EL2, 280
	.equ	R_SIZE, 320

	.equ	OP_FETCH, 14			// the operations below are AT instructions
	.equ	OP_AT_EL3_R, 15
	.equ	OP_AT_EL3_W, 16
	.equ	OP_FETCH_EL3, 17

	.equ	MOST_LOOKS, 1000		// at a fetch, after which it counts as one that never ends

	.equ	STATUS_PAR, 1
	.equ	STATUS_FROM_LOWER, 2
	.equ	STATUS_NEVER_ENDED, 3
	.equ	STATUS_FROM_EL3, 4
	.equ	STATUS_UNEXPECTED, 5

/* The mailbox. */
	.equ	M_BATCH, 0
	.equ	M_COUNT, 8
	.equ	M_LOOK_TICKS, 16
	.equ	M_IDENTITY, 64

	.arch	armv8-a

	.section .el3, "ax"
	.globl	oracle_start, el3_page
el3_page:
	.macro	entry, status
	.balign	0x80
	mov	x1, #\status
	b	save_exception
	.endm

	.rept	4
	entry	STATUS_UNEXPECTED
	.endr
	entry	STATUS_FROM_EL3
	.rept	3
	entry	STATUS_UNEXPECTED
	.endr
	entry	STATUS_FROM_LOWER
	entry	STATUS_UNEXPECTED
	.balign	0x80
	b	look_whether_stuck
	.rept	5
	entry	STATUS_UNEXPECTED
	.endr

look_whether_stuck:
	mrs	x2, elr_el3
	mrs	x3, esr_el1
	cmn	x3, #1					// as it was before the fetch?
	b.eq	1f
	mrs	x3, elr_el1
	cmp	x2, x3
	b.eq	3f
1:	mrs	x3, esr_el2
	cmn	x3, #1
	b.eq	2f
	mrs	x3, elr_el2
	cmp	x2, x3
	b.eq	3f
2:	cbz	x25, 3f
	sub	x25, x25, #1
	msr	cntps_tval_el1, x26
	isb
	eret
3:	mov	x1, #STATUS_NEVER_ENDED

save_exception:
	msr	sctlr_el3, x19
	isb
	msr	cntps_ctl_el1, xzr
	mrs	x2, esr_el3
	mrs	x3, elr_el3
	stp	x2, x3, [x20, #R_ESR_EL3]
	mrs	x2, far_el3
	mrs	x3, esr_el1
	stp	x2, x3, [x20, #R_FAR_EL3]
	mrs	x2, far_el1
	mrs	x3, elr_el1
	stp	x2, x3, [x20, #R_FAR_EL1]
	mrs	x2, esr_el2
	mrs	x3, far_el2
	stp	x2, x3, [x20, #R_ESR_EL2]
	mrs	x2, elr_el2
	mrs	x3, hpfar_el2
	stp	x2, x3, [x20, #R_ELR_EL2]
	b	record_done

	/* x0 the address, x1 the operation, x4 to x6 the tested TCR_EL3, TTBR0_EL3, MAIR_EL3. */
under_el3_tables:
	ldp	x2, x3, [x20, #R_MAIR_EL3]		// and the identity map's TTBR0_EL3
	mov	x6, x2
	msr	ttbr0_el3, x3
	ldr	x2, =BASE_TCR_EL3
	msr	tcr_el3, x2
	mov	x2, #BASE_MAIR_EL3
	msr	mair_el3, x2
	ldr	x2, [x20, #R_SCTLR_EL3]
	isb
	msr	sctlr_el3, x2
	isb
	msr	tcr_el3, x4
	msr	ttbr0_el3, x5
	msr	mair_el3, x6
	isb
	cmp	x1, #OP_FETCH_EL3
	b.eq	2f
	cmp	x1, #OP_AT_EL3_W
	b.eq	1f
	at	s1e3r, x0
	b	3f
1:	at	s1e3w, x0
	b	3f
2:	ret	x0					// unlike br, also into a guarded page (BTI)
3:	isb
	mrs	x2, par_el1
	msr	sctlr_el3, x19
	isb
	b	save_par

oracle_start:
	msr	daifset, #15
	ldr	x19, =SCTLR_EL3_OFF
	msr	sctlr_el3, x19
	isb
	adr	x0, el3_page
	msr	vbar_el3, x0
	mov	x0, #SCR_EL3
	msr	scr_el3, x0
	msr	cptr_el3, xzr
	msr	cptr_el2, xzr
	isb
	ldr	x0, =PL011_CR
	mov	w1, #PL011_ON
	str	w1, [x0]
	ldr	x0, =GICR_WAKER
	str	wzr, [x0]
	ldr	x0, =GICD_CTLR
	mov	w1, #GICD_ENABLE_GROUP0
	str	w1, [x0]
	ldr	x0, =GICR_ISENABLER0
	mov	w1, #(1 << SECURE_TIMER)
	str	w1, [x0]
	mov	x0, #0xf
	msr	s3_6_c12_c12_5, x0			// ICC_SRE_EL3
	isb
	mov	x0, #0xff
	msr	s3_0_c4_c6_0, x0			// ICC_PMR_EL1
	mov	x0, #1
	msr	s3_0_c12_c12_6, x0			// ICC_IGRPEN0_EL1
	isb

	ldr	x22, =mailbox_address
	mrs	x0, midr_el1
	mrs	x1, id_aa64pfr0_el1
	stp	x0, x1, [x22, #M_IDENTITY]
	mrs	x0, id_aa64pfr1_el1
	mrs	x1, id_aa64isar0_el1
	stp	x0, x1, [x22, #M_IDENTITY + 16]
	mrs	x0, id_aa64isar1_el1
	mrs	x1, s3_0_c0_c6_2			// ID_AA64ISAR2_EL1
	stp	x0, x1, [x22, #M_IDENTITY + 32]
	mrs	x0, id_aa64mmfr0_el1
	mrs	x1, id_aa64mmfr1_el1
	stp	x0, x1, [x22, #M_IDENTITY + 48]
	ubfx	x27, x1, #20, #4			// PAN
	ubfx	x28, x1, #8, #4				// VH
	mrs	x0, s3_0_c0_c7_2			// ID_AA64MMFR2_EL1
	mrs	x1, s3_0_c0_c7_3			// ID_AA64MMFR3_EL1
	stp	x0, x1, [x22, #M_IDENTITY + 64]
	mrs	x0, s3_0_c0_c7_4			// ID_AA64MMFR4_EL1
	mrs	x1, cntfrq_el0
	stp	x0, x1, [x22, #M_IDENTITY + 80]
	lsr	x24, x1, #11				// half a millisecond between looks at the mailbox
	mov	x23, xzr				// number of the last batch
	b	batch_done

wait_for_batch:
	ldr	x0, [x22, #M_BATCH]
	cmp	x0, x23
	b.ne	1f
	msr	cntps_tval_el1, x24
	mov	x1, #1
	msr	cntps_ctl_el1, x1
	isb
	wfi
	msr	cntps_ctl_el1, xzr
	b	wait_for_batch
1:	mov	x23, x0
	ldp	x21, x26, [x22, #M_COUNT]		// and M_LOOK_TICKS
	ldr	x20, =records_address
next_record:
	cbz	x21, batch_done
	sub	x21, x21, #1
	ldp	x0, x2, [x20, #R_HCR_EL2]
	msr	hcr_el2, x0
	msr	sctlr_el1, x2
	ldp	x0, x2, [x20, #R_TCR_EL1]
	msr	tcr_el1, x0
	msr	ttbr0_el1, x2
	ldp	x0, x2, [x20, #R_TTBR1_EL1]
	msr	ttbr1_el1, x0
	msr	mair_el1, x2
	ldp	x0, x2, [x20, #R_VBAR_EL1]
	msr	vbar_el1, x0
	msr	sctlr_el2, x2
	ldp	x0, x2, [x20, #R_TCR_EL2]
	msr	tcr_el2, x0
	msr	ttbr0_el2, x2
	ldp	x0, x2, [x20, #R_TTBR1_EL2]
	cbz	x28, 1f
	msr	s3_4_c2_c0_1, x0			// TTBR1_EL2
1:	msr	mair_el2, x2
	ldp	x0, x2, [x20, #R_VBAR_EL2]
	msr	vbar_el2, x0
	msr	vtcr_el2, x2
	ldr	x0, [x20, #R_VTTBR_EL2]
	msr	vttbr_el2, x0
	mov	x0, #-1					// no syndrome looks like this
	msr	esr_el1, x0
	msr	esr_el2, x0
	msr	hpfar_el2, xzr
	dsb	sy
	tlbi	alle1
	tlbi	alle2
	tlbi	alle3
	dsb	sy
	isb
	ldp	x1, x0, [x20, #R_OP]			// x1 the operation, x0 the address
	cmp	x1, #OP_FETCH
	b.eq	fetch
	b.hi	el3_operation
	cbz	x27, 2f
	ldr	x2, [x20, #R_PAN]
	cbz	x2, 2f
	.inst	0xd500419f				// msr pan, #1
2:	adr	x2, at_instructions
	add	x2, x2, x1, lsl #3
	br	x2
at_instructions:
	.macro	translate, instruction
	.inst	\instruction				// with x0
	b	3f
	.endm
	translate 0xd5087800				// S1E1R
	translate 0xd5087820				// S1E1W
	translate 0xd5087840				// S1E0R
	translate 0xd5087860				// S1E0W
	translate 0xd5087900				// S1E1RP
	translate 0xd5087920				// S1E1WP
	translate 0xd50c7800				// S1E2R
	translate 0xd50c7820				// S1E2W
	translate 0xd50c7880				// S12E1R
	translate 0xd50c78a0				// S12E1W
	translate 0xd50c78c0				// S12E0R
	translate 0xd50c78e0				// S12E0W
3:	isb
	mrs	x2, par_el1
save_par:
	str	x2, [x20, #R_PAR]
	mov	x1, #STATUS_PAR
record_done:
	cbz	x27, 4f
	.inst	0xd500409f				// msr pan, #0
4:	str	x1, [x20, #R_STATUS]
	add	x20, x20, #R_SIZE
	b	next_record

fetch:
	ldr	x2, [x20, #R_SPSR]
	msr	spsr_el3, x2
	msr	elr_el3, x0
	mov	x25, #MOST_LOOKS
	msr	cntps_tval_el1, x26
	mov	x2, #1
	msr	cntps_ctl_el1, x2
	isb
	eret

el3_operation:
	ldp	x4, x5, [x20, #R_TCR_EL3]
	b	under_el3_tables

batch_done:						// print the batch number, 16 digits
	ldr	x0, =PL011_DR
	mov	x1, #60
1:	lsr	x2, x23, x1
	and	x2, x2, #15
	add	x3, x2, #'0'
	add	x4, x2, #('a' - 10)
	cmp	x2, #10
	csel	x2, x3, x4, lo
	str	w2, [x0]
	subs	x1, x1, #4
	b.ge	1b
	mov	w2, #'\n'
	str	w2, [x0]
	b	wait_for_batch
	.ltorg

/* Vectors of EL1 and EL2: slot n says n + 0x100 at EL1, n + 0x200 at EL2. */
	.macro	telling_vectors, number
	.set	slot, 0
	.rept	16
	.balign	0x80
	smc	#(\number + slot)
	.set	slot, slot + 1
	.endr
	.endm

	.section .el1_vectors, "ax"
	telling_vectors 0x100
	.section .el2_vectors, "ax"
	telling_vectors 0x200
