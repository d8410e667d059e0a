"""``headway.Encoder``: scikit-learn's own checks, equal features to ``headway embed``, and no folder left behind."""

import copy
import gc
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks, get_tags

import headway
from headway.errors import HeadwayError
from headway.synthetic import DrawnAnimals, write_folder
from headway.train.loop.signals import Interrupted
from tests.errors import raises
from tests.small import make_images

pytestmark = pytest.mark.usefixtures("unmeasured")
SMALL = {"task": "rotation", "backbone": "vit_pico", "steps": 2}


@pytest.fixture(scope="module")
def arrays():
    """24 3 16 16 -> 24 16 16 3, uint8."""
    return make_images(24, 16).permute(0, 2, 3, 1).contiguous().numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of different sides and modes."""
    folder, source = tmp_path_factory.mktemp("files"), DrawnAnimals(10, 32)
    for number in range(10):
        image = Image.fromarray(source.image(number).permute(1, 2, 0).numpy())
        image = image.resize((16 + 3 * number, 20)) if number % 2 else image
        (image.convert("L") if number == 4 else image).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def encoder(arrays, unmeasured):
    return headway.Encoder(**SMALL).fit(arrays)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary folders, in which no encoder may leave one."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.glob("headway-*"))


CHECKS = [
    "check_no_attributes_set_in_init", "check_parameters_default_constructible", "check_get_params_invariance",
    "check_set_params", "check_estimator_cloneable", "check_estimator_repr", "check_estimators_unfitted",
    "check_transformers_unfitted", "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order",
    "check_get_feature_names_out_error", "check_valid_tag_types", "check_estimator_tags_renamed",
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name):
    """Those that need no fit: the others fit 2-D arrays, which are no images, and have counterparts below."""
    getattr(estimator_checks, name)("Encoder", headway.Encoder(**SMALL))


def test_parameters_have_the_names_and_defaults_of_pretrain():
    theirs, own = (inspect.signature(function).parameters for function in (headway.pretrain, headway.Encoder))
    assert own.keys() - theirs.keys() == {"run"}
    for name in own.keys() - {"run", "task", "out"}:  # which pretrain requires
        assert own[name].default == theirs[name].default, name


def test_the_tags_say_that_tables_of_numbers_are_not_taken():
    tags = get_tags(headway.Encoder())
    assert not tags.input_tags.two_d_array and tags.input_tags.one_d_array and tags.input_tags.string
    assert tags.estimator_type is None and tags.transformer_tags.preserves_dtype == []


def test_the_package_is_imported_without_torch_and_scikit_learn():
    code = "import sys, headway; print('Encoder' in dir(headway), {'torch', 'sklearn'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True set()\n"


def test_features_are_those_of_embed(files, tmp_path, temporary):
    run = tmp_path / "run"
    encoder = headway.Encoder(**SMALL, out=run)
    features = encoder.fit_transform(files)
    headway.embed(str(run), data=str(files[0].parent), out=str(tmp_path / "features.npz"))
    expected = np.load(tmp_path / "features.npz")["features"]
    assert features.dtype == np.float32 and np.array_equal(features, expected)
    assert encoder.n_features_out_ == features.shape[1] and encoder.run_ == str(run)
    loaded = headway.Encoder(run=run).fit(None)
    assert np.array_equal(loaded.transform(str(files[0].parent)), expected)
    assert np.array_equal(headway.Encoder(run=str(run / "model.safetensors")).fit_transform(files), expected)


def test_it_trains_as_pretrain_does(files, tmp_path):
    options = {"backbone": "vit_pico", "steps": 2, "seed": 3}
    headway.pretrain("rotation", data=str(files[0].parent), out=str(tmp_path / "run"), **options)
    expected = headway.Encoder(run=tmp_path / "run").fit(None).transform(files)
    found = headway.Encoder("rotation", **options).fit_transform(files[0].parent)
    assert np.array_equal(found, expected)


def as_text(files):
    return [str(file) for file in files]


def as_array_of_text(files):
    return np.array(as_text(files))


def as_series(files):
    return pd.Series(files, index=range(5, 5 + len(files)))


def as_frame(files):
    return pd.DataFrame({"file": as_text(files)})


def as_pillow(files):
    return [Image.open(file) for file in files]


def as_series_of_images(files):
    return pd.Series(as_pillow(files))


def as_arrays(files):
    return tuple(np.asarray(Image.open(file)) for file in files)


def as_tensors(files):
    return [torch.tensor(np.atleast_3d(array)).permute(2, 0, 1) for array in as_arrays(files)]


@pytest.mark.parametrize(
    "form",
    [as_text, as_array_of_text, as_series, as_frame, as_pillow, as_series_of_images, as_arrays, as_tensors],
)
def test_every_form_of_the_images_has_equal_features(form, files, encoder):
    assert np.array_equal(encoder.transform(form(files)), encoder.transform(files))


def test_every_layout_of_an_array_has_equal_features(arrays, encoder):
    expected = encoder.transform(arrays)
    assert len(np.unique(expected, axis=0)) == len(arrays), "equal features of all images prove little"
    read_only = np.asfortranarray(arrays)
    read_only.flags.writeable = False
    for form in (arrays.transpose(0, 3, 1, 2), list(arrays), torch.tensor(arrays), read_only, arrays.astype(np.int64)):
        assert np.array_equal(encoder.transform(form), expected)
    for dtype in (np.float32, np.float64, ">f4"):
        assert np.array_equal(encoder.transform((arrays / 255).astype(dtype)), expected)
    gray = arrays[..., 0]
    assert np.array_equal(encoder.transform(gray), encoder.transform(gray[..., None].repeat(3, 3)))


def test_the_features_of_an_image_depend_on_no_other(arrays, encoder):
    expected, order = encoder.transform(arrays), np.random.default_rng(0).permutation(len(arrays))
    assert np.array_equal(encoder.transform(arrays[order]), expected[order])
    assert np.array_equal(np.concatenate([encoder.transform(arrays[:5]), encoder.transform(arrays[5:])]), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_images_of_more_than_8_bits_and_other_channels(dtype, arrays):
    images = np.concatenate([arrays, arrays[..., :2]], axis=3)  # 24 16 16 5
    images = (images / 255).astype(dtype) if dtype is np.float32 else images.astype(dtype) * 100
    features = headway.Encoder(**SMALL).fit_transform(images)
    assert features.shape == (24, 128) and np.isfinite(features).all()
    assert np.array_equal(features, headway.Encoder(**SMALL).fit_transform(images.transpose(0, 3, 1, 2)))


def test_initial_weights_bring_their_pixel_format(arrays, tmp_path):
    gray = headway.Encoder(**SMALL, out=tmp_path / "gray").fit(arrays[..., 0].astype(np.uint16) * 16)
    more = headway.Encoder("rotation", steps=1, init=str(tmp_path / "gray")).fit(arrays)
    assert more.backbone_.input_spec == gray.backbone_.input_spec and more.backbone_.input_spec.channels == 1
    with raises("options-conflict"):
        clone(more).set_params(channels=3).fit(arrays)


def test_the_seed_determines_the_features_and_nothing_else_does(arrays, temporary):
    before = arrays.copy()
    encoder = headway.Encoder(**SMALL, seed=1)
    features = encoder.fit(arrays, y=np.arange(24)).transform(arrays)
    params = encoder.get_params()
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert np.array_equal(encoder.fit(arrays).transform(arrays), features), "a second fit forgets the first"
    assert not np.array_equal(clone(encoder).set_params(seed=2).fit_transform(arrays), features)
    assert encoder.get_params() == params and np.array_equal(arrays, before)
    assert np.array_equal(np.random.get_state()[1], states[0]) and torch.equal(torch.get_rng_state(), states[1])


def test_fits_in_several_threads_are_equal(arrays):
    """They share torch's generators, which initialize weights."""
    make = joblib.delayed(lambda: headway.Encoder(**SMALL).fit_transform(arrays))
    first, *others = joblib.Parallel(n_jobs=3, backend="threading")(make() for _ in range(4))
    assert all(np.array_equal(first, other) for other in others)


