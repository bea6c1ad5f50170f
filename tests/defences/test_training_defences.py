"""Defences that train: each against what it must reduce to, on networks of a few weights."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import dosimeter as dm
from dosimeter import registry
from dosimeter.analysis.margins import margins
from dosimeter.attacks.base import Problem
from dosimeter.defences.ascent import pgd
from dosimeter.defences.base import defend
from dosimeter.defences.guard import Guard, held_back
from dosimeter.defences.known.adversarial_training import AdversarialTraining
from dosimeter.defences.known.distillation import Distillation
from dosimeter.defences.known.free_adversarial_training import Replayed
from dosimeter.defences.known.ima import IncreasingMargins
from dosimeter.defences.known.noise_training import NoiseTraining, OnNoisy
from dosimeter.defences.known.trades import Trades, divergence
from dosimeter.defences.learning import Batch, Method, Plan, teach
from dosimeter.defences.pools import Pool
from dosimeter.defences.precision import choose_precision
from dosimeter.defences.students import Student, begin_anew, maps_of, opened
from dosimeter.defences.taught import Taught
from dosimeter.defences.training import Training, readable
from dosimeter.errors import DosimeterError
from dosimeter.models.base import Classifier
from dosimeter.models.decisions import Findings
from dosimeter.models.preprocessing import PREPROCESSINGS
from dosimeter.models.rings import Inside, Ring, with_alarm
from dosimeter.sections.defences.figures import margin_captions, margin_curves
from dosimeter.testing import check_defence

CLASSES = ("clear", "opacity")
SIZE = 16
TAUGHT = [name for name in registry.names("defences") if isinstance(registry.get("defences", name).build(""), Taught)]


def network(*, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """Two convolutions and a pooling between them, and a head."""
    base = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 4, 3, stride=2),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            second=nn.Conv2d(4, 4, 3, padding=1),
            after=nn.BatchNorm2d(4),
            last=nn.ReLU(),
        )
    )
    dense = [nn.Linear(4, 4), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4, 2)]
    head = nn.Sequential(nn.AvgPool2d(3), nn.Flatten(), *dense)
    for part in (base, head):
        begin_anew(part, seed=3)
    return base, head


def classifier(base: nn.Module, head: nn.Module, *, size: int = SIZE, classes: object = CLASSES) -> Classifier:
    return Classifier(base, head, preprocessing=PREPROCESSINGS["unit"], size_px=size, classes=classes)  # type: ignore[arg-type]


def small(*, dropout: float = 0.0) -> Classifier:
    return classifier(*network(dropout=dropout))


def grey(n: int = 12, size: int = SIZE) -> Tensor:
    """Images (n, 1, size, size), every second one with a bright half."""
    images = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    images[1::2, :, : size // 2] += 0.3
    return images


def training(bare: Classifier, images: Tensor | None = None) -> Training:
    given = grey(size=bare.grid.height_px) if images is None else images
    labels = [place % 2 for place in range(len(given))]
    return readable(bare, dm.cohort_of(given.numpy(), labels, classes=CLASSES, name="made"))


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def weights(learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in learned.items() if name.startswith(("base.", "head."))}


# --- what is trained --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("head", {"head.2", "head.5"}),
        ("last", {"base.second", "base.after", "head.2", "head.5"}),
        ("all", {"base.first", "base.norm", "base.second", "base.after", "head.2", "head.5"}),
    ],
)
def test_a_part_is_the_head_the_last_block_too_or_everything(part: str, wanted: set[str]) -> None:
    student = opened(small(), part, name="x")  # type: ignore[arg-type]
    assert {name.rpartition(".")[0] for name in student.learning} == wanted


def test_the_last_block_of_vgg16_is_its_three_last_convolutions() -> None:
    vgg16 = registry.get("backbones", "vgg16")
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    student = opened(classifier(vgg16.build(), head, size=64), "last", name="x")
    opened_layers = {name.rpartition(".")[0] for name in student.learning if name.startswith("base.")}
    assert opened_layers == {"base.features.24", "base.features.26", "base.features.28"}


def test_the_last_layer_of_a_network_in_one_piece_is_its_head() -> None:
    base, head = network()
    student = opened(classifier(nn.Sequential(base, head), nn.Identity()), "head", name="x")
    assert set(student.learning) == {"base.1.5.weight", "base.1.5.bias"}


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("part", ["head", "last", "all"])
def test_the_given_classifier_stays_as_it_is_and_statistics_are_frozen(name: str, part: str) -> None:
    bare = small(dropout=0.5)
    before = {key: tensor.clone() for key, tensor in bare.state_dict().items()}
    chosen = registry.get("defences", name).build(f"part={part},epochs=2,rate=0.01")
    learned = chosen.learn(bare, training(bare), seed=0)
    defended = chosen.put(bare, learned, seed=0)
    assert same(before, bare.state_dict())
    assert not any(parameter.requires_grad for each in (bare, defended) for parameter in each.parameters())
    assert not any(module.training for module in defended.modules())
    after = defended.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == set(weights(learned))
    assert not any("running" in key for key in changed)


@pytest.mark.parametrize("name", TAUGHT)
def test_the_same_seed_gives_the_same_tensors_and_another_seed_others(name: str) -> None:
    bare = small(dropout=0.5)
    chosen = registry.get("defences", name).build("epochs=2,rate=0.01")
    torch.manual_seed(1)
    first = chosen.learn(bare, training(bare), seed=5)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(first, chosen.learn(bare, training(bare), seed=5))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same(weights(first), weights(chosen.learn(bare, training(bare), seed=6)))


@pytest.mark.parametrize("name", TAUGHT)
def test_findings_are_trained_too(name: str) -> None:
    base, head = network()
    names = ("effusion", "nodule")
    bare = classifier(base, head, classes=Findings(names))
    known = np.array([[1, 0], [0, 1], [np.nan, 1], [1, np.nan]] * 2, dtype=np.float32)
    images = Training(bare, dm.cohort_of(grey(8).numpy(), [0, 1] * 4, classes=CLASSES))
    images.labels = torch.from_numpy(known)
    chosen = registry.get("defences", name).build("epochs=1,rate=0.01")
    defended = chosen.put(bare, chosen.learn(bare, images, seed=0), seed=0)
    assert torch.isfinite(defended(grey(2).expand(-1, 3, -1, -1))).all()


# --- what each method must reduce to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["head", "last"])
def test_trades_without_divergence_is_plain_training(part: str) -> None:
    bare = small()
    student = opened(bare, part, name="x")  # type: ignore[arg-type]
    plan = Plan(epochs=3, rate=0.01)
    teach(student, training(bare), Method(), plan, seed=4)
    found = Trades(part=part, epochs=3, rate=0.01, beta=0.0).learn(bare, training(bare), seed=4)  # type: ignore[arg-type]
    assert same(found, student.learned())
    other = Trades(part=part, epochs=3, rate=0.01, beta=1.0).learn(bare, training(bare), seed=4)  # type: ignore[arg-type]
    assert not same(found, other)


def test_the_divergence_is_kullback_and_leiblers() -> None:
    logits, others = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 0.0]])
    p, q = logits.softmax(1), others.softmax(1)
    torch.testing.assert_close(divergence(logits, others, of_findings=False), (p * (p / q).log()).sum())
    p, q = logits.sigmoid(), others.sigmoid()
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum()
    torch.testing.assert_close(divergence(logits, others, of_findings=True), wanted)
    assert float(divergence(logits, logits, of_findings=True)) == 0


def linear(w: Tensor, bias: float) -> Classifier:
    """A classifier whose margin for the second class is the sum of w * image over the first plane, plus the bias."""
    layer = nn.Linear(w.numel() * 3, 2)
    layer.weight.data = torch.zeros(2, 3, *w.shape).index_fill(0, torch.tensor([0]), 0).flatten(1)
    layer.weight.data[1, : w.numel()] = w.flatten()
    layer.bias.data = torch.tensor([0.0, bias])
    return classifier(nn.Flatten(), layer, size=w.shape[0])


def test_margins_grow_by_delta_up_to_the_true_margin_and_settle() -> None:
    w = torch.where(torch.arange(16).reshape(4, 4) % 2 == 0, 1.0, -1.0)  # sums to 0: the image's mean does not count
    distances = torch.tensor([-0.033, 0.057, -0.0052, 0.3, 0.02])  # of images from the boundary, and on which side
    images = 0.5 + distances.view(-1, 1, 1, 1) * w
    bare = linear(w, 0.0)
    cohort = dm.cohort_of(images.numpy(), [0, 1, 0, 1, 0], classes=CLASSES)  # the last is answered wrongly
    delta, most, epochs = 0.01, 0.1, 16
    chosen = IncreasingMargins(epsilon=most, delta=delta, epochs=epochs, rate=1e-9, part="head")
    history = chosen.learn(bare, readable(bare, cohort), seed=0)["margins"]
    assert history.shape == (epochs + 1, 5)
    grown = delta * (torch.arange(epochs + 1) + 1)
    for place, distance in enumerate(distances[:4].abs().tolist()):
        below = grown <= min(distance, most) + delta  # the first above the true margin is still reached by delta
        torch.testing.assert_close(history[below, place], grown[below].clamp(max=most))
    for place, distance in enumerate(distances[:3].abs().tolist()):
        settled = history[8:, place]  # above the margin it is halved towards it, and just below it grows once more
        assert float(settled.min()) >= distance - 1e-4
        assert float(settled.max()) <= distance + delta + 1e-4
        assert float(settled.median()) == pytest.approx(distance, abs=delta / 2)
    assert float(history[-1, 3]) == pytest.approx(most)
    assert (history[:, 4] == delta).all()
    assert float(history.max()) <= most + 1e-7
    told = chosen.told({"margins": history})
    assert told["n_margins"] == 5
    assert told["margins"][0] == pytest.approx([delta] * 5)
    np.testing.assert_allclose(
        told["margins"][-1], np.quantile(history[-1].numpy(), [0, 0.25, 0.5, 0.75, 1]), rtol=1e-6
    )


def test_distillation_at_temperature_1_is_plain_training_on_soft_labels() -> None:
    bare = small()
    found = Distillation(epochs=4, rate=0.01, temperature=1.0).learn(bare, training(bare), seed=7)
    maps = Pool.of(training(bare), lambda images, _: maps_of(bare, images))
    plan = Plan(epochs=4, rate=0.01)
    teacher = opened(bare, "head", name="x", anew=7).on_maps()
    teach(teacher, maps, Method(), plan, seed=7)
    soft = torch.cat([teacher(given).softmax(1) for _, given, _ in maps.batches(8)]).detach()
    student = opened(bare, "head", name="x", anew=8).on_maps()
    optimizer = torch.optim.Adam(student.learning.values())
    order = torch.Generator().manual_seed(2 * 8)
    for epoch in range(4):
        for places in torch.randperm(len(soft), generator=order).split(8):
            optimizer.param_groups[0]["lr"] = plan.rate_of(epoch)
            optimizer.zero_grad()
            cross_entropy(student(maps.images(places.tolist())), soft[places]).backward()
            optimizer.step()
    for name, tensor in student.learned().items():
        torch.testing.assert_close(found[name], tensor)


def test_a_temperature_stretches_the_logits_and_hides_the_gradient_of_a_cross_entropy() -> None:
    images, labels = grey(), [place % 2 for place in range(12)]
    bare = linear(torch.zeros(SIZE, SIZE), 0.0)
    cohort = dm.cohort_of(images.numpy(), labels, classes=CLASSES)
    hidden = {}
    for temperature in (1, 100):
        defended = defend(bare, f"distillation:{temperature},epochs=60,rate=0.04", cohort)
        asked = Problem(defended, images.expand(-1, 3, -1, -1), torch.tensor(labels))
        logits, _, gradient = asked.gradient(asked.images, "cross_entropy", "tied")
        assert float((logits.argmax(1) == asked.labels).float().mean()) == 1
        hidden[temperature] = float((gradient == 0).flatten(1).all(dim=1).float().mean())
        _, _, gradient = asked.gradient(asked.images, "margin", "tied")
        assert (gradient != 0).flatten(1).any(dim=1).all()
    assert hidden[1] == 0
    assert hidden[100] > 0.4


def test_two_epochs_see_different_noise_of_the_declared_size() -> None:
    seen: list[Tensor] = []
    weight = nn.Parameter(torch.zeros(2, 1))

    def noted(inputs: Tensor) -> Tensor:
        seen.append(inputs.detach() - 0.5)
        return inputs.mean(dim=(1, 2, 3))[:, None] @ weight.T

    pool = Pool([np.full((3, 64, 64), 0.5, np.float32)], torch.tensor([1]), torch.tensor([0]), torch.device("cpu"))
    student = Student(noted, {"head.weight": weight}, head=nn.Identity())
    teach(student, pool, OnNoisy(0.1, "tied"), Plan(epochs=2, rate=1e-3), seed=0)
    teach(student, pool, OnNoisy(0.1, "free"), Plan(epochs=1, rate=1e-3), seed=0)
    first, second, free = seen
    assert not torch.equal(first, second)
    for noise in seen:
        assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal(first[:, 0], first[:, 1])
    assert not torch.equal(free[:, 0], free[:, 1])


def test_free_training_steps_on_each_batch_and_keeps_what_it_moved_within_the_ball() -> None:
    method = Replayed(3)
    bare = small()
    student = opened(bare, "all", name="x")
    shifts: list[Tensor] = []

    class Noting(Replayed):
        def stepped(self, batch: Batch) -> None:
            super().stepped(batch)
            shifts.append(self.shift)

    method = Noting(3)
    teach(student, training(bare), method, Plan(epochs=2, rate=1e-3, batch=8, epsilon=0.05), seed=0)
    assert len(shifts) == 2 * 2 * 3  # epochs, batches of 8 and 4, replays
    assert all(float(shift.abs().max()) <= 0.05 + 1e-7 for shift in shifts)
    assert torch.equal(shifts[5][4:], shifts[2][4:])  # a smaller batch leaves the others' as they were
    assert all(torch.equal(shift[:, 0], shift[:, 2]) for shift in shifts)


# --- what it is for ---------------------------------------------------------------------------------------------------


def two_features(n: int = 64) -> tuple[Tensor, list[int]]:
    """Images with one feature of 0.15 in one pixel, right for 85 %, and one of 0.02 in all others, right for all."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    sign = 2.0 * labels - 1
    robust = torch.where(torch.rand(n, generator=generator) < 0.85, sign, -sign)
    images = 0.5 + 0.02 * sign.view(-1, 1, 1, 1).expand(-1, 1, 6, 6).clone()
    images[:, 0, 0, 0] = 0.5 + 0.15 * robust
    return images, labels.tolist()


