"""Implement the commands as plain functions, one file per command.

To add one: a file with a function here, and its line in `cli.py`.
"""
