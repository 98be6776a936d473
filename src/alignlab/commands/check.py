"""Validate everything that a run needs, and estimate its costs; run nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from alignlab import registry
from alignlab.commands._support.job import setting_layers
from alignlab.commands._support.measured_speed import speeds
from alignlab.commands._support.placed import nearest_folder, planned
from alignlab.commands.diagnose import diagnose_study
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, identity_of
from alignlab.errors import BadInput
from alignlab.generation.openai import probe_endpoints
from alignlab.plan import Plan
from alignlab.recipes.study import Recipe
from alignlab.records import to_dict
from alignlab.runs import refuse_other_run


def check(
    recipe: str,
    *overrides: str,
    config: str | Path | None = None,
    sample: int = 0,
    ask: bool = False,
    measure: bool = True,
) -> Plan:
    """Check settings, data, model, objective, teachers, judges and output folder; run nothing.

    Each endpoint gets one small request.

    Args:
        recipe: a name from `alignlab list recipes`.
        overrides: "key=value" strings, as on the command line.
        config: a YAML file of settings, under the overrides.
        sample: number of pairs that models and judges are asked about, to diagnose whether the
            study can succeed; 0 loads no model.
        ask: ask judges behind endpoints too.
        measure: measure the speed of the study's models on this machine where it is not known
            yet; else estimate it from the throughput of matrix products.

    Raises:
        BadInput: any error that a run with these settings would raise.
    """
    known: Recipe = registry.get("recipe", recipe)
    chosen = assemble(known, config, overrides, {}, out=f"runs/{recipe}")
    out = Path(chosen.out)
    refuse_other_run(out, identity_of(known, chosen, setting_layers(config, overrides, {})))
    folder = nearest_folder(out)
    with planned(chosen) as cluster:
        nodes = cluster.nodes
    plan = plan_study(known, chosen, speeds=partial(speeds, measure=measure), nodes=nodes)
    endpoints = probe_endpoints(to_dict(chosen))
    for endpoint in endpoints:
        if not endpoint.answers:
            raise BadInput(str(endpoint))
    found = diagnose_study(chosen, plan, sample=sample, ask=ask)
    free = shutil.disk_usage(folder).free / 1e9
    return replace(plan, endpoints=tuple(map(str, endpoints)), findings=found, free_gigabytes=free)