def robust_accuracy(found: Classifier, images: Tensor, labels: list[int], epsilon: float) -> float:
    """The accuracy under the worst image in the ball, which of a linear network is known."""
    given = images.expand(-1, 3, -1, -1).clone().requires_grad_(True)
    logits = found(given)
    margin = (logits[:, 1] - logits[:, 0]) * (2.0 * torch.tensor(labels) - 1)
    (gradient,) = torch.autograd.grad(margin.sum(), given)
    worst = margin - epsilon * gradient.sum(dim=1).abs().flatten(1).sum(dim=1)
    return float((worst > 0).float().mean())


@pytest.mark.parametrize(
    "text",
    [
        "adversarial_training:part=head,rounds=0",
        "adversarial_training:part=head,rounds=4",
        "fast_adversarial_training:part=head",
        "free_adversarial_training:part=head,epochs=160",
        "trades:part=head",
        "ima:part=head",
    ],
)
def test_what_is_trained_against_an_attack_withstands_it(text: str) -> None:
    images, labels = two_features()
    bare = linear(torch.full((6, 6), 1.0), -18.0)  # right for nearly all, by what an attack of 0.03 turns round
    cohort = dm.cohort_of(images.numpy(), labels, classes=CLASSES)
    assert robust_accuracy(bare, images, labels, 0.03) == 0
    more = "" if "epochs" in text else ",epochs=40"
    defended = defend(bare, f"{text},epsilon=0.03,rate=0.1,batch=32{more}", cohort)
    assert robust_accuracy(defended, images, labels, 0.03) > 0.7


