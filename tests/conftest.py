"""Shared by all tests: small data, a quick config, and where real images and the browser are."""

import os
from pathlib import Path

import pytest
import torch

from core.data import DataSet, synthetic
from core.training.recipe import Recipe, TrainConfig

CIFAR10_IMAGES = os.environ.get("CIFAR10_IMAGES", "")

needs_cifar10 = pytest.mark.skipif(
    not CIFAR10_IMAGES, reason="CIFAR10_IMAGES does not name a zip of the CIFAR-10 images"
)


@pytest.fixture(scope="session")
def shapes() -> DataSet:
    """600 synthetic images to train on, 100 to test on."""
    return synthetic.draw(train_images=600, test_images=100)


@pytest.fixture
def config() -> TrainConfig:
    """Three short epochs of the smallest network, across two image sizes."""
    return make_config()


def make_config(model: str = "simple_cnn", **recipe: object) -> TrainConfig:
    fields = {"epochs": 3, "batch_size": 50, "peak_lr": 0.02, "sizes": ((0.0, 24), (0.5, 32))} | recipe
    return TrainConfig(model=model, data="synthetic", recipe=Recipe.model_validate(fields), device="cpu")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A drawn star, as a PNG of 240 x 240 pixels."""
    from demo.examples.draw import star

    path = tmp_path / "star.png"
    star().resize((240, 240)).save(path)
    return path


@pytest.fixture(autouse=True)
def _restore_threads() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
