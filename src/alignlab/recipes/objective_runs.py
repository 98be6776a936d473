"""Run one branch of `compare_objectives`: train its model, search its rate, measure it."""

from __future__ import annotations

import logging
from dataclasses import replace

from alignlab.measuring.divergence import divergence
from alignlab.measuring.held_out import held_out_values
from alignlab.measuring.measure import BranchResult
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.recipes.objective_branches import (
    CompareObjectivesConfig,
    Comparison,
    described,
    training_of,
)
from alignlab.recipes.objective_inputs import ObjectiveInputs
from alignlab.recipes.study import Study, answer_held_out
from alignlab.recipes.tuning import TuneSettings, search
from alignlab.stages.few_shot import FewShot
from alignlab.stages.sample import answer
from alignlab.training.conditioning import most_bins
from alignlab.types import Checkpoint

log = logging.getLogger(__name__)


def run_branch(
    study: Study[CompareObjectivesConfig], given: ObjectiveInputs, name: str
) -> BranchResult:
    """Train a branch's model, at the best of the rates to try, and measure it."""
    branch = Comparison(study, given, name)
    train = training_of(branch)
    if train is None:
        return _prompted(branch)
    branch = _with_bins_that_fit(branch)
    rates = study.config.tune.lrs
    if not rates:
        return _measured(branch, train(branch))

    def train_at(step: Study[CompareObjectivesConfig], rate: float) -> Checkpoint:
        tried = branch._replace(study=step.using(tune=TuneSettings()))
        return train(tried.overriding("train", lr=rate))

    best, values = search(branch.study, rates, train_at, branch.critic())
    return _measured(branch, best) + BranchResult(values=tuple(values))


def _with_bins_that_fit(branch: Comparison) -> Comparison:
    """Return the branch with no more bins of rewards than its scores can fill."""
    objective = branch.learner.objective
    # Stand-ins of a plan have few scores.
    if not isinstance(objective, RewardConditioned) or branch.study.context.recorder:
        return branch
    scores = [score for group in branch.given.groups for score in group.scores]
    bins = most_bins(scores, objective.bins)
    if bins < objective.bins:
        log.warning("%s: the scores fill %d bins, not %d", branch.name, bins, objective.bins)
    return branch.overriding("options", bins=bins)


def _prompted(branch: Comparison) -> BranchResult:
    """Answer with the untrained base model, after demonstrations or without."""
    study, name = branch.study, branch.name
    context, config, start = study.context, study.config, study.start
    base = context.engine(replace(start.m0, name=name))
    if name == "few_shot":
        base = FewShot(base, start.corpus.demonstrations[: config.shots], name)
    answers = answer(context, base, start.corpus.test_prompts, config.sample)
    return BranchResult(answers={name: answers}, made={name: described(config, name)})


def _measured(branch: Comparison, learned: Checkpoint) -> BranchResult:
    """Measure answers, divergence from M1, and accuracy on held-out groups like the data's."""
    study, config = branch.study, branch.study.config
    m1, corpus, result = study.start.m1, study.start.corpus, answer_held_out(study, learned)
    if config.divergence:
        prompts = corpus.test_prompts[: config.divergence]
        far = divergence(study.context, learned, m1, prompts, config.sample.max_tokens)
        result += BranchResult(values=(far,))
    if config.groups == "data" and corpus.test_groups:
        groups = (branch.given.groups, corpus.test_groups)
        objective = branch.learner.objective
        found = held_out_values(study.context, objective, (m1, learned), groups, config.lengths)
        result += BranchResult(values=found)
    return result
