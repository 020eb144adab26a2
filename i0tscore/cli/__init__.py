"""The command line: one module per command, shared options and console, no arithmetic."""