def test_rounds_ask_the_base_a_few_times_and_learn_on_the_maps_of_all_of_them() -> None:
    bare = small()
    told: list[int] = []
    chosen = AdversarialTraining(part="head", rounds=2, epochs=3, steps=2)
    learned = chosen.learn(bare, training(bare), seed=0, advance=told.append)
    assert sum(told) == 12 * 3  # clean, and twice attacked
    assert all(name.startswith("head.") for name in learned)
    assert chosen.passes(12) == pytest.approx(12 * (1 + 2 * 5))


def test_inner_attacks_reach_the_worst_corner_of_the_ball_and_stay_in_it() -> None:
    w = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    student = opened(linear(w, 0.0), "head", name="x")
    images = torch.full((2, 3, 6, 6), 0.5)
    images[1] = 0.99
    for steps in (1, 4):
        moved = pgd(
            student,
            images,
            torch.tensor([0, 1]),
            epsilon=0.03,
            steps=steps,
            noise=torch.Generator().manual_seed(0),
            step=0.06,
        )
        towards = torch.stack([w.sign(), -w.sign()])[:, None].expand(-1, 3, -1, -1)
        torch.testing.assert_close(moved, (images + 0.03 * towards).clamp(0, 1))


def test_a_pool_holds_what_was_computed_of_each_image() -> None:
    images = training(small())
    pool = Pool.of(images, lambda given, labels: given[:, :1] + labels.view(-1, 1, 1, 1), batch=5)
    wanted = images.images(range(12))[:, :1] + images.labels.view(-1, 1, 1, 1)
    assert torch.equal(pool.images(range(12)), wanted)
    both = pool.plus(pool.take([3, 1]))
    assert torch.equal(both.images([12, 13]), wanted[[3, 1]])
    assert both.labels.tolist() == [*images.labels.tolist(), 1, 1]
    assert both.groups[-2:].tolist() == images.groups[[3, 1]].tolist()
    places = torch.cat([each for each, _, _ in both.batches(4, generator=torch.Generator().manual_seed(0))])
    assert sorted(places.tolist()) == list(range(14))


