"""hastctl's commands, a module each: `run(options, config)` does it and returns the exit code."""
