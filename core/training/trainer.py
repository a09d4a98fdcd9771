"""The training loop, top to bottom in the order in which it runs.

    trainer = Trainer(config, data)
    for event in trainer.events():   # start, step, epoch, ..., finish: plain dicts
        ...
    trainer.report, trainer.checkpoint_info(), trainer.weights()

One process trains alone; started by torchrun, each process takes its slice of every batch, and only
the first one's events count.

Between any two steps (whenever `events()` has yielded or ended) `state()` can be taken;
`Trainer(config, data, resume=state)` goes on from there with the same losses, bit for bit, on the
same kind of device.
"""

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from core import InputError
from core.checkpoint import MODEL_FILE, Checkpoint, CheckpointInfo, NoveltyScale, Origin, load_checkpoint
from core.data.batches import EpochBatches, channel_statistics, resize_set
from core.data.image_set import DataSet, ImageSet, stratified_split
from core.device import autocast, describe_device, pick_device, pick_precision, place, prepare
from core.evaluation import (
    Interrupted,
    Report,
    bank_size,
    fit_novelty,
    fit_temperature,
    logits_and_features,
    make_bank,
    make_report,
    predict,
)
from core.evaluation.report import confusion_matrix, per_class_accuracy
from core.models import create_model, model_spec
from core.models.densenet import use_less_memory
from core.training.cost import CompileDecision, Cost, decide_compile, predict_cost
from core.training.distributed import ALONE, Ranks
from core.training.optimizer import make_optimizers
from core.training.recipe import TrainConfig
from core.training.state import TrainingState

LOG_SECONDS = 0.5  # between two looks at the losses, which stay on the device until then
LOGGED_STEPS = 10_000  # a longer run logs every second, third, ... step, to keep its log small
COMPILE_FROM = 2  # steps run before compiling, so that there is something to see
SAMPLE_IMAGES = 10  # test images whose answers are in every epoch's event
AVERAGE_EVERY = 5  # steps between two updates of the running average of the weights

Event = dict[str, Any]


