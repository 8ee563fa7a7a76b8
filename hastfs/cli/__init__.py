"""The programs: hastd and hastctl."""
