"""Define studies: one per file, a typed config and a flat loop that can be read aloud.

To add one: a file with a frozen config dataclass (usually extending `study.StudyConfig`), a
function `(context, config) -> StudyMeasurements`, and `register("recipe", NAME)(Recipe(...))`.
Files are discovered; every recipe then has `alignlab run NAME`, `check`, `--help` and a report.
"""
