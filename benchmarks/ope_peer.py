"""The peer of `benchmarks.ope`: the same three protocols by obp, run by an interpreter that has it.

    python ope_peer.py {open-bandit,synthetic,multiclass} RUNS [FOLDER]

Prints one JSON object: estimator -> values by run, truths by run, seconds, peak_mb. Stands alone: obp needs older
packages than Matinee, so it usually lives in an environment of its own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAMBDAS = [10, 50, 100, 500, 1000, 5000, 10000, float("inf")]
FOLD_SEED = 12345
NAMES = {"ipw": "ips", "snipw": "snips"}


def estimators() -> list[Any]:
    """The seven estimators of the published tables."""
    from obp import ope

    return [
        ope.DirectMethod(),
        ope.InverseProbabilityWeighting(),
        ope.SelfNormalizedInverseProbabilityWeighting(),
        ope.DoublyRobust(),
        ope.SelfNormalizedDoublyRobust(),
        ope.SwitchDoublyRobustTuning(lambdas=LAMBDAS, tuning_method="slope"),
        ope.DoublyRobustWithShrinkageTuning(lambdas=LAMBDAS, tuning_method="slope"),
    ]


def values(feedback: dict[str, Any], action_dist: Any, model: Any) -> dict[str, float]:
    """Every estimator's value on one log."""
    from obp.ope import OffPolicyEvaluation

    position = feedback.get("position")
    q = model.fit_predict(
        context=feedback["context"],
        action=feedback["action"],
        reward=feedback["reward"],
        position=position,
        n_folds=3,
        random_state=FOLD_SEED,
    )
    found = OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=estimators()).estimate_policy_values(
        action_dist=action_dist, estimated_rewards_by_reg_model=q
    )
    return {NAMES.get(name, name): float(value) for name, value in found.items()}


def open_bandit(runs: int, folder: str) -> tuple[list[dict[str, float]], list[float]]:
    """Bernoulli Thompson sampling judged on bootstrap resamples of the random log; the truth is not known here."""
    import numpy as np
    from obp.dataset import OpenBanditDataset
    from obp.ope import RegressionModel
    from obp.policy import BernoulliTS
    from sklearn.linear_model import LogisticRegression

    with tempfile.TemporaryDirectory() as base:
        home = Path(base) / "random" / "all"
        home.mkdir(parents=True)
        for name in ("all.csv", "item_context.csv"):
            (home / name).symlink_to(Path(folder) / name)
        data = OpenBanditDataset(behavior_policy="random", campaign="all", data_path=Path(base))
    policy = BernoulliTS(
        n_actions=data.n_actions, len_list=data.len_list, is_zozotown_prior=True, campaign="all", random_state=FOLD_SEED
    )
    single = policy.compute_batch_action_dist(n_sim=100_000)
    found = []
    for run in range(runs):
        feedback = data.sample_bootstrap_bandit_feedback(random_state=run)
        model = RegressionModel(
            n_actions=data.n_actions,
            len_list=data.len_list,
            action_context=data.action_context,
            base_model=LogisticRegression(C=100, max_iter=1000, random_state=FOLD_SEED),
        )
        found.append(values(feedback, np.tile(single, (feedback["n_rounds"], 1, 1)), model))
    return found, []


def synthetic(runs: int, folder: str) -> tuple[list[dict[str, float]], list[float]]:
    """10,000 rounds, 30 actions, logging that prefers bad actions."""
    from obp.dataset import SyntheticBanditDataset, logistic_reward_function
    from obp.ope import RegressionModel
    from obp.policy import IPWLearner
    from sklearn.linear_model import LogisticRegression

    found, truths = [], []
    for run in range(runs):
        data = SyntheticBanditDataset(
            n_actions=30, dim_context=5, beta=-3.0, reward_function=logistic_reward_function, random_state=run
        )

        def classifier() -> Any:
            return LogisticRegression(C=100, max_iter=10_000, random_state=FOLD_SEED)

        learner = IPWLearner(n_actions=30, base_classifier=classifier())
        learn, judge = data.obtain_batch_bandit_feedback(10_000), data.obtain_batch_bandit_feedback(10_000)
        learner.fit(context=learn["context"], action=learn["action"], reward=learn["reward"], pscore=learn["pscore"])
        pi = learner.predict_proba(context=judge["context"])
        model = RegressionModel(n_actions=30, action_context=data.action_context, base_model=classifier())
        found.append(values(judge, pi, model))
        truths.append(float(data.calc_ground_truth_policy_value(judge["expected_reward"], pi)))
    return found, truths


def multiclass(runs: int, folder: str) -> tuple[list[dict[str, float]], list[float]]:
    """Digits: a classifier logs, another is judged."""
    from obp.dataset import MultiClassToBanditReduction
    from obp.ope import RegressionModel
    from sklearn.datasets import load_digits
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    X, y = load_digits(return_X_y=True)
    trees = {"n_estimators": 30, "max_depth": 5, "min_samples_leaf": 10, "random_state": FOLD_SEED}
    data = MultiClassToBanditReduction(
        X=X, y=y, base_classifier_b=LogisticRegression(C=100, max_iter=10_000, random_state=FOLD_SEED), alpha_b=0.4
    )
    found, truths = [], []
    for run in range(runs):
        data.split_train_eval(eval_size=0.7, random_state=run)
        feedback = data.obtain_batch_bandit_feedback(random_state=run)
        pi = data.obtain_action_dist_by_eval_policy(base_classifier_e=RandomForestClassifier(**trees), alpha_e=0.9)
        model = RegressionModel(
            n_actions=data.n_actions, base_model=GradientBoostingClassifier(learning_rate=0.01, **trees)
        )
        found.append(values(feedback, pi, model))
        truths.append(float(data.calc_ground_truth_policy_value(pi)))
    return found, truths


def main() -> None:
    """Run one protocol and print what it gave."""
    which, runs, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    protocols = {"open-bandit": open_bandit, "synthetic": synthetic, "multiclass": multiclass}
    import obp  # a peer that cannot be imported is said to be absent before any work

    begun, cpu = time.perf_counter(), time.process_time()
    found, truths = protocols[which](runs, folder)
    print(
        json.dumps(
            {
                "version": obp.__version__,
                "values": {name: [one[name] for one in found] for name in found[0]},
                "truths": truths,
                "seconds": time.perf_counter() - begun,
                "cpu_seconds": time.process_time() - cpu,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            }
        )
    )


if __name__ == "__main__":
    main()
