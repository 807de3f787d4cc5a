"""The oracle: random machines, asked of QEMU's MMU and of our walk; the answers have to be the same."""
