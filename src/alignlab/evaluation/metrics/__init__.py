"""Metrics, one per file: pure functions, no model, no file, no global state.

To add one: a new file with a frozen result record and one function that returns it. A figure comes
as an `Interval` (value, low, high, n) from `intervals`; unscored units are counted and left out,
never replaced by a number. Batched names end in their axes (`types`).
"""
