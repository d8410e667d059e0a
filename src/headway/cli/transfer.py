"""Prints the result of ``headway transfer``."""

from headway.api.transfer import TransferResult
from headway.cli.console import print_line
from headway.train.run_dir.seen_images import transductive_note


def print_result(result: TransferResult) -> None:
    """Print the result in a few lines."""
    multilabel = result.f1 is not None
    print_line(
        f"{result.head}: accuracy {result.accuracy:.1f} % (95 %: {result.low:.1f} to {result.high:.1f}) on "
        f"{result.test_images} test images, trained on {result.labels} labels"
        f"{' (correct: exactly the labels of the image)' if multilabel else ''}; "
        f"the classifier is in {result.model}"
    )
    if multilabel:
        means = f"mean average precision {result.mean_average_precision:.1f} %, F1 {result.f1:.1f} %; "
    elif result.balanced_accuracy is not None:
        means = f"balanced accuracy: {result.balanced_accuracy:.1f} %; "
    else:
        means = "".join(
            f"{name.replace('_', ' ')} {value:g}; " for name, value in (result.target_metrics or {}).items()
        )
    print_line(f"{means}expected calibration error {result.calibration_error:.1f} points")
    if remark := transductive_note(result.transductive, result.test_images):
        print_line(remark)
    print_line(f"next: headway predict {result.model} --data IMAGES --out labels.csv")
