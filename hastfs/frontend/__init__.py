"""What the kernel sees of a resource: an image file (FUSE) and a block device on it (loop)."""
