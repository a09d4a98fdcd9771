import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from core import InputError
from core.checkpoint import load_checkpoint, save_checkpoint
from core.data import DataSet, ImageSet
from core.data.image_set import make_data_set
from core.inference import classify_views
from core.models import MODELS
from core.training.optimizer import Muon, orthogonal
from core.training.recipe import PRESETS, Recipe, preset_recipe, with_changes
from core.training.state import TrainingState, load_state, save_state
from core.training.trainer import DivergedError, Trainer
from tests.conftest import make_config


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [e["loss"] for e in events if e["type"] == "step"]


def same_weights(a: Trainer, b: Trainer) -> bool:
    ours, theirs = a.weights(), b.weights()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_same_seed_same_losses_bit_for_bit(shapes: DataSet) -> None:
    first, second = (list(Trainer(make_config(), shapes).events()) for _ in range(2))
    assert losses(first) == losses(second)
    assert len(losses(first)) == 30
    other = list(Trainer(make_config().model_copy(update={"seed": 1}), shapes).events())
    assert losses(first) != losses(other)


def test_events_come_in_the_order_of_the_contract(shapes: DataSet) -> None:
    events = list(Trainer(make_config(), shapes).events())
    kinds = [e["type"] for e in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "finish"
    assert kinds.count("epoch") == 3
    assert [e["step"] for e in events if e["type"] == "step"] == list(range(1, 31))
    start, epoch = events[0], next(e for e in events if e["type"] == "epoch")
    assert start["steps_total"] == 30
    assert start["data"]["fingerprint"] == shapes.fingerprint
    assert set(epoch["per_class_accuracy"]) == set(shapes.classes)
    assert all("time" in e for e in events)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop_after", [0, 1, 9, 10, 14, 15, 29, 30])
def test_resume_is_bit_identical(shapes: DataSet, stop_after: int, precision: str, tmp_path: Path) -> None:
    config = make_config(ema_epochs=0.5).model_copy(update={"precision": precision})
    whole = Trainer(config, shapes)
    whole_losses = losses(list(whole.events()))

    first = Trainer(config, shapes)
    first.should_stop = lambda: first.step >= stop_after
    before = losses(list(first.events()))
    file = tmp_path / "resume.safetensors"
    save_state(file, first.state())
    second = Trainer(config, shapes, load_state(file))
    events = list(second.events())
    assert events[0]["type"] == "status"
    assert events[0]["from_step"] == stop_after + 1
    assert before + losses(events) == whole_losses
    assert same_weights(second, whole)
    assert second.report == whole.report


def test_state_taken_in_the_middle_of_the_events_loses_none(shapes: DataSet) -> None:
    config = make_config()
    whole = losses(list(Trainer(config, shapes).events()))
    trainer = Trainer(config, shapes)
    seen: list[float] = []
    for event in trainer.events():
        if event["type"] == "step":
            seen.append(event["loss"])
            if event["step"] == 7:
                break
    resumed = Trainer(config, shapes, trainer.state())
    assert seen + losses(list(resumed.events())) == whole


def test_stop_is_asked_for_in_every_evaluation_batch(shapes: DataSet) -> None:
    trainer = Trainer(make_config(epochs=1), shapes)
    trainer.should_stop = lambda: trainer.step == trainer.steps_total
    kinds = [e["type"] for e in trainer.events()]
    assert "epoch" not in kinds
    assert kinds.count("step") == trainer.steps_total


def test_a_resume_on_changed_data_is_refused(shapes: DataSet) -> None:
    state = Trainer(make_config(), shapes).state()
    changed = DataSet(shapes.train, shapes.test, shapes.classes, shapes.name, "0" * 16)
    with pytest.raises(InputError, match="changed"):
        Trainer(make_config(), changed, state)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_on_the_meta_device_reads_nothing_back(name: str, shapes: DataSet) -> None:
    """Any tensor left elsewhere, or any value read back inside a step, raises on `meta`."""
    config = make_config(name, sizes=((0.0, 32),), cutout=8, ema_epochs=1.0)
    trainer = Trainer(config, shapes, device=torch.device("meta"))
    batches = trainer.batches(32)
    for step in range(2):
        loss = trainer.train_step(*batches.batch(step))
        trainer.step += 1
        assert loss.device.type == "meta"
        assert loss.shape == ()


def test_a_test_of_some_images_has_all_classes_alike(shapes: DataSet) -> None:
    trainer = Trainer(make_config(epoch_test_images=50), shapes)
    assert torch.bincount(trainer._epoch_test.labels).tolist() == [5] * 10
    assert trainer._epoch_test.labels[trainer._samples].tolist() == list(range(10))
    events = [e for e in trainer.events() if e["type"] in ("start", "epoch")]
    assert events[0]["samples"] == list(range(10))
    assert all(len(e["samples"]) == 10 for e in events[1:])
    assert all(0 <= guess < 10 and 0 < p <= 1 for e in events[1:] for guess, p in e["samples"])


def test_held_out_images_are_balanced_and_never_trained_on(shapes: DataSet) -> None:
    trainer = Trainer(make_config(), shapes)
    assert torch.bincount(trainer._held_out.labels).tolist() == [6] * 10
    assert len(trainer.train_images) == 540
    seen = {bytes(image.numpy().tobytes()) for image in trainer.train_images.images}
    assert not any(bytes(image.numpy().tobytes()) in seen for image in trainer._held_out.images)


def test_weight_decay_is_on_weights_only(shapes: DataSet) -> None:
    trainer = Trainer(make_config("resnet18"), shapes)
    decayed, plain = trainer.optimizers[0].param_groups
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in plain["params"])
    assert plain["weight_decay"] == 0
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))