class DivergedError(RuntimeError):
    """The loss, or a weight, is no longer a number."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"The loss is no longer a number at step {step}. "
            "Try a lower learning rate (--lr), a tenth of this one to start with."
        )


class Trainer:
    """One training of one network.

    Args:
        config: what to train, complete.
        data: the images; moved to the device and kept there as uint8.
        resume: a state to go on from.
        should_stop: asked at every step and every evaluation batch; `events()` ends soon after a
            yes, between two steps.
        on_evaluate: told after every evaluation batch how many images are done, of how many.

    Raises:
        InputError: this recipe can't be run on this data.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        resume: TrainingState | None = None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_evaluate: Callable[[int, int], None] | None = None,
        device: torch.device | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config, self.recipe, self.data = config, config.recipe, data
        self.should_stop = should_stop
        self.on_evaluate = on_evaluate
        self.ranks = ranks
        self.device = device or ranks.device(pick_device(config.device))
        prepare(self.device, resume.values["threads"] if resume else None)
        self.dtype = pick_precision(config.precision, self.device)
        if resume:
            self.dtype = getattr(torch, resume.values["dtype"])

        self._train_at, held_out_at = _choose_images(data, config)
        train, self._held_out = data.train.take(self._train_at), data.train.take(held_out_at)
        _refuse_misfits(config, train, data, self.device, ranks.world)
        self.mean, self.std = channel_statistics(train.images)
        self._mean = torch.tensor(self.mean, device=self.device)
        self._std = torch.tensor(self.std, device=self.device)
        self.train_images = ImageSet(train.images.to(self.device), train.labels.to(self.device))
        some = _some_of_each_class(data.test.labels, self.recipe.epoch_test_images, config.seed)
        self._epoch_test = data.test.take(some)
        self._samples = _one_of_each_class(self._epoch_test.labels)
        self.steps_per_epoch = len(train) // self.recipe.batch_size
        self.steps_total = self.steps_per_epoch * self.recipe.epochs
        self._log_stride = math.ceil(self.steps_total / LOGGED_STEPS)

        torch.manual_seed(config.seed)
        self.model = place(create_model(config.model, len(data.classes)), self.device)
        self.origin: Origin | None = None
        if config.start_from and not resume:
            self._begin_with(load_checkpoint(Path(config.start_from)))
        if config.memory_efficient:
            use_less_memory(self.model)
        if config.sync_batch_norm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = self.recipe.bn_momentum
        self.optimizers = make_optimizers(self.model, self.recipe, self.device)
        self._average = copy.deepcopy(self.model) if self.recipe.ema_epochs else None
        self._forward = ranks.wrap(self.model)
        self.compiling = resume.values["compile"] if resume else None
        self._compiled_sizes: set[int] = set()

        self.step = 0  # steps taken
        self.epoch = 0  # epochs trained and tested
        self.seconds = 0.0  # of work, over all sittings
        self.report: Report | None = None
        self.test_logits: Tensor | None = None
        self.temperature = 1.0
        self.bank: Tensor | None = None
        self.bank_images: Tensor | None = None
        self.novelty: NoveltyScale | None = None
        self.none_threshold: float | None = None
        self._pending: list[tuple[int, Tensor]] = []  # (step, loss) not yet read from the device
        self._loss_sum = torch.zeros((), device=self.device)
        self._correct = torch.zeros((), device=self.device, dtype=torch.int64)
        self._resumed = resume is not None
        if resume:
            self._restore(resume)
        self._clock = time.monotonic()

    def _begin_with(self, start: Checkpoint) -> None:
        """Take over the weights of another training; the last layer only where the classes are the same."""
        path = Path(self.config.start_from)
        info, name = start.info, path.parent.name if path.name == MODEL_FILE else path.name
        if info.model != self.config.model:
            raise InputError(f"'{name}' is a {info.model}; a {self.config.model} can't begin with it.")
        held_out = (self.config.seed, len(self._held_out))
        if info.data_fingerprint == self.data.fingerprint and held_out != (info.seed, info.hold_out):
            raise InputError(
                f"'{name}' has learned from images that would now be held out. "
                f"Use its --seed {info.seed} and --set hold_out={info.hold_out}."
            )
        weights = start.model.state_dict()
        if info.classes != list(self.data.classes):
            head = [name for name, m in self.model.named_modules() if isinstance(m, nn.Linear)][-1]
            weights = {k: v for k, v in weights.items() if not k.startswith(f"{head}.")}
        self.model.load_state_dict(weights, strict=False)
        before = info.origin or Origin(file="", data="", epochs=0, seconds=0)
        self.origin = Origin(
            file=name,
            data=info.data,
            epochs=before.epochs + info.epochs,
            seconds=before.seconds + info.seconds,
        )

    def events(self) -> Iterator[Event]:
        """Train; yield what happens. Ends early, between two steps, when told to stop."""
        self._clock = time.monotonic()
        if self._resumed:
            first = self._pending[0][0] if self._pending else self.step + 1
            yield _event("status", status="running", reason="resumed", from_step=first)
        else:
            decision = self._decide_compile()
            yield self._start_event(decision)
        try:
            while self.epoch < self.recipe.epochs:
                yield from self._train_epoch()
                yield self._test_epoch()
            yield self._finish()
        except Interrupted:
            yield from self._read_losses()

    def _decide_compile(self) -> CompileDecision:
        """Time a few images of each size on this machine; predict the cost and decide from it."""
        self.cost = self.predict_cost()
        steps = Counter(self.recipe.size_at(step, self.steps_total) for step in range(self.steps_total))
        decision = decide_compile(
            self.config.compile, self.config.model, self.cost, steps, self.device, self.dtype
        )
        self.compiling = decision.use
        return decision

    def predict_cost(self) -> Cost:
        """What this training would cost on this machine, from a short timing."""
        return predict_cost(
            self.config.model,
            len(self.data.classes),
            self.recipe,
            train_images=len(self.train_images),
            test_images=len(self.data.test),
            device=self.device,
            dtype=self.dtype,
        )

    def _start_event(self, decision: CompileDecision) -> Event:
        data, cost = self.data, self.cost
        return _event(
            "start",
            config=self.config.model_dump(mode="json"),
            device=describe_device(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            processes=self.ranks.world,
            compile={"use": decision.use, "reason": decision.reason},
            predicted_seconds={"epoch": round(cost.epoch_seconds, 2), "total": round(cost.total_seconds, 1)},
            steps_total=self.steps_total,
            steps_per_epoch=self.steps_per_epoch,
            classes=list(data.classes),
            samples=self._epoch_test.labels[self._samples].tolist(),
            data={
                "name": data.name,
                "fingerprint": data.fingerprint,
                "train": len(self.train_images),
                "held_out": len(self._held_out),
                "test": len(data.test),
                "skipped": data.skipped,
            },
        )

    def _train_epoch(self) -> Iterator[Event]:
        end = (self.epoch + 1) * self.steps_per_epoch
        batches: EpochBatches | None = None
        self._rate_from = (time.monotonic(), self.step)
        while self.step < end:
            read = time.monotonic() - self._rate_from[0] >= LOG_SECONDS or self.step == 1
            stop, read = self.ranks.agree(self.should_stop(), read)
            if stop:
                raise Interrupted
            if read:
                yield from self._read_losses()
            size = self.recipe.size_at(self.step, self.steps_total)
            if batches is None or batches.data.images.shape[-1] != size:
                batches = self.batches(size)
            if self.compiling and self.step >= COMPILE_FROM and size not in self._compiled_sizes:
                yield from self._read_losses()
                yield from self.compile_for(batches)
            loss = self.train_step(*batches.batch(self.step % self.steps_per_epoch))
            self.step += 1
            if self.step % self._log_stride == 0 or self.step == self.steps_total:
                self._pending.append((self.step, loss))
        yield from self._read_losses()

    def compile_for(self, batches: EpochBatches) -> Iterator[Event]:
        """Compile for batches of this size, telling so before and after; takes no step."""
        size = batches.data.images.shape[-1]
        self._compiled_sizes.add(size)
        yield _event("status", status="running", reason=f"compiling for {size} px")
        start = time.monotonic()
        plain = self._forward
        if len(self._compiled_sizes) == 1:
            self._forward = torch.compile(self._forward, dynamic=False)
        images, labels = batches.batch(self.step % self.steps_per_epoch)
        before = {name: t.clone() for name, t in self.model.state_dict().items()}
        try:
            self._loss(images, labels)[0].backward()
            outcome = "compiled in {:.0f} s"
        except TorchDynamoException as error:
            self._forward, self.compiling = plain, False
            outcome = f"can't compile here ({type(error).__name__}); going on without, after {{:.0f}} s"
        self.model.zero_grad(set_to_none=True)
        self.model.load_state_dict(before)  # the trial batch moved the BatchNorm statistics
        seconds = time.monotonic() - start
        self._rate_from = (time.monotonic(), self.step)
        yield _event("status", status="running", reason=outcome.format(seconds), seconds=seconds)

    def batches(self, size: int) -> EpochBatches:
        """This epoch's batches, of images of `size` pixels."""
        resized = ImageSet(resize_set(self.train_images.images, size), self.train_images.labels)
        return EpochBatches(
            resized,
            self._mean,
            self._std,
            self.recipe.batch_size,
            self.recipe.augmentation,
            self.config.seed,
            self.epoch,
            self.ranks.rank,
            self.ranks.world,
        )

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step of the optimizer; reads nothing back from the device.

        Args:
            images: (B, 3, H, W) float32, normalised.
            labels: (B,) int64.

        Returns:
            The loss, a scalar that stays on the device.
        """
        share = self.recipe.lr_at(self.step, self.steps_total) / self.recipe.peak_lr
        loss, logits = self._loss(images, labels)
        loss.backward()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        loss = loss.detach()
        self._loss_sum += loss
        self._correct += (logits.detach().argmax(dim=1) == labels).sum()
        if self._average is not None and self.step % AVERAGE_EVERY == 0:
            self._update_average()
        return loss

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, a scalar, and logits (B, num_classes), both float32."""
        self.model.train()
        with autocast(self.device, self.dtype):
            logits = self._forward(images)
        logits = logits.float()
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing), logits

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average of weights and BatchNorm statistics, quicker at the start."""
        updates = self.step // AVERAGE_EVERY
        window = self.recipe.ema_epochs * self.steps_per_epoch / AVERAGE_EVERY
        weight = max(1 - math.exp(-1 / window), 9 / (10 + updates) if updates else 1.0)
        ours, theirs = (
            [t for t in module.state_dict().values() if t.is_floating_point()]
            for module in (self._average, self.model)
        )
        torch._foreach_lerp_(ours, theirs, weight)

    def _read_losses(self) -> Iterator[Event]:
        """Read the losses since the last time from the device, at once: the one place that waits."""
        if self._pending:
            values = self.ranks.mean(torch.stack([loss for _, loss in self._pending])).tolist()
            since, first = self._rate_from
            rate = (self.step - first) * self.recipe.batch_size / (time.monotonic() - since)
            for value in values:
                if not math.isfinite(value):
                    raise DivergedError(self._pending[0][0])
                step = self._pending.pop(0)[0]
                yield _event(
                    "step",
                    step=step,
                    epoch=(step - 1) // self.steps_per_epoch + 1,
                    loss=value,
                    lr=self.recipe.lr_at(step - 1, self.steps_total),
                    images_per_second=rate,
                )
        self._rate_from = (time.monotonic(), self.step)

    def _test_epoch(self) -> Event:
        """Close an epoch: training figures, and a test at the size that is trained at."""
        size = self.recipe.size_at(self.step - 1, self.steps_total)
        logits = self._predict(self._epoch_test.images, size, self.dtype)
        if not logits.isfinite().all():  # the last step may have broken weights whose loss was still good
            raise DivergedError(self.step)
        labels, classes = self._epoch_test.labels, self.data.classes
        predicted = logits.argmax(dim=1)
        matrix = confusion_matrix(predicted, labels, len(classes))
        seen = self.steps_per_epoch * self.recipe.batch_size
        event = _event(
            "epoch",
            epoch=self.epoch + 1,
            step=self.step,
            image_size=size,
            train_loss=self.ranks.mean(self._loss_sum).item() / self.steps_per_epoch,
            train_accuracy=self.ranks.sum(self._correct).item() / seen,
            test_loss=F.cross_entropy(logits, labels).item(),
            test_accuracy=(predicted == labels).double().mean().item(),
            test_images=len(labels),
            per_class_accuracy=per_class_accuracy(matrix, classes),
            samples=self._sample_answers(logits),
            seconds=self._work_seconds(),
        )
        self.epoch += 1
        self._loss_sum.zero_()
        self._correct.zero_()
        return event

    def _finish(self) -> Event:
        """Fit the temperature on the held-out images, then count everything on the test images."""
        size, test = self.recipe.image_size, self.data.test
        held_out = self._predict(self._held_out.images, size)
        self.temperature = fit_temperature(held_out, self._held_out.labels)
        self._fit_novelty(size)
        self.test_logits = self._predict(test.images, size)
        mirrored = None
        if self.recipe.tta:
            mirrored = (self.test_logits + self._predict(test.images, size, mirror=True)) / 2
        self.report = make_report(
            self.test_logits,
            test.labels,
            self.data.classes,
            model=self.config.model,
            data=self.data.name,
            data_fingerprint=self.data.fingerprint,
            temperature=self.temperature,
            logits_tta=mirrored,
            skipped=self.data.skipped,
        )
        return _event(
            "finish",
            **self.report.model_dump(
                include={"count", "accuracy", "accuracy_tta", "loss", "ece", "temperature"}
            ),
            seconds=self._work_seconds(),
        )

    def _fit_novelty(self, size: int) -> None:
        """Keep features of some training images, and how like these the held-out images are."""

        def look(images: Tensor) -> tuple[Tensor, Tensor]:
            ask = {"size": size, "device": self.device, "answer": logits_and_features}
            said = predict(self.final_model, images, self.mean, self.std, **ask)
            return said[:, : len(self.data.classes)], said[:, len(self.data.classes) :]

        if not len(self._held_out):
            return
        logits, features = look(self._held_out.images)
        labels = self.data.train.labels[self._train_at]
        some = self._train_at[_some_of_each_class(labels, bank_size(features.shape[1]), self.config.seed)]
        bank = make_bank(look(self.data.train.images[some])[1])
        fitted = fit_novelty(logits, features, bank)
        if fitted is not None:
            self.bank, self.bank_images = bank, some
            self.novelty, self.none_threshold = fitted

    def _predict(
        self, images: Tensor, size: int, dtype: torch.dtype = torch.float32, mirror: bool = False
    ) -> Tensor:
        alone = self.ranks.world == 1
        logits = predict(
            self.final_model,
            self.ranks.share(images),
            self.mean,
            self.std,
            size=size,
            device=self.device,
            dtype=dtype,
            mirror=mirror,
            should_stop=self.should_stop if alone else None,  # several stop together, between two steps
            on_batch=self.on_evaluate,
        )
        return self.ranks.gather(logits)

    def _sample_answers(self, logits: Tensor) -> list[tuple[int, float]]:
        """For each of the sample images the class it is taken for, and the probability of that."""
        best = F.softmax(logits[self._samples], dim=1).max(dim=1)
        return [
            (label, round(p, 3)) for label, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @property
    def sample_images(self) -> Tensor:
        """A few fixed test images (K, 3, H, W) uint8; the `epoch` events say what they are taken for."""
        return self._epoch_test.images[self._samples]

    def first_filters(self) -> Tensor:
        """Weights of the first convolution (N, 3, H, W), on the CPU."""
        return next(p for p in self.final_model.parameters() if p.ndim == 4).detach().cpu()

    @property
    def final_model(self) -> nn.Module:
        """The network that is tested and kept: the running average, where there is one."""
        return self.model if self._average is None else self._average

    def weights(self) -> dict[str, Tensor]:
        """The weights that are kept, by name."""
        return self.final_model.state_dict()

    def checkpoint_info(self) -> CheckpointInfo:
        """What the checkpoint's header is to say, as of now."""
        metrics = self.report.model_dump() if self.report else {}
        return CheckpointInfo(
            model=self.config.model,
            classes=list(self.data.classes),
            image_size=self.recipe.size_at(max(self.step - 1, 0), self.steps_total),
            mean=tuple(self.mean),
            std=tuple(self.std),
            recipe=self.recipe.model_dump(mode="json"),
            preset=self.config.preset,
            seed=self.config.seed,
            epochs=round(self.step / self.steps_per_epoch, 3),
            data=self.data.name,
            data_fingerprint=self.data.fingerprint,
            hold_out=len(self._held_out),
            metrics=metrics,
            temperature=self.temperature,
            none_threshold=self.none_threshold,
            novelty=self.novelty,
            origin=self.origin,
            hardware=describe_device(self.device),
            seconds=round(self._work_seconds(), 1),
        )

    def state(self) -> TrainingState:
        """All that is needed to go on from here, copied to the CPU.

        Raises:
            DivergedError: something in it is no longer a number; it would be of no use.
        """
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self._average is not None:
            tensors |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, kept in optimizer.state.items():
                if kept.get("momentum_buffer") is not None:
                    tensors[f"momentum.{names[parameter]}"] = kept["momentum_buffer"]
        tensors["epoch.loss_sum"] = self._loss_sum
        tensors["epoch.correct"] = self._correct
        for step, loss in self._pending:
            tensors[f"pending.{step}"] = loss
        copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        if not all(tensor.isfinite().all() for tensor in copies.values()):
            raise DivergedError(self.step)
        return TrainingState(
            copies,
            {
                "step": self.step,
                "epoch": self.epoch,
                "seconds": self._work_seconds(),
                "data_fingerprint": self.data.fingerprint,
                "threads": torch.get_num_threads(),
                "dtype": str(self.dtype).removeprefix("torch."),
                "memory_format": "channels_last",
                "compile": bool(self.compiling),
                "processes": self.ranks.world,
                "origin": self.origin.model_dump() if self.origin else None,
            },
        )

    def _restore(self, state: TrainingState) -> None:
        if state.values["data_fingerprint"] != self.data.fingerprint:
            raise InputError("The data has changed since this run was saved; it can't go on exactly.")
        if state.values["processes"] != self.ranks.world:
            raise InputError(
                f"This run was trained by {state.values['processes']} process(es); go on with as many."
            )
        self.step, self.epoch = state.values["step"], state.values["epoch"]
        self.seconds = state.values["seconds"]
        origin = state.values.get("origin")
        self.origin = Origin.model_validate(origin) if origin else None
        self.model.load_state_dict(state.group("model"))
        if self._average is not None:
            self._average.load_state_dict(state.group("average"))
        momentum, names = state.group("momentum"), {p: name for name, p in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                if names[parameter] in momentum:
                    buffer = torch.empty_like(parameter).copy_(momentum[names[parameter]])
                    optimizer.state[parameter]["momentum_buffer"] = buffer
        self._loss_sum.copy_(state.tensors["epoch.loss_sum"])
        self._correct.copy_(state.tensors["epoch.correct"])
        pending = sorted((int(step), loss) for step, loss in state.group("pending").items())
        self._pending = [(step, loss.to(self.device)) for step, loss in pending]

    def _work_seconds(self) -> float:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        return self.seconds


def _event(kind: str, **fields: Any) -> Event:
    return {"type": kind, "time": time.time(), **fields}


def _choose_images(data: DataSet, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Indices of images to train on and of images held out, both class-balanced, by the seed."""
    recipe, everything = config.recipe, data.train
    hold_out = min(recipe.hold_out, len(everything) // 10)
    rest = torch.arange(len(everything))
    kept = rest[:0]
    if hold_out:
        rest, kept = stratified_split(everything.labels, hold_out / len(everything), config.seed)
    if recipe.train_images is not None and recipe.train_images < len(rest):
        share = recipe.train_images / len(rest)
        _, chosen = stratified_split(everything.labels[rest], share, config.seed)
        rest = rest[chosen]
    return rest, kept


def _some_of_each_class(labels: Tensor, count: int | None, seed: int) -> Tensor:
    """Indices of about `count` images, class-balanced; all of them if there are no more."""
    if count is None or count >= len(labels):
        return torch.arange(len(labels))
    return stratified_split(labels, count / len(labels), seed)[1]


def _one_of_each_class(labels: Tensor) -> Tensor:
    """Index of the first image of each class, of the first few classes."""
    classes = labels.unique()[:SAMPLE_IMAGES]
    return (labels[None] == classes[:, None]).int().argmax(dim=1)


def _refuse_misfits(
    config: TrainConfig, train: ImageSet, data: DataSet, device: torch.device, world: int
) -> None:
    recipe, name = config.recipe, data.name
    if config.sync_batch_norm and device.type != "cuda":
        raise InputError("--sync-batch-norm works on CUDA devices only.")
    if recipe.batch_size % world:
        raise InputError(f"A batch of {recipe.batch_size} can't be shared by {world} processes.")
    counts = torch.bincount(data.test.labels, minlength=len(data.classes))
    if (counts == 0).any():
        missing = data.classes[int((counts == 0).nonzero()[0])]
        raise InputError(f"Class '{missing}' in '{name}' has no test images.")
    if len(train) < recipe.batch_size:
        raise InputError(
            f"A batch of {recipe.batch_size} is larger than the {len(train)} images to train on. "
            "Use a smaller --batch-size."
        )
    spec = model_spec(config.model)
    smallest = min(size for _, size in recipe.sizes)
    if smallest < spec.min_size:
        raise InputError(f"{spec.title} needs images of at least {spec.min_size} px, not {smallest}.")
