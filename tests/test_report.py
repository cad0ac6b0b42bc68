"""Tables, pictures and the page of a run."""

import csv
import html.parser
import re

import numpy as np
import pytest
from PIL import Image

from flaxzoo import report
from flaxzoo.data import ArraySplit
from flaxzoo.picture import thumbnail
from flaxzoo.report import Predictions, Review
from flaxzoo.report.confusion import confusion_matrix
from flaxzoo.report.mistakes import GAP, PIXELS

CONFIG = {"config.model.name": "resnet_tiny", "config.data.source": "digits"}
ROW = {
    "step": 20, "epoch": 1.0, "train_loss": 1.5, "train_accuracy": 0.5, "learning_rate": 0.1,
    "images_per_second": 100.0, "seconds": 75.0,
}  # fmt: skip
SUMMARY = {
    "model": "resnet_tiny", "parameters": 22_000, "devices": ["cpu"], "versions": {"jax": "1.2.3"},
    "test": {"accuracy": 0.625, "count": 8}, "test_of_best": {"accuracy": 0.75, "count": 8},
}  # fmt: skip


def review_of(label, predicted, classes, loss=None, images=None, index=None) -> Review:
    label, predicted = np.array(label, np.int32), np.array(predicted, np.int32)
    n = len(label)
    index = np.arange(n) if index is None else np.array(index)
    if images is None:
        images = np.zeros((int(index.max()) + 1, 8, 8, 1), np.uint8)
    loss = np.array(np.arange(n) if loss is None else loss, np.float32)
    split = ArraySplit(images, np.zeros(len(images), np.int32), "x.npz")
    confidence = np.full(n, 0.75, np.float32)
    return Review("test", split, classes, Predictions(index, label, predicted, confidence, loss))


@pytest.fixture
def review() -> Review:
    """Cats: 2 of 4 found, 2 taken for dogs. Dogs: 2 of 3 found, 1 taken for a cat. No cow."""
    return review_of([0, 0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 0, 1], ("cat", "dog", "cow"))


def test_class_results(review, tmp_path):
    rows = list(csv.DictReader(report.classes_csv(review).splitlines()))
    assert rows == [
        {"class": "cat", "images": "4", "correct": "2", "accuracy": "0.5",
         "precision": str(2 / 3), "most_confused_with": "dog", "confused": "2"},
        {"class": "dog", "images": "3", "correct": "2", "accuracy": str(2 / 3),
         "precision": "0.5", "most_confused_with": "cat", "confused": "1"},
        {"class": "cow", "images": "0", "correct": "0", "accuracy": "",
         "precision": "", "most_confused_with": "", "confused": "0"},
    ]  # fmt: skip


def test_the_most_confused_pairs_come_first(review):
    assert review.confused_pairs() == [(0, 1, 2), (1, 0, 1)]


def test_the_worst_mistakes_are_wrong_and_of_the_highest_loss():
    review = review_of([0, 0, 1, 1], [1, 1, 1, 0], ("a", "b"), loss=[0.5, 2.0, 9.0, 1.0])
    assert review.worst_mistakes(2).tolist() == [1, 3]


def test_confusion_matrix(review):
    np.testing.assert_array_equal(
        confusion_matrix(review, 3), [[2, 2, 0], [1, 2, 0], [0, 0, 0]]
    )  # rows are true


def test_neighbouring_classes_share_a_cell_where_there_are_too_many():
    review = review_of([0, 1, 2, 3], [0, 2, 3, 3], tuple("abcd"))
    np.testing.assert_array_equal(confusion_matrix(review, 2), [[1, 1], [0, 2]])


@pytest.mark.parametrize("count", [2, 30, 1200])
def test_confusion_is_drawn_for_any_number_of_classes(tmp_path, count):
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, count, (2, 500))
    names = tuple(f"class {i} of $many$ 猫" for i in range(count))  # neither math nor in the font
    report.plot_confusion(review_of(label, predicted, names), tmp_path / "confusion.png")
    pixels = np.asarray(Image.open(tmp_path / "confusion.png").convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 60).sum()
    assert max(pixels.shape) <= 2000
    assert blue > 500


