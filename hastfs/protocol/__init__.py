"""What is said between two nodes and between hastctl and hastd: bytes to values and back, without I/O."""
