"""Every method learns from the same groups; what cannot be is refused before the work."""

import json

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes import branches as branches_module
from alignlab.recipes.objective_branches import BRANCHES, learner
from alignlab.records import read_records
from alignlab.types import Drift, PreferenceGroup, Response
from tests.conftest import shared_path
from tests.recipes.small import SMALL

TINY = (
    *SMALL,
    "prompts=8",
    "sample.max_tokens=16",
    "divergence=4",
    "raft_rounds=2",
    "reward_training.epochs=1",
    "rollout={steps: 2, batch_size: 4, max_tokens: 16}",
)
TRIED = (
    "zero_shot", "few_shot", "sft", "preferred_ft", "raft", "joint_feedback", "dpo", "dpo_low",
    "rso", "kto", "pro", "ppo", "rloo_critic", "random_scores",
)  # fmt: skip
"""A branch of every kind."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of every kind of branch, on samples."""
    out = tmp_path_factory.mktemp("rl_free") / "run"
    progress.use(progress.Silent())
    run("rl_free", *TINY, "methods.dpo_low={objective: dpo, options: {beta: 0.1}}",
        f"branches=[{','.join(TRIED)}]", out=str(out))  # fmt: skip
    progress.use(None)
    return out


def rows(out, **wanted):
    found = json.loads((out / "summary.json").read_text())["rows"]
    return [r for r in found if all(r[k] == v for k, v in wanted.items())]


def test_every_branch_is_measured(finished):
    models = {"M1", *TRIED}
    assert {r["model"] for r in rows(finished, benchmark="score")} == models
    assert {r["model"] for r in rows(finished, benchmark="head_to_head")} == models - {"M1"}
    assert {r["model"] for r in rows(finished, benchmark="text", metric="repetition_4")} == models
    trained = models - {"M1", "zero_shot", "few_shot"}
    assert {r["model"] for r in rows(finished, metric="kl")} == trained


def test_a_policy_gradient_takes_a_reward_of_its_own():
    methods = "methods={own: {objective: rloo, reward: 'random', train: {lr: 2e-5, refills: 2}}}"
    study = parts(*TINY, "branches=[own]", methods)
    made = study.models["own"]
    assert "rewarded by random" in made
    assert made.endswith("learning rate 2e-05, refills 2")


def test_a_method_that_imitates_demonstrations_is_described_so():
    noise = "{objective: sft, train: {neftune_alpha: 5}}"
    made = parts(
        *TINY,
        "branches=[sft,noisy,preferred_ft]",
        f"methods={{noisy: {noise}, preferred_ft: {noise}}}",
    ).models
    start = "M1 after more of the same demonstrations: SFT()"
    assert made["sft"].startswith(start)
    assert made["noisy"].startswith(start)
    assert made["preferred_ft"].startswith(start)
    assert made["noisy"].endswith(", neftune_alpha 5")


def test_a_model_that_rewards_counts_as_a_teacher():
    recipe = registry.get("recipe", "compare_objectives")
    words = ("methods={own: {objective: rloo, reward: 'llm:openai:M@http://h'}}", "branches=[own]")
    config = assemble(recipe, None, words, {})
    assert config.teacher_specs["methods.own.reward"] == "llm:openai:M@http://h"


def test_a_policys_best_checkpoint_is_chosen_on_prompts_of_its_own(tmp_path):
    out = tmp_path / "run"
    policies = "methods={watched: {objective: rloo, train: {validate_every: 1}}}"
    run("compare_objectives", *TINY, policies, "branches=[rloo,watched,dpo]", "dev_prompts=4",
        "reward=feedback", out=str(out))  # fmt: skip
    best = {}
    for name in ("rloo", "watched", "dpo"):
        (file,) = out.glob(f"stages/{name}/[0-9][0-9]-{name}/trained.jsonl")
        best[name] = json.loads(file.read_text())["best_step"]
    assert best["rloo"] is None
    assert best["dpo"] is None
    assert best["watched"] in (1, 2)
    prompts = [json.loads(line) for line in (out / "stages/01-seed/prompts.jsonl").open()]
    dev = {prompt["id"] for prompt in prompts[-4:]}
    (drawn,) = out.glob("stages/watched/*/rollout_samples.jsonl")
    assert dev.isdisjoint(json.loads(line)["prompt_id"] for line in drawn.open())


