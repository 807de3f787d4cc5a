/*
 * The "new kernel" of the lab guest: proves that it arrived whole, says so on the PL011, powers the machine off.
 *
 * The lab links it at its destination, pads it with known data to many pages, and fills in the header: the number of
 * 64-bit words and a checksum that depends on the order of the words, so that a lost, stale or swapped page shows.
 */

	.equ	PL011_DR, 0x09000000		// QEMU's virt machine
	.equ	GICR, 0x080a0000		// the redistributor of CPU 0 with gic-version=3
	.equ	GICR_PROPBASER, 0x70
	.equ	GICR_CTLR_ENABLE_LPIS_BIT, 0
	.equ	PROPBASER_ADDRESS_MASK, 0x000ffffffffff000
	.equ	LPI_CONFIGURATION_SIZE, 0x10000
	.equ	LPI_DEFAULT_CONFIGURATION, 0xa2a2a2a2a2a2a2a2	// priority 0xa0, group 1, not enabled
	.equ	PSCI_SYSTEM_OFF, 0x84000008
	.equ	FDT_MAGIC_IN_MEMORY, 0xedfe0dd0		// 0xd00dfeed, big-endian, as a little-endian load sees it

	.arch	armv8-a
	.section .text, "ax"
	.globl	new_kernel_entry, image_words, image_checksum, checksum_factor, adopts_lpi_tables
new_kernel_entry:
	b	1f
	.balign	8
image_words:		.quad	0			// 64-bit words in the whole image
image_checksum:		.quad	0			// over all words but this one
checksum_factor:	.quad	0x9e3779b97f4a7c15	// odd: a word's weight depends on its position
adopts_lpi_tables:	.quad	0			// not 0: do with LPI tables in use what Linux does

1:	mov	x20, x0					// the device tree, kern_arg0
	orr	x21, x1, x2
	orr	x21, x21, x3				// the boot protocol asks for x1 to x3 = 0
	ldr	x1, adopts_lpi_tables
	cbz	x1, 4f
	/*
	 * Linux 6.1, drivers/irqchip/irq-gic-v3-its.c: with LPIs enabled and the configuration table in memory that is
	 * reserved, which the kernel's own image is, its_setup_lpi_prop_table() takes it over and gic_reset_prop_table()
	 * fills it.
	 */
	ldr	x1, =GICR
	ldr	w2, [x1]
	tbz	w2, #GICR_CTLR_ENABLE_LPIS_BIT, 4f
	ldr	x1, [x1, #GICR_PROPBASER]
	and	x1, x1, #PROPBASER_ADDRESS_MASK
	add	x2, x1, #LPI_CONFIGURATION_SIZE
	ldr	x3, =LPI_DEFAULT_CONFIGURATION
3:	str	x3, [x1], #8
	cmp	x1, x2
	b.lo	3b
4:
	adr	x1, new_kernel_entry
	adr	x5, image_checksum
	ldr	x2, image_words
	ldr	x3, checksum_factor
	mov	x0, xzr
2:	ldr	x4, [x1]
	cmp	x1, x5
	csel	x4, xzr, x4, eq
	madd	x0, x0, x3, x4
	add	x1, x1, #8
	subs	x2, x2, #1
	b.ne	2b
	mov	x22, x0
	ldr	x1, image_checksum
	cmp	x0, x1
	b.ne	corrupt
	cbz	x20, bad_arguments
	ldr	w1, [x20]
	ldr	w2, =FDT_MAGIC_IN_MEMORY
	cmp	w1, w2
	b.ne	bad_arguments
	cbnz	x21, bad_arguments
	adr	x0, arrived_text
	bl	print
	ldr	x0, image_words
	lsr	x0, x0, #9
	bl	print_decimal
	adr	x0, pages_text
	bl	print
	mov	x0, x22
	bl	print_hex
	adr	x0, level_text
	bl	print
	mrs	x0, CurrentEL
	lsr	x0, x0, #2
	bl	print_decimal
	b	finish
corrupt:
	adr	x0, corrupt_text
	bl	print
	mov	x0, x22
	bl	print_hex
	adr	x0, expected_text
	bl	print
	ldr	x0, image_checksum
	bl	print_hex
	b	finish
bad_arguments:
	adr	x0, arguments_text
	bl	print
	mov	x0, x20
	bl	print_hex
finish:
	adr	x0, newline_text
	bl	print
	ldr	w0, =PSCI_SYSTEM_OFF
	smc	#0
	b	.

print:							// x0: zero-terminated text
	ldr	x9, =PL011_DR
1:	ldrb	w10, [x0], #1
	cbz	w10, 2f
	str	w10, [x9]
	b	1b
2:	ret

print_hex:						// x0: value
	ldr	x9, =PL011_DR
	mov	x11, #60
1:	lsr	x10, x0, x11
	and	x10, x10, #15
	cmp	x10, #10
	add	x12, x10, #'0'
	add	x10, x10, #('a' - 10)
	csel	x10, x12, x10, lo
	str	w10, [x9]
	subs	x11, x11, #4
	b.ge	1b
	ret

print_decimal:						// x0: value below 1000000
	ldr	x9, =PL011_DR
	ldr	x11, =100000
	mov	x13, #10
	mov	x14, xzr				// a digit has been printed
1:	udiv	x10, x0, x11
	msub	x0, x10, x11, x0
	orr	x14, x14, x10
	cmp	x11, #1
	csinc	x14, x14, xzr, ne			// the last digit is always printed
	cbz	x14, 2f
	add	x10, x10, #'0'
	str	w10, [x9]
2:	udiv	x11, x11, x13
	cbnz	x11, 1b
	ret

arrived_text:	.asciz	"new kernel: arrived whole: "
pages_text:	.asciz	" pages, checksum 0x"
level_text:	.asciz	", at EL"
corrupt_text:	.asciz	"new kernel: CORRUPT: checksum 0x"
expected_text:	.asciz	", expected 0x"
arguments_text:	.asciz	"new kernel: arrived, but with bad boot arguments: x0 = 0x"
newline_text:	.asciz	"\n"
	.balign	8
	.ltorg
