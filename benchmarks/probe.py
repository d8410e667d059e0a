"""The linear probe against scikit-learn's LogisticRegression at the same regularization: `python benchmarks/probe.py`.

Synthetic features as a backbone makes them: ten classes that overlap, a covariance whose eigenvalues fall as a power
of their rank. Both standardize and fit; taken in turn, medians; a fifth more images are held out to test on. So that
nobody is fast by stopping early, what both minimize is printed as well, an image: log loss and penalty.
"""

import argparse
import statistics
import time

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from headway.metrics.linear_probe import fit_linear


def features(count: int, width: int, classes: int, power: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """N D float32 with eigenvalues like rank^-power, and N labels; class means lie in the strongest directions."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=g)
    scale = torch.arange(1, width + 1).float() ** (-power / 2)  # D
    basis = torch.linalg.qr(torch.randn(width, width, generator=g))[0]
    centres = 1.1 * torch.randn(classes, width, generator=g) * (torch.arange(width) < 3 * classes) / 2
    return ((torch.randn(count, width, generator=g) + centres[labels]) * scale) @ basis + 0.1, labels


def objective(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, strength: float) -> float:
    """Log loss and penalty an image of weights (K D) and bias (K) for standardized x (N D), in float64."""
    z = x.double() @ weight.double().T + bias.double()  # N K
    penalty = weight.double().square().sum() / (2 * strength * len(x))
    return float(torch.nn.functional.cross_entropy(z, y) + penalty)


def main() -> None:
    """Print a line for each strength."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--power", type=float, default=1.0, help="how fast eigenvalues fall with their rank")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.01, 1.0], help="scikit-learn's C")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    every = options.count * 6 // 5
    x, y = features(every, options.width, options.classes, options.power, seed=0)
    train, test = slice(0, options.count), slice(options.count, every)
    print(f"{options.count:,} x {options.width}, {options.classes} classes, {options.threads} threads")
    for strength in options.candidates:
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(options.repeats):
            began = time.perf_counter()
            ours = fit_linear(x[train], y[train], options.classes, strength)
            times["ours"].append(time.perf_counter() - began)
            began = time.perf_counter()
            with threadpool_limits(options.threads):
                scaler = StandardScaler().fit(x[train].numpy())
                theirs = LogisticRegression(C=strength, max_iter=1000)
                theirs.fit(scaler.transform(x[train].numpy()), y[train].numpy())
            times["theirs"].append(time.perf_counter() - began)
        standard = torch.from_numpy(scaler.transform(x[train].numpy()))  # N D
        mean, scale = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)  # D each
        weight, bias = ours.weight.double() * scale, ours.bias.double() + ours.weight.double() @ mean
        reached = objective(weight, bias, standard, y[train], strength)
        its_own = [torch.from_numpy(part) for part in (theirs.coef_, theirs.intercept_)]
        there_reached = objective(its_own[0], its_own[1], standard, y[train], strength)
        mine = 100 * float((ours.logits(x[test]).argmax(1) == y[test]).double().mean())
        its = 100 * theirs.score(scaler.transform(x[test].numpy()), y[test].numpy())
        here, there = (statistics.median(times[name]) for name in ("ours", "theirs"))
        print(
            f"C = {strength:g}: {mine:.2f} % against {its:.2f} %, {here:.2f} s against {there:.2f} s: "
            f"{there / here:.1f} times as fast ({int(theirs.n_iter_.max())} iterations there); minimum {reached:.6f} "
            f"against {there_reached:.6f}"
        )


if __name__ == "__main__":
    main()