def test_refilled_steps_have_one_line_of_reward_and_truth_each(tmp_path):
    """Sampling again for prompts of equal scores (DAPO) asks the reward several times a step."""
    python = tmp_path / "two.py"
    python.write_text(  # every other prompt has equal scores, whatever the policy says
        "def two(response, prompt, reference):\n"
        "    return float(len(response) % 2) if len(str(prompt)) % 2 else 0.0\n"
    )
    dapo = f"{{objective: grpo, reward: 'python:{python}:two', train: {{refills: 3}}}}"
    out = tmp_path / "run"
    run("compare_objectives", *TINY, f"methods.dapo={dapo}", "branches=[dapo]", out=str(out))
    (drift,) = out.rglob("drift.jsonl")
    steps = [json.loads(line) for line in drift.read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2]
    (watched,) = out.rglob("watched.jsonl")
    drawn = [json.loads(line)["n"] for line in watched.read_text().splitlines()]
    assert len(drawn) > 2  # there were refills
    assert sum(line["n"] for line in steps) == sum(drawn)


def test_all_objectives_make_a_branch():
    recipe = registry.get("recipe", "rl_free")
    samples, data = (assemble(recipe, None, [f"groups={g}"], {}) for g in ("samples", "data"))
    assert samples.chosen == tuple(BRANCHES)
    assert set(BRANCHES) - set(data.chosen) == {"joint_feedback", "rloo_critic"}


@pytest.mark.parametrize("groups", ["samples", "data"])
def test_every_branch_is_planned(groups):
    recipe = registry.get("recipe", "rl_free")
    config = assemble(recipe, None, [*TINY, f"groups={groups}", "measure.judge=longer"], {})
    models = plan_study(recipe, config).models
    assert list(models) == ["M1", *config.chosen]
    assert all(models.values())


def test_options_of_a_branch_stand_under_the_studys_own(monkeypatch):
    monkeypatch.setitem(BRANCHES, "pro", BRANCHES["dpo"]._replace(options={"nll_weight": 0.5}))
    recipe = registry.get("recipe", "compare_objectives")
    assert learner(assemble(recipe, None, [], {}), "pro").objective.nll_weight == 0.5
    own = assemble(recipe, None, ["methods.pro.options.nll_weight=0.25"], {})
    assert learner(own, "pro").objective.nll_weight == 0.25


def test_pro_is_compared_by_the_loss_of_its_authors_code():
    recipe = registry.get("recipe", "compare_objectives")

    def weights(name, *settings):
        return learner(assemble(recipe, None, settings, {}), name).objective.weights

    assert weights("pro") == "authors"
    assert weights("pro", "methods.pro.objective=pro") == "authors"
    assert weights("pro", "methods.pro.options.weights=paper") == "paper"
    assert weights("rrhf") == "paper"


def test_trainings_drop_bad_records_where_the_data_source_does():
    for data, drops in (("f.jsonl?bad=drop", True), ("f.jsonl?bad=stop&limit=9", False)):
        config = assemble(registry.get("recipe", "compare_objectives"), None, [], {"data": data})
        made = learner(config, "dpo")
        assert config.train_spec(made.objective, made.config).drop_bad is drops
        policy = learner(config, "ppo")
        spec = config.rollout_spec(policy.objective, policy.config)
        assert (spec.drop_bad, spec.max_prompt_tokens) == (drops, config.lengths.max_prompt_tokens)


def test_all_preference_objectives_are_compared():
    known = set(registry.names("objective")) - {"reward_model", "distill"}
    compared = {branch.objective or name for name, branch in BRANCHES.items() if branch.learn}
    assert known <= compared | {"sft"}


def test_offline_methods_learn_from_the_same_groups(finished):
    (file,) = finished.glob("stages/*-pair/groups.jsonl")
    groups = list(read_records(file, PreferenceGroup))
    assert groups
    for name in ("dpo", "dpo-low", "pro", "preferred-ft"):
        (counts,) = finished.glob(f"stages/{name}/01-{name}/counts.jsonl")
        assert json.loads(counts.read_text())["kept"] == len(groups), name
    assert not list(finished.glob("stages/dpo/*-sample"))
    sampled = {r["id"] for r in map(json.loads, _lines(finished, "stages/*-sample/responses"))}
    learned = {r.id for g in groups for r in g.responses}
    assert learned <= sampled


def test_a_repeated_objective_has_its_own_options(finished):
    configs = {
        name: json.loads((finished / f"stages/{name}/01-{name}/config.json").read_text())
        for name in ("dpo", "dpo-low")
    }
    betas = {name: c["config"]["objective"]["beta"] for name, c in configs.items()}
    assert betas == {"dpo": 1.0, "dpo-low": 0.1}


