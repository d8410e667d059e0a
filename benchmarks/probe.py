"""The linear probe against scikit-learn's LogisticRegression at the same regularisation: `python benchmarks/probe.py`.

Synthetic features as a backbone makes them: ten classes that overlap, a covariance whose eigenvalues fall as a power
of their rank. Both standardise and fit; taken in turn, medians; a fifth more pictures are held out to test on.
"""

import argparse
import statistics
import time

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from headway.measure.linear import fit_linear


def features(count: int, width: int, classes: int, power: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """N D float32 with eigenvalues like rank^-power, and N labels; class means lie in the strongest directions."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=g)
    scale = torch.arange(1, width + 1).float() ** (-power / 2)  # D
    basis = torch.linalg.qr(torch.randn(width, width, generator=g))[0]
    centres = 1.1 * torch.randn(classes, width, generator=g) * (torch.arange(width) < 3 * classes) / 2
    return ((torch.randn(count, width, generator=g) + centres[labels]) * scale) @ basis + 0.1, labels


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
    for strength in options.strengths:
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
        mine = 100 * float((ours.logits(x[test]).argmax(1) == y[test]).double().mean())
        its = 100 * theirs.score(scaler.transform(x[test].numpy()), y[test].numpy())
        here, there = (statistics.median(times[name]) for name in ("ours", "theirs"))
        print(
            f"C = {strength:g}: {mine:.2f} % against {its:.2f} %, {here:.2f} s against {there:.2f} s: "
            f"{there / here:.1f} times as fast ({int(theirs.n_iter_.max())} iterations there)"
        )


if __name__ == "__main__":
    main()