# --- the guard --------------------------------------------------------------------------------------------------------


def test_the_guard_takes_the_student_back_to_the_epoch_that_withstood_best() -> None:
    images, labels = two_features(16)
    bare = linear(torch.zeros(6, 6), 0.0)
    held = readable(bare, dm.cohort_of(images.numpy(), labels, classes=CLASSES))
    robust = torch.zeros(6, 6).index_put((torch.tensor([0]), torch.tensor([0])), torch.tensor([10.0]))
    epochs = [torch.full((6, 6), 1.0), robust, torch.full((6, 6), 5.0)]

    class Scripted(Method):
        def __init__(self, student: Student) -> None:
            self.student, self.epoch = student, 0

        def loss(self, student: Student, batch: Batch) -> Tensor:
            return 0 * student(batch.inputs).sum()

        def epoch_done(self) -> None:
            w = epochs[self.epoch]
            self.student.recall(
                {"head.weight": linear(w, 0.0).head.weight, "head.bias": torch.tensor([0.0, -0.5 * float(w.sum())])}
            )
            self.epoch += 1

    student = opened(bare, "head", name="x")
    guard = Guard(held, epsilon=0.03, batch=8, seed=0)
    teach(student, held, Scripted(student), Plan(epochs=3, rate=1e-9), seed=0, guard=guard)
    assert guard.accuracies[0] == guard.accuracies[2] < guard.accuracies[1]
    assert torch.equal(student.learned()["head.weight"][1, :36], robust.flatten())


