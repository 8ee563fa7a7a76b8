"""hast.conf: its language, and what it means for this node."""
