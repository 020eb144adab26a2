"""The command line: one module a verb, options and console shared, no arithmetic."""
