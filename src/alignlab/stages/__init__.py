"""Do the steps of a study: each stage reads typed records, appends typed records, and resumes.

To add one: a file with a function whose first argument is the `RunContext`, that opens
`context.run.stage(name, ...)`, does its work with `stage.map` (chunks of items) or `stage.once`,
and returns records. Its settings are a frozen dataclass in the same file. Recipes call it by
import.
"""
