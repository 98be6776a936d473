"""Support the commands: inputs, run directories of single commands, tables, results."""
