/*
 * Several CPUs that do different things: CPU 0 starts two others by PSCI CPU_ON and counts for ever, CPU 1 runs
 * another guest's program, CPU 2 waits in WFI for an interrupt that does not come. Further CPUs stay off.
 *
 * QEMU's virt machine with virtualization=on takes PSCI calls by SMC; a CPU that is started has its MMU off, at EL2.
 */

	.equ	PSCI_CPU_ON_64, 0xc4000003

	.arch	armv8-a

	.macro	start_cpu, affinity, entry
	movz	x0, #(PSCI_CPU_ON_64 & 0xffff)
	movk	x0, #(PSCI_CPU_ON_64 >> 16), lsl #16
	mov	x1, #\affinity
	ldr	x2, =\entry
	mov	x3, xzr
	smc	#0
	.endm

	.section .several_cpus, "ax"
	.globl	first_cpu_start, count, park
first_cpu_start:
	start_cpu 2, park
	start_cpu 1, second_cpu_entry
	mov	x20, xzr
count:	add	x20, x20, #1
	b	count

park:	wfi
	b	park

	.ltorg