def test_images_are_held_back_by_patient() -> None:
    bare = small()
    images = training(bare)
    images.groups = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    for seed in range(8):
        kept, held = held_back(images, 0.2, seed=seed, name="x")
        assert sorted(kept + held) == list(range(12))
        assert {int(images.groups[place]) for place in kept}.isdisjoint(int(images.groups[place]) for place in held)
        assert 2 <= len(held) <= 5
    images.groups = torch.zeros(12, dtype=torch.long)
    with pytest.raises(DosimeterError, match=r"there is one patient\. Write x:guard=0"):
        held_back(images, 0.2, seed=0, name="x")


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_epsilon_rises_and_the_rate_falls() -> None:
    plan = Plan(epochs=8, rate=1.0, epsilon=0.4, ramp=0.5)
    assert [plan.epsilon_of(epoch) for epoch in range(8)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert [plan.rate_of(epoch) for epoch in range(8)] == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert Plan(epochs=1, rate=1.0, epsilon=0.4, ramp=1.0).epsilon_of(0) == 0.4


def test_dropout_of_the_head_drops_while_it_practises_and_at_no_other_time() -> None:
    bare = small(dropout=0.5)
    images = training(bare).images(range(4))
    student = opened(bare, "all", name="x")
    assert torch.equal(student(images), student(images))
    with student.practising():
        torch.manual_seed(0)
        assert len({tuple(student(images).flatten().tolist()) for _ in range(20)}) > 1
    assert torch.equal(student(images), bare(images))


def test_bfloat16_is_for_what_takes_long_and_stays_in_training() -> None:
    bare = small()
    student = opened(bare, "last", name="x")
    images = training(bare).images(range(8))
    exact = student(images)
    choose_precision(student, images)
    assert not student.bfloat16  # too small to be worth it
    student.bfloat16 = True
    assert student(images).dtype == torch.float32
    apart = float((student(images) - exact).abs().max().detach())
    assert 0 < apart < 0.1 * float(exact.abs().max().detach())
    learned = NoiseTraining(epochs=1, precision="bfloat16", part="last").learn(bare, training(bare), seed=0)
    assert {tensor.dtype for tensor in learned.values()} == {torch.float32}


class Alarming(Ring):
    alarms = True

    def forward(self, images: Tensor, inside: Inside) -> Tensor:
        outputs = inside(images).outputs
        return with_alarm(outputs, outputs[:, 0] * 0 - 1, 2)


def test_what_cannot_be_trained_is_one_sentence() -> None:
    asked = dm.classifier(lambda batch: np.zeros((len(batch), 2)), size_px=SIZE, classes=CLASSES, identity="x")
    with pytest.raises(DosimeterError, match="trades trains weights, and the classifier is only asked"):
        opened(asked, "head", name="trades")
    with pytest.raises(DosimeterError, match="must come before a detector"):
        opened(small().around(Alarming()), "head", name="trades")
    with pytest.raises(DosimeterError, match="finds no weights to train"):
        opened(classifier(nn.Flatten(), nn.Identity(), size=1), "last", name="trades")
    bare = small()
    with pytest.raises(DosimeterError, match="must have a finite loss"):
        NoiseTraining(sigma=1e38).learn(bare, training(bare), seed=0)
    with pytest.raises(DosimeterError, match=r"does not fit the network: head\.9\.weight"):
        Trades().put(bare, {"head.9.weight": torch.zeros(1)}, seed=0)


@pytest.mark.parametrize("text", [f"{name}:part={part},epochs=1" for name in TAUGHT for part in ("head", "all")])
def test_every_part_keeps_the_contract(text: str) -> None:
    check_defence(text)


def test_a_compiled_network_is_opened_as_a_whole_or_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = torch.jit.script(network()[0].eval())
    bare = classifier(base, network()[1])
    with pytest.raises(DosimeterError, match=r"cannot tell apart the layers .* Write trades:part=all"):
        opened(bare, "last", name="trades")
    assert len(opened(bare, "all", name="trades").learning) == 12
    assert len(opened(bare, "head", name="trades").learning) == 4


def test_opened_vision_transformers_and_their_like_are_one_block() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.mix, self.decide = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            return self.decide(torch.relu(self.mix(tokens)).mean(dim=1))

    student = opened(classifier(Tokens(), nn.Identity()), "last", name="x")
    assert {name.split(".")[1] for name in student.learning} == {"patches", "mix", "decide"}


def test_margins_are_told_epoch_by_epoch_and_drawn() -> None:
    part = {"name": "ima", "n_margins": 7, "margins": [[0.001] * 5, [0.001, 0.0015, 0.002, 0.002, 0.002]]}
    card = {"cohort": "films", "protocol": "paper", "model": "vgg16 + ima", "seed": 0, "defence": "ima"}
    bare = {**card, "model": "vgg16", "defence": None}
    found = margins({"classifiers": [bare, {**card, "defences": [{"name": "jpeg"}, part]}]})
    assert found["epoch"].tolist() == [0, 1]
    assert found["n"].tolist() == [7, 7]
    assert found["median"].tolist() == [0.001, 0.002]
    (axes,) = margin_curves(found).axes
    assert axes.lines[0].get_ydata().tolist() == [0.001, 0.002]
    assert "7 training images" in margin_captions(found)[0]
