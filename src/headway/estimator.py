"""``Encoder``: pretraining on unlabeled images as a transformer of scikit-learn."""

import logging
import shutil
import tempfile
import threading
import warnings
from dataclasses import KW_ONLY, dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from headway.api.pretrain import pretrain
from headway.backbones.weights import backbone_from_bytes, backbone_to_bytes, weights_sha256
from headway.config import Recipe
from headway.data.sources.array_like import images_of
from headway.downstream.head_swap import load_run
from headway.errors import HeadwayError
from headway.pretext import AUTO
from headway.train.config import Stem
from headway.train.loop.signals import Interrupted
from headway.utils.notes import notes_to
from headway.utils.serialize import type_mismatch

_ONE_FIT = threading.RLock()
"""Fits in several threads wait for one another: they share torch's generators and its number of threads."""

MAX_SKIPPED_SHOWN = 3
"""Unreadable images that a warning names."""


@dataclass(eq=False, repr=False)
class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images from a backbone that ``fit`` pretrains on the same images, without their labels.

    Images are what ``headway.pretrain`` takes (a folder, tars, a table); a list or a pandas column of paths; a list of
    Pillow images, arrays (H W C) or tensors (C H W), of any sizes; or one array N H W C, N C H W or N H W. Integers
    have the range of their files, and floats lie in [0, 1].

    ``fit`` prints nothing and starts no processes. Without ``out`` its run is in a temporary folder, which is removed
    with the estimator, or when the process ends. A pickled encoder contains the weights of a temporary run, and the
    path of any other. The parameters have the names, defaults and meanings of ``headway.pretrain``, besides ``run``.

    Attributes:
        backbone_: The pretrained network, a torch module.
        run_: The run folder (or the file, or timm:NAME); None in an encoder that was unpickled from a temporary run.
        n_features_out_: D, the length of a feature vector.
    """

    task: str = AUTO
    """The pretext task; auto chooses it, with backbone and sizes, by rules."""
    _: KW_ONLY
    run: str | Path | None = None
    """Weights to load instead of training any: a run folder, a file of weights, or timm:NAME. All parameters but this
    one are then ignored; ``out`` must be None."""
    backbone: str = ""
    """Name of the backbone."""
    stem: Stem | Literal[""] = ""
    """Patch embedding of a ViT: linear, conv, or residual."""
    patch: int = 0
    """Patch size in pixels; 0: by the size of the view."""
    size: int = 0
    """Side of the square view in pixels; 0: the median short side of the images, at most 224."""
    budget: str | float | None = None
    """Seconds of a fit, or a time such as 10m; excludes epochs and steps. Without all three, auto takes an hour, and
    another task the epochs of its recipe."""
    epochs: float | None = None
    """Passes over the images."""
    steps: int | None = None
    """Optimizer steps."""
    channels: int = 0
    """Channels of every image; 0: as most have."""
    value_range: tuple[float, float] | None = None
    """The two values that become 0 and 1; None: measured where images have more than 8 bits."""
    seed: int = 0
    """Seed of weights, order and augmentation: the same seed and images give the same features."""
    precision: Literal["auto", "float32", "bf16", "float64"] = "auto"
    """Floating-point precision; auto: the fastest on this machine, which is measured once."""
    threads: int = 0
    """Torch's threads; 0: measured."""
    init: str = ""
    """Initial weights: a file of weights, a run, or timm:NAME."""
    recipe: Recipe | None = None
    """The task with all its settings, such as batch size and learning rate; None: the task's own."""
    out: str | Path | None = None
    """The run folder to write; it must not exist. None: a temporary one."""

    def fit(self, X: Any, y: object = None) -> "Encoder":
        """Pretrain a backbone on images, or load that of ``run``.

        Args:
            X: N images, as the class describes them. With ``run`` they are not read.
            y: Ignored.

        Raises:
            HeadwayError: The images or the parameters are invalid.
            Interrupted: After SIGTERM or Ctrl-C; a temporary run is removed.
        """
        with _ONE_FIT:
            self._reset()
            options = self._checked_options()
            if self.run is not None:
                if self.out is not None:
                    raise HeadwayError(
                        "options-conflict",
                        f"run={self.run!r} is loaded and not trained; leave out=None, not {self.out!r}",
                    )
                return self._load(self.run)
            images = images_of(X)
            if self.out is not None:
                if Path(self.out).exists():
                    hint = "load it by run=, or fit without out, as in a search, which fits several times"
                    raise HeadwayError("output-exists", f"out='{self.out}' exists and is not overwritten; {hint}")
                self._pretrain(images, Path(self.out), options)
                return self._load(self.out)
            folder = Path(tempfile.mkdtemp(prefix="headway-encoder-"))
            # This also runs at the end of processes that multiprocessing forks, and only in the process that made it.
            self._cleanup = Finalize(self, shutil.rmtree, (folder, True), exitpriority=0)
            try:
                self._pretrain(images, folder / "run", options)
                return self._load(folder / "run")
            except BaseException as error:
                self._reset()
                if isinstance(error, Interrupted):
                    raise Interrupted("the temporary run is removed; fit with out= keeps it", error.signal) from None
                raise

    def transform(self, X: Any) -> np.ndarray:
        """The features of images, as ``headway embed`` writes them.

        Args:
            X: N images, as the class describes them.

        Returns:
            N D, float32 (or what ``set_output`` asks for).

        Raises:
            HeadwayError: The images are of another kind, or one of them cannot be read.
            sklearn.exceptions.NotFittedError: Before ``fit``.
        """
        check_is_fitted(self)
        return self.backbone_.embed(images_of(X)).numpy()  # N D

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.three_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        backbone = state.pop("backbone_", None)
        is_temporary = state.pop("_cleanup", None) is not None
        if backbone is None:
            return state
        if is_temporary or self.run_ is None:
            return {**state, "run_": None, "_weights": backbone_to_bytes(backbone)}
        return {**state, "_weights_sha256": weights_sha256(backbone)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights, sha256 = state.pop("_weights", None), state.pop("_weights_sha256", None)
        super().__setstate__(state)
        if weights is not None:
            with _ONE_FIT:
                self.backbone_ = backbone_from_bytes(weights).float()
        elif sha256 is not None:
            try:
                with _ONE_FIT:
                    self.backbone_, _ = load_run(self.run_)
            except HeadwayError as error:
                hint = "move the run back, or load it where it is now by headway.Encoder(run=...).fit(None)"
                raise HeadwayError(
                    "run-not-found", f"this encoder was pickled with the path of its run: {error}; {hint}"
                ) from error
            if weights_sha256(self.backbone_) != sha256:
                hint = "fit headway.Encoder(run=...), and then again whatever was trained on its features"
                raise HeadwayError(
                    "weights-mismatch", f"the weights in '{self.run_}' are not those of the pickled encoder; {hint}"
                )

    def _reset(self) -> None:
        """Forget an earlier fit, and remove its temporary run."""
        self.__dict__.pop("_cleanup", lambda: None)()
        for name in ("backbone_", "run_", "n_features_out_", "_n_features_out"):
            self.__dict__.pop(name, None)

    def _load(self, run: str | Path) -> "Encoder":
        """Take the backbone of a run, a file or timm:NAME."""
        self.backbone_, _ = load_run(run)
        self.run_ = str(run) if str(run).startswith("timm:") else str(Path(run).absolute())
        self.n_features_out_ = self._n_features_out = self.backbone_.embed_dim  # the latter for scikit-learn's mixin
        return self

    def _pretrain(self, images: Any, out: Path, options: dict[str, Any]) -> None:
        settings = {name: value for name, value in options.items() if name not in ("run", "out")}
        with notes_to(_SkippedImages()):
            pretrain(data=images, out=out, **settings)

    def _checked_options(self) -> dict[str, Any]:
        """The parameters of the pretraining, with Python's numbers in place of NumPy's, which searches set.

        Raises:
            HeadwayError: One is not of its type.
        """
        options = self.get_params(deep=False)
        options |= {name: value.item() for name, value in options.items() if isinstance(value, np.generic)}
        hints, objects = get_type_hints(type(self)), ("run", "out", "recipe")
        problem = type_mismatch(options, {name: hints[name] for name in options if name not in objects})
        for name in objects:
            if not isinstance(options[name], hints[name]):
                problem = f"{name} is {options[name]!r:.60}, not {hints[name]}"
        if problem:
            raise HeadwayError("config-invalid", f"cannot fit an encoder: {problem}")
        return options


class _SkippedImages(logging.Handler):
    """Turns a run's notes on images that cannot be read into one warning of Python, before the training starts."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(lambda record: record.thread == threading.get_ident())
        self.skipped: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("skipped "):
            self.skipped.append(text.removeprefix("skipped "))
        elif self.skipped:
            named = "; ".join(self.skipped[:MAX_SKIPPED_SHOWN])
            text = f"{len(self.skipped)} of the images cannot be read ({named}): the backbone is not trained on them"
            self.skipped.clear()
            warnings.warn(text, stacklevel=2)
