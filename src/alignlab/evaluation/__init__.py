"""Metrics and benchmarks of models and judges.

`metrics/` holds pure functions on arrays and typed records, one metric a file, each with its
interval; `benchmarks/` turns judged records into `EvalResult` rows, one benchmark a file. To add a
benchmark: a new file in `benchmarks/` with a frozen config dataclass, one callable and one
`@register("benchmark", name)`; to add a metric: a new file in `metrics/`.
"""