def test_muon_has_the_filters_and_sgd_the_rest(shapes: DataSet) -> None:
    trainer = Trainer(make_config("resnet18", optimizer="muon", filter_lr=0.05), shapes)
    sgd, muon = trainer.optimizers
    filters = muon.param_groups[0]["params"]
    assert {p.ndim for p in filters} == {4}
    assert len(filters) == 20
    rest = [p for group in sgd.param_groups for p in group["params"]]
    assert len(filters) + len(rest) == len(list(trainer.model.parameters()))
    trainer.step = trainer.steps_total // 2
    trainer.train_step(*trainer.batches(32).batch(0))
    share = trainer.recipe.lr_at(trainer.steps_total // 2, trainer.steps_total) / trainer.recipe.peak_lr
    assert muon.param_groups[0]["lr"] == pytest.approx(0.05 * share)


def test_muon_moves_every_direction_of_a_filter_bank_alike() -> None:
    torch.manual_seed(0)
    for shape in ((24, 40), (40, 24)):
        steep = torch.randn(shape) @ torch.diag(torch.logspace(0, -2, shape[1]))
        values = torch.linalg.svdvals(orthogonal(steep))
        assert values.min() > 0.5
        assert values.max() < 1.3
    filters = nn.Parameter(torch.randn(24, 5, 3, 3))
    before = filters.detach() * 24**0.5 / filters.detach().norm()
    filters.grad = torch.randn_like(filters)
    Muon([filters], lr=0.1, momentum=0.9).step()
    moved = (filters.detach() - before).norm() / before.norm()
    assert moved == pytest.approx(0.1, rel=0.3)
    assert (filters.detach() - before).flatten() @ filters.grad.flatten() < 0


def test_muon_is_refused_for_a_network_without_batch_norm(shapes: DataSet) -> None:
    with pytest.raises(InputError, match="BatchNorm"):
        Trainer(make_config("simple_cnn", optimizer="muon"), shapes)


def test_resume_is_bit_identical_with_muon_and_winograd(shapes: DataSet) -> None:
    sizes, stop_after = ((0.0, 16),), 3
    config = make_config("resnet18", optimizer="muon", epochs=1, batch_size=64, train_images=320, sizes=sizes)
    whole = Trainer(config, shapes)
    whole_losses = losses(list(whole.events()))
    first = Trainer(config, shapes)
    first.should_stop = lambda: first.step >= stop_after
    before = losses(list(first.events()))
    second = Trainer(config, shapes, first.state())
    assert before + losses(list(second.events())) == whole_losses
    assert same_weights(second, whole)


def test_the_average_differs_from_the_last_weights_and_is_what_is_kept(shapes: DataSet) -> None:
    trainer = Trainer(make_config(ema_epochs=2.0), shapes)
    list(trainer.events())
    last, kept = trainer.model.state_dict(), trainer.weights()
    assert not torch.equal(last["fc3.weight"], kept["fc3.weight"])


def test_learning_rate_rises_and_falls_to_near_zero() -> None:
    recipe = Recipe(peak_lr=0.4, rise=0.25)
    rates = [recipe.lr_at(step, 100) for step in range(100)]
    assert max(rates) == rates[25] == 0.4
    assert rates == sorted(rates[:26]) + sorted(rates[26:], reverse=True)
    assert 0 < rates[-1] < 0.01
    cosine = Recipe(peak_lr=0.4, schedule="cosine")
    assert cosine.lr_at(0, 100) == 0.4
    assert math.isclose(cosine.lr_at(50, 100), 0.2)


def test_image_size_follows_the_schedule() -> None:
    recipe = Recipe(sizes=((0.0, 16), (0.5, 24), (0.8, 32)))
    assert [recipe.size_at(s, 10) for s in range(10)] == [16] * 5 + [24] * 3 + [32] * 2
    assert recipe.image_size == 32


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"peak_lr": 0.0},
        {"peak_lr": float("nan")},
        {"batch_size": 1},
        {"label_smoothing": 1.0},
        {"sizes": ((0.5, 32),)},
        {"sizes": ((0.0, 16), (0.0, 32))},
        {"sizes": ()},
        {"unheard_of": 1},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(wrong)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_suits_every_network(preset: str, model: str) -> None:
    recipe = preset_recipe(preset, model)
    assert recipe.hold_out == 1000
    assert min(size for _, size in recipe.sizes) >= MODELS[model].min_size
    assert with_changes(recipe, epochs=3, peak_lr=None).epochs == 3


