"""HastFS: FreeBSD's Highly Available Storage (HAST) for Linux."""

__version__ = "0.1.0"
