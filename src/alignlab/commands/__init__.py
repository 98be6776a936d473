"""What the command line does, as plain functions of the same names: `from alignlab import run`.

To add one: a file with a function here, and its line in `cli.py`.
"""
