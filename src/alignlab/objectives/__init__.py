"""One loss per file, pure functions of log-probabilities.

To add one: a new file with a frozen dataclass whose documented fields are its options, the class
attributes of `base.Objective`, a `__call__(GroupLogps) -> ObjectiveOutput`, and
`@register("objective", "name")`. Nothing else is edited.
"""