@pytest.mark.parametrize("name", ["ppo", "rloo_critic"])
def test_policies_are_watched_step_by_step(finished, name):
    slug = name.replace("_", "-")
    (file,) = finished.glob(f"stages/{slug}/*-drift-{slug}/drift.jsonl")
    drift = list(read_records(file, Drift))
    assert [d.step for d in drift] == [1, 2]
    assert all(d.model == name and d.n == 16 for d in drift)
    assert drift[0].kl == pytest.approx(0, abs=0.05)
    assert all(0 <= d.truth <= 5 for d in drift)
    if name == "rloo_critic":  # its noise is half a point, and it scores in whole points
        assert drift[0].reward == pytest.approx(drift[0].truth, abs=0.7)
    page = (finished / "report.html").read_text()
    assert "Score against KL while training" in page
    assert f"{name}: true score" in page


def test_raft_goes_on_from_its_own_rounds(finished):
    first = finished / "stages" / "raft" / "round-1"
    second = finished / "stages" / "raft" / "round-2"
    assert not list(first.glob("*-sample"))
    (sampled,) = second.glob("*-sample/config.json")
    assert json.loads(sampled.read_text())["inputs"]["by"] == "raft round 1"
    (trained,) = second.glob("*-raft/config.json")
    assert json.loads(trained.read_text())["inputs"]["parent"] == "raft round 1"
    prompts = [
        {json.loads(line)["prompt"]["id"] for line in _lines(f, "*-best-of-n/demonstrations")}
        for f in (first, second)
    ]
    assert not prompts[0] & prompts[1]


def test_rso_takes_two_of_each_prompts_responses(finished):
    (counts,) = finished.glob("stages/rso/*-pairs/counts.jsonl")
    candidates, pairs = map(json.loads, counts.read_text().splitlines())
    assert pairs["kept"] + sum(pairs["dropped"].values()) == candidates["kept"] / 2


def test_the_best_of_n_of_the_samples_is_measured(finished):
    found = {r["model"]: r["value"] for r in rows(finished, metric="true score")}
    assert list(found) == [f"best of {n}" for n in range(1, len(found) + 1)]
    assert found["best of 1"] <= found[f"best of {len(found)}"]


def test_the_critic_and_the_reward_model_are_held_against_the_truth(finished):
    assert rows(finished, model="critic on M1", benchmark="judge_own_samples")
    assert rows(finished, model="reward model", benchmark="judge_held_out")


def test_the_datas_own_groups(tmp_path):
    progress.use(progress.Silent())
    run("rl_free", *TINY, "groups=data", "branches=[preferred_ft,dpo,simpo,rso,raft]",
        "seeds=2", out=str(tmp_path))  # fmt: skip
    progress.use(None)
    accuracy = rows(tmp_path, benchmark="held_out_preferences", metric="accuracy")
    models = {r["model"] for r in accuracy}
    assert {"dpo", "simpo", "rso", "longer wins"} <= models
    assert "preferred_ft" not in models
    by_model = {r["model"]: r for r in accuracy}
    assert len(accuracy) == len(models)
    assert by_model["dpo"]["n"] == by_model["longer wins"]["n"]
    assert by_model["dpo"]["seeds"] == [0, 1]
    ahead = rows(tmp_path, model="dpo", metric="accuracy_difference", against="longer wins")
    assert ahead[0]["value"] == pytest.approx(
        by_model["dpo"]["value"] - by_model["longer wins"]["value"]
    )
    (sampled,) = tmp_path.glob("stages/seed-0/rso/*-sample/responses.jsonl")
    assert sampled.read_text()
    assert not list(tmp_path.glob("stages/seed-0/*-sample"))


def test_without_a_judge_texts_and_accuracy_are_what_is_measured(tmp_path):
    progress.use(progress.Silent())
    run("rl_free", *TINY, "groups=data", "branches=[dpo]", "measure={judge: '', truth: ''}",
        out=str(tmp_path))  # fmt: skip
    progress.use(None)
    assert not rows(tmp_path, benchmark="score")
    assert {r["model"] for r in rows(tmp_path, benchmark="text")} == {"M1", "dpo"}
    assert rows(tmp_path, model="dpo", benchmark="held_out_preferences")


