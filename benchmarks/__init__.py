"""How fast HastFS is, beside what else a user could take: `benchmarks/run.sh`."""
