"""Stages read typed records, append typed records, and can each be resumed or replaced.

To add one: a file with a function whose first argument is the `Lab`, that opens
`lab.run.stage(name, ...)`, does its work in units (each written once, by name), and returns
records. Its settings are a frozen dataclass beside it. Recipes call it by import.
"""