def test_the_grid_shows_the_images_of_the_mistakes(tmp_path):
    images = np.zeros((5, 8, 8, 1), np.uint8)
    images[2], images[4] = 100, 200
    review = review_of([0, 0, 0], [0, 1, 1], ("a", "b"), loss=[0, 1, 2], images=images,
                       index=[0, 2, 4])  # fmt: skip
    report.plot_mistakes(review, tmp_path / "mistakes.png")
    pixels = np.asarray(Image.open(tmp_path / "mistakes.png").convert("RGB"))
    y = 3 * GAP + PIXELS // 2
    first, second = pixels[y, GAP + PIXELS // 2], pixels[y, 2 * GAP + PIXELS + PIXELS // 2]
    assert (first.tolist(), second.tolist()) == ([200] * 3, [100] * 3)


def test_a_model_without_mistakes_gets_a_picture(tmp_path):
    report.plot_mistakes(review_of([0, 1], [0, 1], ("a", "b")), tmp_path / "mistakes.png")
    assert np.asarray(Image.open(tmp_path / "mistakes.png").convert("L")).min() < 100  # its title


def test_thumbnails_keep_proportions():
    square = thumbnail(np.zeros((20, 40, 3), np.uint8), pixels=100)
    assert np.flatnonzero((square == 0).all(axis=(1, 2))).tolist() == list(range(25, 75))


@pytest.fixture
def pictures(tmp_path, review):
    folder = tmp_path / "plots"
    folder.mkdir()
    report.plot_curves([ROW, ROW | {"step": 40, "epoch": 2.0, "val_loss": 1.0}], folder)
    report.plot_confusion(review, folder / "confusion.png")
    report.plot_mistakes(review, folder / "mistakes.png")
    return folder


def full_page(pictures, review, **changes) -> str:
    metrics = [ROW, ROW | {"step": 40, "val_loss": 1.0, "val_accuracy": 0.25}]
    options = {"name": "run", "config": CONFIG, "metrics": metrics, "pictures": pictures,
               "summary": SUMMARY, "review": review}  # fmt: skip
    return report.page(**options | changes)


class Tags(html.parser.HTMLParser):
    """Collects tags, and complains about those that are not closed in order."""

    VOID = ("meta", "img")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing(pictures, review):
    text = full_page(pictures, review)
    tags = Tags(text).seen
    names = [tag for tag, _ in tags]
    assert names.count("img") == 5
    assert all(a["src"].startswith("data:image/png;base64,") for t, a in tags if t == "img")
    assert not {"script", "link", "iframe"} & set(names)
    assert not re.search(r"https?://|url\(", text)
    assert len(text) < 2_000_000


def test_the_page_tells_the_results(pictures, review):
    text = full_page(pictures, review)
    for words in ("62.50%", "75.00%", "best validation", "1 min 15 s", "jax", "1.2.3", "x.npz[2]"):
        assert words in text


def test_the_page_of_a_run_that_goes_on_says_so(pictures):
    text = full_page(pictures, None, summary=None)
    assert "the run has not ended" in text
    assert "Confusion" not in text


def test_the_page_escapes_names(pictures):
    evil = "<script>alert(1)</script>&"
    review = review_of([0, 1], [1, 0], (evil, "b"))
    text = full_page(pictures, review, name=evil, config=CONFIG | {"config.model.pretrained": evil})
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") >= 4


def test_pictures_that_others_draw_are_shown(pictures, review):
    (pictures / "loss.png").rename(pictures / "embedding.png")
    assert 'alt="embedding"' in full_page(pictures, review)


def test_planned_rates_are_shown_until_the_run_has_ended(pictures, review):
    (pictures / "loss.png").rename(pictures / "schedule.png")
    assert 'alt="schedule"' in full_page(pictures, None, summary=None)
    assert 'alt="schedule"' not in full_page(pictures, review)