def test_muons_learning_rate_goes_with_the_other_one() -> None:
    recipe = preset_recipe("fast", "resnet18")
    assert recipe.optimizer == "muon"
    assert with_changes(recipe, peak_lr=recipe.peak_lr / 2).filter_lr == pytest.approx(recipe.filter_lr / 2)
    assert with_changes(recipe, peak_lr=100.0).filter_lr == 1
    assert with_changes(recipe, peak_lr=0.1, filter_lr=0.3).filter_lr == 0.3
    with pytest.raises(ValidationError, match="peak_lr"):
        with_changes(recipe, peak_lr="high")


def test_data_that_does_not_fit_is_refused_before_the_start(shapes: DataSet) -> None:
    with pytest.raises(InputError, match="larger than"):
        Trainer(make_config(batch_size=600), shapes)
    with pytest.raises(InputError, match="at least 16 px"):
        Trainer(make_config(sizes=((0.0, 8),)), shapes)
    keep = shapes.test.labels != 3
    lacking = DataSet(
        shapes.train,
        ImageSet(shapes.test.images[keep], shapes.test.labels[keep]),
        shapes.classes,
        shapes.name,
        shapes.fingerprint,
    )
    with pytest.raises(InputError, match="no test images"):
        Trainer(make_config(), lacking)


def test_a_loss_that_is_no_number_stops_with_advice(shapes: DataSet) -> None:
    with pytest.raises(DivergedError, match="lower learning rate"):
        list(Trainer(make_config(peak_lr=100.0, momentum=0.99), shapes).events())


def test_a_state_that_is_no_number_is_never_given(shapes: DataSet) -> None:
    """A step may break the weights while its own loss, taken before it, was still good."""
    trainer = Trainer(make_config(), shapes)
    trainer.state()
    with torch.no_grad():
        next(trainer.model.parameters())[0] = math.nan
    with pytest.raises(DivergedError, match="lower learning rate"):
        trainer.state()


