"""Losses as pure functions of log-probabilities, one per file.

To add an objective, add a file with a frozen dataclass whose documented fields are its options,
the class attributes of `base.Objective` in which it differs, a
`__call__(GroupLogps) -> ObjectiveOutput`, and `@register("objective", "name")`.
"""
