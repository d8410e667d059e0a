"""A classifier predicts the same for files, Pillow images and arrays as ``headway predict`` does for the files."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import headway
from headway.downstream.classifier import UNSURE, Classifier
from headway.downstream.targets import MULTILABEL
from headway.errors import HeadwayError
from headway.rng import seeded
from headway.synthetic import DrawnAnimals
from tests.small import SIDE, small_backbone

CLASSES = ("bear", "cat", "owl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six images of different sides and modes, and a classifier that was saved."""
    folder = tmp_path_factory.mktemp("classifier")
    source = DrawnAnimals(6, 32)
    (folder / "images").mkdir()
    for number in range(6):
        image = Image.fromarray(source.image(number).permute(1, 2, 0).numpy())
        image = image.resize((32 + 3 * number, 40)) if number % 2 else image
        (image.convert("L") if number == 4 else image).save(folder / "images" / f"{number}.png")
    make_classifier().save(folder / "model")
    return folder


def make_classifier(**fields):
    with seeded(0):
        head = torch.nn.Linear(16, len(CLASSES))
        torch.nn.init.normal_(head.weight, std=3.0)
        return Classifier(small_backbone(), head, CLASSES, SIDE, "linear", **fields)


@pytest.fixture(scope="module")
def classifier(folder):
    return headway.load_classifier(str(folder / "model"))


@pytest.fixture(scope="module")
def table(folder):
    headway.predict(str(folder / "model"), data=str(folder / "images"), out=str(folder / "labels.csv"))
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def as_paths(files):
    return files


def as_text(files):
    return [str(file) for file in files]


def as_folder(files):
    return files[0].parent


def as_pillow(files):
    return [Image.open(file) for file in files]


def as_arrays(files):
    return [np.asarray(Image.open(file)) for file in files]


def as_tensors(files):
    return [torch.tensor(np.atleast_3d(array)).permute(2, 0, 1) for array in as_arrays(files)]


@pytest.mark.parametrize("form", [as_paths, as_text, as_folder, as_pillow, as_arrays, as_tensors])
def test_every_form_of_the_images_has_the_answers_of_the_command(form, folder, classifier, table):
    files = sorted((folder / "images").iterdir())
    assert classifier.predict(form(files)) == [row["label"] for row in table]
    expected = torch.tensor([[float(row[name]) for name in CLASSES] for row in table])
    found = classifier.predict_proba(form(files))
    assert torch.allclose(found, expected, atol=1e-6) and found.dtype == torch.float32
    assert len(set(classifier.predict(form(files)))) > 1, "one class for all images proves little"


def test_an_array_of_all_images(folder, classifier):
    array = np.stack([np.asarray(Image.open(folder / "images" / f"{number}.png")) for number in (0, 2)])
    whole = classifier.predict_proba(array.transpose(0, 3, 1, 2))
    assert torch.equal(whole, classifier.predict_proba(list(array)))
    floats = torch.tensor(array).permute(0, 3, 1, 2) / 255
    assert torch.allclose(classifier.predict_proba(floats), whole, atol=0.02)  # resized without rounding to 8 bits


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([], "there are no images to predict"),
        (["nowhere.png"], r"cannot read nowhere\.png: no such file"),
        (7, "data must be a path, an array"),
        (torch.zeros(2, 5, 8, 8), r"must be N x 3 x H x W, got \(2, 5, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"must be N x 3 x H x W, got \(3, 8, 8\)"),
        (torch.full((1, 3, 8, 8), 255.0), r"must lie in \[0, 1\], got 255 to 255"),
        (torch.full((1, 3, 8, 8), float("nan")), r"must lie in \[0, 1\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), "move the channels to the front"),
    ],
)
def test_other_images_are_refused(images, says, classifier):
    with pytest.raises(HeadwayError, match=says):
        classifier.predict(images)


def test_the_rule_from_probabilities_to_labels():
    single, several = make_classifier(), make_classifier(target=MULTILABEL)
    assert single.labels_of([0.2, 0.7, 0.1]) == (["cat"], 0.7)
    assert single.labels_of([0.2, 0.7, 0.1], min_confidence=0.8) == ([UNSURE], 0.7)
    assert several.labels_of([0.9, 0.4, 0.5]) == (["bear", "owl"], 0.5)
    assert several.labels_of([0.1, 0.2, 0.3]) == ([], 0.7)


def test_labels_of_a_multilabel_classifier_are_joined(folder):
    classifier = make_classifier(target=MULTILABEL)
    files = sorted((folder / "images").iterdir())
    expected = [
        ";".join(name for name, p in zip(CLASSES, row, strict=True) if p >= 0.5)
        for row in classifier.predict_proba(files).tolist()
    ]
    assert classifier.predict(files) == expected
    assert classifier.predict(files, min_confidence=1.1) == [UNSURE] * len(files)
