"""Who runs where: pure policy over values, without I/O, clocks or async."""
