"""`hastctl check`: what would not work, found without changing anything (docs/check.md)."""