def test_a_fit_prints_nothing(arrays, capfd, encoder):
    clone(encoder).fit(arrays).transform(arrays)
    assert capfd.readouterr() == ("", "")


def test_names_of_features_and_output_as_a_table(files, encoder):
    named = copy.copy(encoder).set_output(transform="pandas")
    table = named.transform(as_series(files))
    assert list(table.columns) == [f"encoder{number}" for number in range(128)] == list(named.get_feature_names_out())
    assert list(table.index) == list(range(5, 15)) and np.array_equal(table.to_numpy(), encoder.transform(files))


def test_a_column_of_a_table_beside_others(files, encoder):
    table = as_frame(files).assign(weight=range(10))
    parts = [("images", headway.Encoder(**SMALL), "file"), ("rest", "passthrough", ["weight"])]
    both = ColumnTransformer(parts).fit_transform(table)
    assert both.shape == (10, 129) and np.array_equal(both[:, 128], range(10))


def test_a_search_over_tasks(arrays, temporary):
    y = np.arange(24) % 2
    model = Pipeline([("encoder", headway.Encoder(**SMALL)), ("classifier", LogisticRegression())])
    grid = {"encoder__task": ["rotation", "simsiam"], "encoder__steps": np.array([1, 2]), "classifier__C": [1.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(list(arrays), y)
    assert search.predict(arrays).shape == (24,) and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(list(temporary.glob("headway-*"))) == 1, "the run of the best encoder alone is kept"


@pytest.mark.slow
def test_fitted_encoders_return_from_other_processes(arrays, temporary):
    model = make_pipeline(headway.Encoder(**SMALL), LogisticRegression())
    results = cross_validate(
        model, arrays, np.arange(24) % 2, cv=2, n_jobs=2, return_estimator=True, error_score="raise"
    )
    joblib.externals.loky.get_reusable_executor().shutdown()
    for fitted in results["estimator"]:
        assert fitted.predict(arrays).shape == (24,) and fitted[0].run_ is None


def test_a_temporary_run_is_pickled_with_its_weights(arrays, temporary):
    encoder = headway.Encoder(**SMALL).fit(arrays)
    features, run = encoder.transform(arrays), Path(encoder.run_)
    assert run.is_dir()
    data = pickle.dumps(encoder)
    for name in (b"torch", b"ViT"):
        assert name not in data.replace(b'"vit', b""), "a pickle holds weights as bytes and nothing of torch"
    copied = copy.deepcopy(encoder)
    del encoder
    gc.collect()
    assert not run.exists()
    loaded = pickle.loads(data)
    again = pickle.loads(pickle.dumps(loaded))
    for other in (loaded, again, copied):
        assert other.run_ is None and np.array_equal(other.transform(arrays), features)
        assert other.n_features_out_ == 128 and other.get_params() == loaded.get_params()


def test_another_run_is_pickled_by_its_path(arrays, tmp_path):
    encoder = headway.Encoder(**SMALL, out=tmp_path / "run").fit(arrays)
    data = pickle.dumps(encoder)
    assert len(data) < 3000 and np.array_equal(pickle.loads(data).transform(arrays), encoder.transform(arrays))
    (tmp_path / "run").rename(tmp_path / "moved")
    with raises("run-not-found"):
        pickle.loads(data)
    headway.Encoder(**{**SMALL, "seed": 1}, out=tmp_path / "run").fit(arrays)
    with raises("weights-mismatch"):
        pickle.loads(data)


def test_an_unfitted_encoder_is_pickled_and_refuses_images(arrays):
    encoder = pickle.loads(pickle.dumps(headway.Encoder(**SMALL)))
    assert encoder.get_params() == headway.Encoder(**SMALL).get_params()
    with pytest.raises(NotFittedError):
        encoder.transform(arrays)


def test_nothing_is_left_of_a_fit_that_fails_or_is_interrupted(arrays, temporary, monkeypatch):
    encoder = headway.Encoder(**SMALL).fit(arrays)
    for wrong in ({"task": "rotatoin"}, {"steps": 0}, {"backbone": "vit_huge"}, {"budget": "soon"}):
        with pytest.raises(HeadwayError):
            clone(encoder).set_params(**wrong).fit(arrays)
    assert [str(folder / "run") for folder in temporary.glob("headway-*")] == [encoder.run_]

    def interrupt(*args, **kwargs):
        raise Interrupted("saved", 15)

    monkeypatch.setattr("headway.train.pretrain.fit", interrupt)
    with pytest.raises(Interrupted, match="temporary run is removed"):
        encoder.fit(arrays)
    assert not list(temporary.glob("headway-*"))
    with pytest.raises(NotFittedError):
        encoder.transform(arrays)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_the_folder_is_removed_when_its_process_ends(tmp_path):
    """Processes of multiprocessing remove their own folders, and no fork that of its parent."""
    code = """
import os, sys, tempfile, multiprocessing as mp, numpy as np
from headway.estimator import Encoder
Encoder._pretrain = lambda self, images, out, options: out.mkdir()
Encoder._load = lambda self, run: setattr(self, 'run_', str(run)) or self
def make():
    global encoder
    encoder = Encoder().fit(np.zeros((2, 8, 8, 3), np.uint8))
    assert os.path.isdir(encoder.run_)
process = mp.get_context('fork').Process(target=make)
process.start()
process.join()
assert process.exitcode == 0 and not os.listdir(tempfile.gettempdir())
make()
if not (fork := os.fork()):
    del encoder
    sys.exit()
os.waitpid(fork, 0)
assert os.path.isdir(encoder.run_)
raise SystemExit(3)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seed": None}, "seed is None, not int"),
        ({"steps": "2"}, "steps is '2', not int"),
        ({"steps": 2.5}, r"steps is 2\.5, not int"),
        ({"task": None}, "task is None, not str"),
        ({"stem": "soft"}, "stem is 'soft', not"),
        ({"run": 5}, "run is 5, not str"),
        ({"recipe": {"batch_size": 8}}, "recipe is {'batch_size': 8}, not"),
        ({"budget": "5s"}, "exclude one another"),
        ({"task": "auto"}, "auto sets --backbone itself"),
    ],
)
def test_other_parameters_are_refused(wrong, says, arrays, temporary):
    with pytest.raises(HeadwayError, match=says):
        headway.Encoder(**{**SMALL, **wrong}).fit(arrays)


def test_images_that_cannot_be_read_are_reported_before_the_training(files, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    images = [*files, tmp_path / "text.png", tmp_path / "missing.png"]
    with pytest.warns(UserWarning, match=r"^2 of the images cannot be read \(.*text\.png: .*; .*missing\.png: no such"):
        encoder = headway.Encoder(**SMALL).fit(images)
    with raises("unreadable-image", "text.png"):
        encoder.transform(images)


def test_an_existing_folder_is_not_overwritten(arrays, tmp_path):
    with raises("output-exists"):
        headway.Encoder(**SMALL, out=tmp_path).fit(arrays)
    with raises("options-conflict"):
        headway.Encoder(run=tmp_path, out=tmp_path / "other").fit(arrays)
    assert not list(tmp_path.iterdir())


IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([], "holds no images"),
        (pd.Series([], dtype=str), "holds no images"),
        (np.zeros((0, 8, 8, 3)), "must be N H W C"),
        (np.zeros((5, 192)), r"got 5 x 192 of float64; reshape flattened images"),
        (csr_array(np.eye(5)), "sparse matrix"),
        (np.array([["a.png", "b.png"]]), "must be N H W C"),
        (np.zeros((2, 8, 8, 3), np.longdouble), "up to 64 bits"),
        (pd.DataFrame(np.zeros((5, 192))), r"reshape flattened images"),
        (IMAGE, "that is one image: put it into a list"),
        (np.zeros((2, 3, 8, 8, 3)), "must be N H W C"),
        (np.zeros((2, 3, 8, 3), np.uint8), "channel axis cannot be told"),
        (np.arange(5), "must be N H W C"),
        (np.full((2, 8, 8, 3), 255.0), r"floats in X must lie in \[0, 1\], got 255 to 255"),
        ([IMAGE, IMAGE * 1.0 + 9], r"floats in X\[1\] must lie in"),
        (np.full((2, 8, 8, 3), np.nan), "X holds NaN"),
        ([IMAGE, np.full((8, 8), np.inf)], r"X\[1\] holds NaN or infinite"),
        ([IMAGE, IMAGE[None]], r"X\[1\] must be H W or H W C"),
        (["a.png", IMAGE], r"X\[1\] is array"),
        (pd.Series(["a.png", None]), r"X\[1\] is"),
        ([[1, 2], [3, 4]], r"X\[0\] is \[1, 2\], which is neither a path nor an image"),
        (pd.DataFrame({"file": ["a.png"], "label": ["cat"]}), "columns file, label; pass the one column"),
        (["nowhere.png"], "nowhere.png"),
        ("nowhere", "nothing at"),
        (Image.fromarray(IMAGE), "X is one image: put it into a list"),
        (torch.zeros(2, 3, 8, 8).bfloat16(), r"pass X\.float"),
        (7, "data must be a path"),
        (None, "data must be a path"),
    ],
)
def test_other_images_are_refused(images, says, encoder, temporary):
    with pytest.raises(HeadwayError, match=says):
        encoder.transform(images)
    with pytest.raises(HeadwayError, match=says):
        headway.Encoder(**SMALL).fit(images)


def test_the_lines_in_the_documentation_run(tmp_path, monkeypatch, capsys, temporary):
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    block = text.partition("## In scikit-learn")[2].partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    write_folder("photos", 12, 32)
    write_folder("labeled", 30, 32)
    exec(compile(block, "networks.md", "exec"), {})
    predicted, best = capsys.readouterr().out.splitlines()
    assert set(predicted.strip("[]").replace("'", "").split()) <= set(DrawnAnimals.classes)
    assert "encoder__task" in best