@pytest.mark.shared
def test_ranked_answers_of_real_models(tmp_path):
    data = shared_path("data/alpacaeval/alpacaeval_listwise.jsonl.gz")
    model = shared_path("models/tinychat-7m")
    progress.use(progress.Silent())
    run("rl_free", *TINY, "groups=data", "branches=[preferred_ft,dpo,dpo_pro]",
        "measure={judge: '', truth: ''}", "corpus={groups: 8, test_groups: 12, test_prompts: 8}",
        "lengths={max_prompt_tokens: 64, max_response_tokens: 24, too_long: cut}",
        "divergence=0", model=str(model), data=str(data), out=str(tmp_path))  # fmt: skip
    progress.use(None)
    accuracy = rows(tmp_path, benchmark="held_out_preferences", metric="accuracy")
    assert {r["model"] for r in accuracy} == {"dpo", "dpo_pro", "longer wins", "model identity"}
    assert len({r["n"] for r in accuracy}) == 1
    assert {
        r["against"] for r in rows(tmp_path, metric="accuracy_difference", model="dpo_pro")
    } == {
        "longer wins",
        "model identity",
    }


def parts(*overrides):
    recipe = registry.get("recipe", "rl_free")
    return plan_study(recipe, assemble(recipe, None, overrides, {}))


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("branches=[dpoo]", "did you mean"),
        ("methods.dpo.reward=model", "no effect"),
        ("methods.ppo.reward=randm", "unknown feedback 'randm'"),
        ("methods.ppo.reward=pairwise:sandbox:strong", "expected a source of scores"),
        ("branches=[dpo,dpo]", "different names"),
        ("branches=[reward_model]", "unknown branch"),
        ("methods.dpo.options.betta=1", "betta"),
        ("methods.dpo.train.lrr=1", "lrr"),
        ("methods.zero_shot.train.lr=1", "nothing is trained"),
        ("methods.rso.objective=ppo", "over groups"),
        ("iterations=2", "no effect"),
        ("feedback=nobody", "unknown feedback"),
        ("rso.beta=0", "above 0"),
        ("dev_prompts=4", "expected both or neither, found 4 and 0"),
        ("rollout.validate_every=2", "expected both or neither, found 0 and 2"),
        ("methods.ppo.train.validate_every=2", "expected both or neither, found 0 and 2"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(override, why):
    with pytest.raises(BadInput, match=why):
        parts(override)


def test_feedback_in_words_is_needed_to_model_it(tmp_path):
    progress.use(progress.Silent())
    with pytest.raises(BadInput, match="expected feedback in words"):
        run("rl_free", *TINY, "branches=[joint_feedback]", "feedback=longer", out=str(tmp_path))
    progress.use(None)


def _lines(folder, pattern):
    return [line for f in folder.glob(f"{pattern}.jsonl") for line in f.read_text().splitlines()]


@pytest.mark.parametrize(
    ("branch", "setting", "problem"),
    [
        ("ppo", "rollout.refills=1", "refills: PPO learns from equal scores too"),
        ("reinforce", "rollout.updates=2", "Reinforce learns from a rollout once"),
    ],
)
def test_settings_that_a_branch_refuses_stop_the_study_at_its_plan(
    branch, setting, problem, tmp_path
):
    with pytest.raises(BadInput, match=problem):
        run("compare_objectives", f"branches=[{branch}]", setting, out=str(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


def test_the_best_learning_rate_is_kept_and_the_other_weights_go(tmp_path):
    words = (
        *TINY, "measure.judge=longer", "feedback=longer", "branches=[zero_shot,dpo,raft]",
        "tune={lrs: [1e-9, 1e-3], prompts: 6}",
    )  # fmt: skip
    out = tmp_path / "run"
    progress.use(progress.Silent())
    run("compare_objectives", *words, out=str(out))
    tried = {(r["model"], r["metric"]): r for r in rows(out, benchmark="tuning")}
    assert set(tried) == {(m, f"score at {r}") for m in ("dpo", "raft") for r in ("1e-09", "0.001")}
    assert {r["n"] for r in tried.values()} == {6}
    for model in ("dpo", "raft"):
        slow, fast = (tried[model, f"score at {r}"]["value"] for r in ("1e-09", "0.001"))
        kept = "0.001" if fast > slow else "1e-09"
        for rate in ("1e-09", "0.001"):
            folder = out / "stages" / model / f"lr-{rate}"
            assert any(folder.rglob("model.safetensors")) == (rate == kept)
        text = json.loads((out / "study.json").read_text())["models"]
        assert f"learning rate {float(kept):g}" in json.dumps(text)
    # No question of the search is trained on or tested on.
    asked = {p.prompt_id for p in read_records(
        next(out.glob("stages/dpo/lr-0.001/*-answer-dpo/responses.jsonl")), Response)}  # fmt: skip
    learnt = {g.prompt.id for g in read_records(
        next(out.glob("stages/*-pair/groups.jsonl")), PreferenceGroup)}  # fmt: skip
    tested = {p.prompt_id for p in read_records(
        next(out.glob("stages/*-answer-m1/responses.jsonl")), Response)}  # fmt: skip
    assert not asked & (learnt | tested)
    before = rows(out)
    (out / "report.html").unlink()
    run("compare_objectives", *words, out=str(out))
    assert rows(out) == before
    progress.use(None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune.lrs=[1e-4]"], "tune.lrs: expected two or more different rates"),
        (["tune.lrs=[1e-4,1e-4]"], "tune.lrs: expected two or more different rates"),
        (["tune.lrs=[1e-4,-1]"], "lrs"),
        (["tune.prompts=50"], "tune.prompts: has no effect without tune.lrs"),
    ],
)
def test_bad_searches_are_refused(words, message):
    with pytest.raises(BadInput, match=message):
        assemble(registry.get("recipe", "compare_objectives"), None, words, {})


def test_searches_are_planned():
    recipe = registry.get("recipe", "compare_objectives")
    words = [*TINY, "measure.judge=longer", "feedback=longer", "branches=[zero_shot,dpo,raft]"]
    once = plan_study(recipe, assemble(recipe, None, words, {}))
    found = plan_study(
        recipe, assemble(recipe, None, [*words, "tune={lrs: [1e-5, 1e-4], prompts: 6}"], {})
    )
    assert list(found.models) == list(once.models) == ["M1", "zero_shot", "dpo", "raft"]
    assert found.disk_gigabytes < 1.1 * once.disk_gigabytes
    with pytest.raises(BadInput, match=r"tune.prompts: expected fewer than the data's \d+ prompts"):
        plan_study(recipe, assemble(recipe, None, [
            *words, "tune={lrs: [1e-5, 1e-4], prompts: 10000}"], {}))  # fmt: skip


def test_rewards_of_two_values_have_two_bins(tmp_path, caplog):
    (tmp_path / "own.py").write_text(
        "def odd(response, prompt):\n    return float(len(response) % 2)\n"
    )
    words = [*TINY, f"feedback=python:{tmp_path}/own.py:odd", "measure.judge=longer"]
    progress.use(progress.Silent())
    run("compare_objectives", *words, "branches=[reward_conditioned]", out=str(tmp_path / "run"))
    progress.use(None)
    made = json.loads((tmp_path / "run/study.json").read_text())["models"]["reward_conditioned"]
    assert "bins=2" in json.dumps(made)
    assert "reward_conditioned: the scores fill 2 bins, not 4" in caplog.text


@pytest.mark.parametrize("groups", ["data", pytest.param("samples", marks=pytest.mark.heavy)])
def test_weights_go_when_their_branch_is_measured(tmp_path, monkeypatch, groups):
    words = [*TINY, f"groups={groups}", "measure.judge=longer", "branches=[dpo,raft,rloo]"]
    progress.use(progress.Silent())
    run("compare_objectives", *words, out=str(tmp_path / "kept"))
    counted = []
    release = branches_module.release_weights
    monkeypatch.setattr(branches_module, "release_weights", lambda f: (
        release(f), counted.append(len(list((tmp_path / "gone").rglob("model.safetensors"))))
    ))  # fmt: skip
    gone = [*words, "keep_weights=false"]
    run("compare_objectives", *gone, out=str(tmp_path / "gone"))
    assert len(set(counted)) == 1  # M1 and the reward model, after each of three branches
    assert len(counted) == 3
    assert not list((tmp_path / "gone").rglob("*.safetensors"))
    assert rows(tmp_path / "gone") == rows(tmp_path / "kept")
    # Nothing is computed or loaded again, and nothing is missed.
    (tmp_path / "gone/report.html").unlink()
    run("compare_objectives", *gone, out=str(tmp_path / "gone"))
    assert rows(tmp_path / "gone") == rows(tmp_path / "kept")
    progress.use(None)
    recipe = registry.get("recipe", "compare_objectives")
    many, few = (plan_study(recipe, assemble(recipe, None, w, {})) for w in (words, gone))
    assert few.disk_gigabytes < many.disk_gigabytes
