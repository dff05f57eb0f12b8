"""The three public protocols of off-policy evaluation: Open Bandit, synthetic, multiclass. Data and policies only.

Protocols and the prior of the Bernoulli Thompson sampling policy are those of the Open Bandit Pipeline (obp;
Apache-2.0; Saito, Aihara, Matsutani and Narita, 2021). Seeds use NumPy's RandomState because the published figures do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from matinee.evaluate.logged import Logged
from matinee.evaluate.logistic import Design, fit_logistic

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOLDS, FOLD_SEED = 3, 12345


def _figures(text: str) -> Floats:
    return np.array(text.split(), dtype=np.float64)


ALPHA = _figures(
    """
    47 8 62 142 3 14 7 857 12 15 6 100 48 23 71 61 13 16 518 30 7 4 23 8 10 11 11 18 121 11 11 10 14 9 204 58 3 19
    42 1013 2 328 15 31 14 138 45 55 23 38 10 401 52 6 3 6 5 32 35 133 52 820 43 195 8 42 40 4 32 30 9 22 6 23 5 54 8
    22 65 246
    """
)
BETA = _figures(
    """
    12198 3566 15993 35522 2367 4609 3171 181745 4372 4951 3100 24665 13210 7061 18061 17449 5644 6787 111326 8776
    3334 2271 7389 2659 3665 4724 3561 5085 27407 4601 4756 4120 4736 3788 45292 14719 2189 5589 11995 222255 2308
    70034 4801 8274 5421 31912 12213 13576 6230 10382 4141 85731 12811 2707 2250 2668 2886 9581 9465 28336 12062 162793
    12107 41240 3162 11604 10818 2923 8897 8654 4000 6580 3174 6766 2602 14506 3968 7523 16532 51964
    """
)


def placement(alpha: Floats = ALPHA, beta: Floats = BETA, places: int = 3, points: int = 3000) -> Floats:
    """Chance that each item's Beta draw is the 1st, 2nd, ... largest, shape (items, places), by quadrature.

    P(item i at place k) = integral of its density times the chance that exactly k - 1 others are larger. Thompson
    sampling has no closed form, but this is exact to the grid and costs less than 1,000 draws.
    """
    mean = alpha / (alpha + beta)
    spread = np.sqrt(mean * (1 - mean) / (alpha + beta + 1))
    low, high = np.log(np.max(mean) / 50), np.log(min(1 - 1e-9, float(np.max(mean + 12 * spread))))
    edges = np.exp(np.linspace(low, high, points + 1))
    below = special.betainc(alpha[:, None], beta[:, None], edges)
    mass = np.diff(below, axis=1)
    middle = np.clip(0.5 * (below[:, 1:] + below[:, :-1]), 1e-12, 1.0)
    log_all = np.log(middle).sum(axis=0)
    odds = (1 - middle) / middle
    first, second = odds.sum(axis=0), (odds * odds).sum(axis=0)
    others = np.exp(log_all - np.log(middle))  # all others are smaller
    s1 = first - odds
    chance = [others, others * s1, others * 0.5 * (s1 * s1 - (second - odds * odds))][:places]
    table = np.stack([(mass * c).sum(axis=1) for c in chance], axis=1)
    normal: Floats = table / table.sum(axis=0)
    return normal


def k_folds(n: int, folds: int = FOLDS, seed: int = FOLD_SEED) -> Ints:
    """Fold of each row as the shuffled K-fold of the published runs assigns it."""
    order = np.arange(n)
    np.random.RandomState(seed).shuffle(order)
    fold = np.empty(n, dtype=np.int64)
    sizes = np.full(folds, n // folds)
    sizes[: n % folds] += 1
    fold[order] = np.repeat(np.arange(folds), sizes)
    return fold


def _file(data: Path, *names: str) -> Path:
    """The log of a folder that may be given as the file, its folder or a folder above."""
    if data.is_file():
        return data
    for name in ("", *names):
        if (data / name / "all.csv").is_file():
            return data / name / "all.csv"
    raise FileNotFoundError(f"data == {data}, must be a log (all.csv) or hold one in {', '.join(names)}")


@dataclass(frozen=True)
class OpenBandit:
    """The log of a campaign: who saw which item where, and whether they clicked.

    Attributes:
        user: Code of the distinct user-feature cell of each row.
        item, position: Shown item, and position 0-2.
        click, propensity: Reward and logged probability.
        user_codes: Level of each user feature in each cell, shape (cells, features).
        user_levels: Levels of each user feature.
        item_features: Numbers of each item, shape (items, features): categories label-encoded, as published.
        path: The file read.
    """

    user: Ints
    item: Ints
    position: Ints
    click: Floats
    propensity: Floats
    user_codes: Ints
    user_levels: tuple[int, ...]
    item_features: Floats
    path: Path

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.click)


def open_bandit(data: Path) -> OpenBandit:
    """Read the random log and its items; needed columns only."""
    import polars as pl

    path = _file(data, "random-all", "random/all")
    names = pl.scan_csv(path).collect_schema().names()
    features = [c for c in names if c.startswith("user_feature")]
    log = pl.read_csv(path, columns=["timestamp", "item_id", "position", "click", "propensity_score", *features]).sort(
        "timestamp", maintain_order=True
    )
    codes = [(log[c].rank("dense") - 1).to_numpy().astype(np.int64) for c in features]
    cells, user = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    items = pl.read_csv(path.parent / "item_context.csv").sort("item_id")
    words = [c for c in items.columns if c.startswith("item_feature") and items[c].dtype == pl.String]
    figures = [c for c in items.columns if c.startswith("item_feature") and items[c].dtype.is_numeric()]
    table = [(items[c].rank("dense") - 1).to_numpy() for c in words] + [items[c].to_numpy() for c in figures]
    return OpenBandit(
        user=user.reshape(-1).astype(np.int64),
        item=log["item_id"].to_numpy().astype(np.int64),
        position=(log["position"].rank("dense") - 1).to_numpy().astype(np.int64),
        click=log["click"].to_numpy().astype(np.float64),
        propensity=log["propensity_score"].to_numpy().astype(np.float64),
        user_codes=cells.astype(np.int64),
        user_levels=tuple(int(c.max()) + 1 for c in codes),
        item_features=np.stack(table, axis=1).astype(np.float64),
        path=path,
    )


def truth_of(path: Path) -> float:
    """Mean click of a log that the evaluated policy collected itself."""
    import polars as pl

    return float(pl.read_csv(_file(path, "bts-all", "bts/all"), columns=["click"])["click"].mean())  # type: ignore[arg-type]


class OpenBanditRuns:
    """Bootstrap resamples of the log with cross-fitted q, fitted on counts per cell instead of resampled rows."""

    def __init__(self, log: OpenBandit, policy: Floats) -> None:
        self.log, self.policy = log, policy
        items = len(log.item_features)
        keys = (log.position * len(log.user_codes) + log.user) * items + log.item
        cells, self.cell = np.unique(keys, return_inverse=True)
        self.cell_item = cells % items
        self.cell_user = cells // items % len(log.user_codes)
        self.cell_position = cells // items // len(log.user_codes)
        self.designs = []
        self.starts = []
        ones, count = self._counts(np.arange(log.n))
        for position in range(policy.shape[1]):
            here = self.cell_position == position
            design = self._design(self.cell_user[here], self.cell_item[here])
            self.designs.append((here, design))
            self.starts.append(fit_logistic(design, ones[here], count[here]))  # a near start for every resample

    def _design(self, user: Ints, item: Ints) -> Design:
        log = self.log
        codes = tuple(log.user_codes[user, j] for j in range(log.user_codes.shape[1]))
        return Design(codes, log.user_levels, log.item_features[item], drop_first=True)

    def _counts(self, rows: Ints) -> tuple[Floats, Floats]:
        k = len(self.cell_item)
        cell = self.cell[rows]
        return np.bincount(cell, self.log.click[rows], k).astype(np.float64), np.bincount(cell, minlength=k).astype(
            np.float64
        )

    def resampled(self, run: int | None) -> Logged:
        """One bootstrap resample with its q; the log itself where run is None."""
        log = self.log
        rows = np.arange(log.n) if run is None else np.random.RandomState(run).choice(log.n, log.n, replace=True)
        fold = k_folds(len(rows))
        q, q_policy = np.empty(len(rows)), np.empty(len(rows))
        users, items = len(log.user_codes), len(log.item_features)
        for k in range(FOLDS):
            ones, count = self._counts(rows[fold != k])
            for position, (here, design) in enumerate(self.designs):
                at = np.flatnonzero((fold == k) & (log.position[rows] == position))
                found = fit_logistic(design, ones[here], count[here], start=self.starts[position])
                user = self._design(np.arange(users), np.zeros(users, dtype=np.int64)).logits(found)
                d = log.item_features.shape[1]
                item = (log.item_features - log.item_features[0]) @ found[1 : 1 + d]
                table = special.expit(user[:, None] + item)
                mine = rows[at]
                q[at] = table[log.user[mine], log.item[mine]]
                q_policy[at] = (table @ self.policy[:, position])[log.user[mine]]
        pi = self.policy[log.item[rows], log.position[rows]]
        assert items == len(self.policy)
        return Logged(log.click[rows], log.propensity[rows], pi, q, q_policy, policy="bernoulli ts")


def softmax(scores: Floats) -> Floats:
    """Probabilities proportional to exp(score), row by row."""
    powers: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def draw(probabilities: Floats, seed: int) -> Ints:
    """One action a row, by inversion with the uniform numbers of the published runs."""
    uniform = np.random.RandomState(seed).uniform(size=len(probabilities))[:, None]
    drawn: Ints = (probabilities.cumsum(axis=1) > uniform).argmax(axis=1)
    return drawn


def multinomial(X: Floats, y: Ints, weight: Floats, classes: int, strength: float) -> Floats:
    """Coefficients of a multinomial logistic regression, shape (features + 1, classes); the intercept comes last."""
    from scipy.optimize import minimize

    wide = np.column_stack([X, np.ones(len(X))])
    onehot = np.zeros((len(y), classes))
    onehot[np.arange(len(y)), y] = 1.0
    scale = weight.sum()

    def objective(flat: Floats) -> tuple[float, Floats]:
        W = flat.reshape(-1, classes)
        logits = wide @ W
        top = logits.max(axis=1, keepdims=True)
        powers = np.exp(logits - top)
        total = powers.sum(axis=1, keepdims=True)
        loss = weight @ (np.log(total[:, 0]) + top[:, 0] - (onehot * logits).sum(axis=1))
        gradient = wide.T @ (weight[:, None] * (powers / total - onehot))
        penalised = W.copy()
        penalised[-1] = 0.0
        loss += 0.5 / strength * (penalised**2).sum()
        gradient += penalised / strength
        return float(loss / scale), (gradient / scale).ravel()

    found = minimize(
        objective, np.zeros(wide.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 500}
    )
    fitted: Floats = found.x.reshape(-1, classes)
    return fitted


def synthetic_runs(runs: int, n: int = 10_000, actions: int = 30, beta: float = -3.0) -> Iterator[tuple[Logged, float]]:
    """The synthetic protocol: a log with cross-fitted q, and the policy's true value, run by run."""
    for seed in range(runs):
        random = np.random.RandomState(seed)
        features = np.column_stack([np.ones(actions), np.eye(actions)])

        def chances(context: Floats, seed: int = seed, features: Floats = features) -> Floats:
            coefficients = np.random.RandomState(seed)
            x = np.column_stack([np.ones(len(context)), context])
            of_x = coefficients.uniform(-1, 1, x.shape[1])
            of_a = coefficients.uniform(-1, 1, features.shape[1])
            of_both = coefficients.uniform(-1, 1, (x.shape[1], features.shape[1]))
            logits = (x @ of_x)[:, None] + of_a @ features.T + x @ of_both @ features.T
            # The published runs subtract mean / std where standardising was meant; kept to match the table.
            q: Floats = special.expit((logits - logits.mean()) / logits.std())
            return q

        batches = []
        for _ in range(2):
            context = random.normal(size=(n, 5))
            q = chances(context)
            mu = softmax(beta * q)
            action = draw(mu, seed)
            reward = random.binomial(1, q[np.arange(n), action]).astype(np.float64)
            batches.append((context, q, action, reward, mu[np.arange(n), action]))
        context, _, action, reward, propensity = batches[0]
        useful = reward > 0
        W = multinomial(context[useful], action[useful], (reward / propensity)[useful], actions, 100.0)
        context, q, action, reward, propensity = batches[1]
        pi = softmax(softmax(np.column_stack([context, np.ones(n)]) @ W))
        expected = additive_q(context, action, reward, actions, k_folds(n))
        rows = np.arange(n)
        log = Logged(
            reward,
            propensity,
            pi[rows, action],
            expected[rows, action],
            np.einsum("na,na->n", pi, expected),
            policy="classifier",
        )
        yield log, float((pi * q).sum(axis=1).mean())


