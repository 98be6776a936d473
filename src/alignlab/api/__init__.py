"""Implement the Python API: objects in and out, under the names of the command line.

Modules here import torch and the rest of the package inside their functions, so that
`import alignlab` and a refused call take a fraction of a second.
"""
