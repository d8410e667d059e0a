"""The linear probe against scikit-learn's LogisticRegression at the same penalty: `python benchmarks/probe.py`.

The features are synthetic, similar to those of a backbone: ten classes that overlap, and a covariance whose eigenvalues
fall as a power of their rank. Both standardize and fit, in turn; times are medians. A fifth more images are held out to
test on. The minimized objective per image (log loss and penalty) is printed too, so that stopping early shows.
"""

import argparse
import statistics
import time

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from headway.metrics.linear_probe import fit_linear


def make_features(
    count: int, embed_dim: int, num_classes: int, power: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """N D float32 with eigenvalues like rank^-power, and N labels; class means lie in the strongest directions."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (count,), generator=g)
    scale = torch.arange(1, embed_dim + 1).float() ** (-power / 2)  # D
    basis = torch.linalg.qr(torch.randn(embed_dim, embed_dim, generator=g))[0]
    means = 1.1 * torch.randn(num_classes, embed_dim, generator=g) * (torch.arange(embed_dim) < 3 * num_classes) / 2
    return ((torch.randn(count, embed_dim, generator=g) + means[labels]) * scale) @ basis + 0.1, labels


def objective(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, inverse_l2: float) -> float:
    """Log loss and penalty per image of weights (K D) and bias (K) for standardized x (N D), in float64."""
    z = x.double() @ weight.double().T + bias.double()  # N K
    penalty = weight.double().square().sum() / (2 * inverse_l2 * len(x))
    return float(torch.nn.functional.cross_entropy(z, y) + penalty)


def main() -> None:
    """Print a line for each penalty."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--embed-dim", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--power", type=float, default=1.0, help="how fast eigenvalues fall with their rank")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.01, 1.0], help="scikit-learn's C")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    total = args.count * 6 // 5
    x, y = make_features(total, args.embed_dim, args.classes, args.power, seed=0)
    train, test = slice(0, args.count), slice(args.count, total)
    print(f"{args.count:,} x {args.embed_dim}, {args.classes} classes, {args.threads} threads")
    for inverse_l2 in args.strengths:
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(args.repeats):
            start = time.perf_counter()
            ours = fit_linear(x[train], y[train], args.classes, inverse_l2)
            times["ours"].append(time.perf_counter() - start)
            start = time.perf_counter()
            with threadpool_limits(args.threads):
                scaler = StandardScaler().fit(x[train].numpy())
                theirs = LogisticRegression(C=inverse_l2, max_iter=1000)
                theirs.fit(scaler.transform(x[train].numpy()), y[train].numpy())
            times["theirs"].append(time.perf_counter() - start)
        standardized = torch.from_numpy(scaler.transform(x[train].numpy()))  # N D
        mean, scale = torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_)  # D each
        weight, bias = ours.weight.double() * scale, ours.bias.double() + ours.weight.double() @ mean
        our_minimum = objective(weight, bias, standardized, y[train], inverse_l2)
        coefficients = [torch.from_numpy(part) for part in (theirs.coef_, theirs.intercept_)]
        their_minimum = objective(coefficients[0], coefficients[1], standardized, y[train], inverse_l2)
        our_accuracy = 100 * float((ours.logits(x[test]).argmax(1) == y[test]).double().mean())
        their_accuracy = 100 * theirs.score(scaler.transform(x[test].numpy()), y[test].numpy())
        our_time, their_time = (statistics.median(times[name]) for name in ("ours", "theirs"))
        print(
            f"C = {inverse_l2:g}: {our_accuracy:.2f} % against {their_accuracy:.2f} %, {our_time:.2f} s against "
            f"{their_time:.2f} s: {their_time / our_time:.1f} times as fast ({int(theirs.n_iter_.max())} iterations "
            f"there); minimum {our_minimum:.6f} against {their_minimum:.6f}"
        )


if __name__ == "__main__":
    main()