def additive_q(context: Floats, action: Ints, reward: Floats, actions: int, fold: Ints) -> Floats:
    """Cross-fitted chance of a reward for every action, from context and one-hot action, shape (n, actions)."""
    n, d = context.shape
    out = np.empty((n, actions))
    design = Design((action,), (actions,), context)
    for k in range(int(fold.max()) + 1):
        train = fold != k
        found = fit_logistic(design.rows(train), reward[train], np.ones(int(train.sum())))
        at = ~train
        out[at] = special.expit((context[at] @ found[1 : 1 + d] + found[0])[:, None] + found[1 + d :])
    return out


def multiclass_runs(runs: int) -> Iterator[tuple[Logged, float]]:
    """The multiclass protocol on digits; needs scikit-learn for the data and the classifiers of the protocol."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    trees = {"n_estimators": 30, "max_depth": 5, "min_samples_leaf": 10, "random_state": FOLD_SEED}
    k = 10
    for seed in range(runs):
        learn, judge, label, truth = train_test_split(X, y, test_size=0.7, random_state=seed)
        logging = LogisticRegression(C=100, max_iter=10_000, random_state=FOLD_SEED).fit(learn, label)
        policy = RandomForestClassifier(**trees).fit(learn, label)
        n, rows = len(judge), np.arange(len(judge))

        def mixed(prediction: Ints, alpha: float, n: int = n, rows: Ints = rows) -> Floats:
            table = np.full((n, k), (1 - alpha) / k)
            table[rows, prediction] += alpha
            return table

        mu, pi = mixed(logging.predict(judge), 0.4), mixed(policy.predict(judge), 0.9)
        action = draw(mu, seed)
        reward = (action == truth).astype(np.float64)
        fold = k_folds(n)
        expected = np.empty((n, k))
        onehot = np.eye(k)
        for f in range(FOLDS):
            model = GradientBoostingClassifier(learning_rate=0.01, **trees)
            model.fit(np.column_stack([judge, onehot[action]])[fold != f], reward[fold != f])
            at = judge[fold == f]
            for a in range(k):
                wide = np.column_stack([at, np.tile(onehot[a], (len(at), 1))])
                expected[fold == f, a] = model.predict_proba(wide)[:, 1]
        log = Logged(
            reward,
            mu[rows, action],
            pi[rows, action],
            expected[rows, action],
            (pi * expected).sum(axis=1),
            policy="forest",
        )
        yield log, float(pi[rows, truth].mean())
