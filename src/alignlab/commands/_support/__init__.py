"""Helpers of the commands: inputs, the run directory of one command, tables, results."""
