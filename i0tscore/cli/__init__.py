"""The command line: one module per verb, shared options and console, no arithmetic."""