def test_a_damaged_state_is_refused(tmp_path: Path, shapes: DataSet) -> None:
    file = tmp_path / "resume.safetensors"
    save_state(file, TrainingState({"a": torch.zeros(3)}, {"step": 1}))
    assert load_state(file).values == {"step": 1}
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(InputError, match="no readable saved state"):
        load_state(file)


def trained(path: Path, data: DataSet, **recipe: object) -> Path:
    """A checkpoint of a few steps, as a run leaves it."""
    trainer = Trainer(make_config(epochs=1, **recipe), data)
    list(trainer.events())
    save_checkpoint(path, trainer.weights(), trainer.checkpoint_info(), trainer.bank)
    return path


def test_a_training_goes_on_from_another_ones_weights(shapes: DataSet, tmp_path: Path) -> None:
    file = trained(tmp_path / "first.safetensors", shapes)
    config = make_config(epochs=1, peak_lr=1e-9).model_copy(update={"start_from": str(file)})
    trainer = Trainer(config, shapes)
    for name, weight in load_checkpoint(file).model.state_dict().items():
        assert torch.equal(trainer.weights()[name], weight)
    list(trainer.events())
    info = trainer.checkpoint_info()
    assert info.origin is not None
    assert (info.origin.file, info.origin.epochs, info.epochs) == ("first.safetensors", 1, 1)
    assert trainer.report.accuracy == load_checkpoint(file).info.metrics["accuracy"]  # barely moved


def test_a_resume_needs_its_origin_no_more(shapes: DataSet, tmp_path: Path) -> None:
    file = trained(tmp_path / "first.safetensors", shapes)
    config = make_config().model_copy(update={"start_from": str(file)})
    whole = Trainer(config, shapes)
    list(whole.events())
    first = Trainer(config, shapes)
    first.should_stop = lambda: first.step >= 7
    list(first.events())
    file.unlink()
    second = Trainer(config, shapes, resume=first.state())
    list(second.events())
    assert same_weights(whole, second)
    assert second.checkpoint_info().origin == whole.checkpoint_info().origin


def test_an_origin_that_knows_the_held_out_images_is_refused(shapes: DataSet, tmp_path: Path) -> None:
    file = trained(tmp_path / "first.safetensors", shapes)
    other = make_config().model_copy(update={"start_from": str(file), "seed": 1})
    with pytest.raises(InputError, match="--seed 0"):
        Trainer(other, shapes)
    deeper = make_config("plain18", sizes=((0.0, 16),)).model_copy(update={"start_from": str(file)})
    with pytest.raises(InputError, match="a plain18 can't begin with it"):
        Trainer(deeper, shapes)


def test_other_classes_take_over_all_but_the_last_layer(shapes: DataSet, tmp_path: Path) -> None:
    file = trained(tmp_path / "first.safetensors", shapes)
    two = ImageSet(shapes.train.images, shapes.train.labels % 2)
    test = ImageSet(shapes.test.images, shapes.test.labels % 2)
    other = make_data_set(two, test, ("even", "odd"), "halves")
    trainer = Trainer(make_config().model_copy(update={"start_from": str(file)}), other)
    ours, theirs = trainer.weights(), load_checkpoint(file).model.state_dict()
    moved = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert moved
    assert all(ours[name].shape[0] == 2 for name in moved)


def test_the_kept_features_are_those_of_the_images_named(shapes: DataSet, tmp_path: Path) -> None:
    """What the most similar training image is, of an image that is itself one of them."""
    trainer = Trainer(make_config(epochs=1, train_images=300), shapes)
    list(trainer.events())
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, trainer.weights(), trainer.checkpoint_info(), trainer.bank, trainer.bank_images)
    checkpoint = load_checkpoint(path)
    kept = checkpoint.bank_images
    assert 200 < len(kept) <= 300
    some = kept[::40]
    found = classify_views(checkpoint, shapes.train.images[some])
    assert [answer.similar[0] for answer in found] == some.tolist()
    assert all(len(set(answer.similar)) == 3 for answer in found)
