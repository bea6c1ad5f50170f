"""`dm.attack` and `dm.classifier`: tensors alone, for any network."""

import numpy as np
import pytest
import torch
from torch import nn

import dosimeter as dm
from dosimeter.errors import DosimeterError

SIDE = 8


def linear(channels: int = 3) -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(channels * SIDE * SIDE, 2)
    with torch.no_grad():
        layer.bias += torch.tensor([0.0, float(-(layer.weight[1] - layer.weight[0]).sum()) / 2])
    return nn.Sequential(nn.Flatten(), layer), (layer.weight[1] - layer.weight[0]).detach()


def findings() -> dm.Classifier:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3))
    return dm.classifier(network, size_px=SIDE, classes=("a", "b", "c"), outputs="findings", thresholds=(0.1, 0.5, 0.9))


def grey(n: int, channels: int = 3) -> torch.Tensor:
    values = 0.3 + 0.4 * torch.rand(n, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return values if channels == 1 else values[:, :1].expand(-1, 3, -1, -1).contiguous()


@pytest.mark.parametrize("name", ["pgd", "apgd", "fgsm", "fmn"])
def test_a_linear_network_falls_where_its_margin_says(name: str) -> None:
    network, slope = linear()
    images = grey(12)
    with torch.no_grad():
        logits = network(images)
    labels = logits.argmax(dim=1)
    # tied planes: every pixel moves all three alike, so the margin falls by epsilon times the sum over pixels
    per_pixel = slope.reshape(3, SIDE * SIDE).sum(dim=0).abs().sum()
    needed = (logits[:, 1] - logits[:, 0]).abs() / per_pixel
    doses = [float(value) for value in needed.quantile(torch.tensor([0.25, 0.5, 0.75]))]
    found = dm.attack(network, images, labels, name, doses, effort="quick")
    assert found.images.shape == (4, 12, 3, SIDE, SIDE)
    assert (found.images - images).abs().flatten(2).amax(dim=2).le(torch.tensor(found.epsilons)[:, None] + 1e-6).all()
    assert found.success[0].sum() == 0
    for k, dose in enumerate(found.epsilons):
        clear = (needed - dose).abs() > 0.03 * dose
        assert torch.equal(found.success[k][clear], (needed < dose)[clear]), (name, dose)
    assert found.failed == ()


def test_grey_images_and_networks_stay_grey() -> None:
    network, _ = linear(1)
    images = grey(4, 1)
    found = dm.attack(network, images, network(images).argmax(dim=1), "pgd", ["8/255"], effort="quick")
    assert found.images.shape == (2, 4, 1, SIDE, SIDE)
    assert torch.equal(found.images[0], images)
    assert torch.equal(found.predicted[1], network(found.images[1]).argmax(dim=1))


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Dropout(0.5), *linear()[0])
    network.train()
    network[2].eval()  # as in a network whose batch normalisation is frozen
    images = grey(3)
    dm.attack(network, images, torch.tensor([0, 1, 0]), "fgsm", [0.01])
    assert [module.training for module in network.modules()] == [True, True, True, False]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_a_target_is_what_success_means() -> None:
    network, _ = linear()
    images = grey(6)
    labels = network(images).argmax(dim=1)
    found = dm.attack(network, images, labels, "pgd", [0.5], effort="quick", threat=dm.ThreatModel(target="1"))
    assert torch.equal(found.success, found.predicted == 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": torch.rand(2, 8, 8)}, "images must be a tensor"),
        (
            {"network": dm.classifier(linear()[0], size_px=SIDE, classes=("a", "b")), "images": torch.rand(2, 3, 8, 9)},
            "the height and width that the classifier looks at, 8 x 8, got 8 x 9",
        ),
        ({"network": findings()}, r"network\.deciding\('a'\), with labels 0 where it is absent"),
        ({"images": torch.rand(2, 3, 8, 8) * 255}, "0, black, to 1, white"),
        ({"labels": torch.tensor([0])}, "labels must be as many as the images, got 1 for 2"),
        ({"labels": torch.tensor([0, 7])}, "labels must be indices into the 2 classes, got 7"),
        ({"network": nn.Sequential(nn.Flatten(), nn.Linear(192, 1))}, "OneLogit"),
        ({"network": "vgg16"}, "network must be a torch.nn.Module, got str"),
        ({"attack": "pdg"}, "attack 'pdg' is not known. Did you mean 'pgd'"),
        ({"attack": "universal"}, "learns on training images"),
        ({"epsilons": [2.0]}, "epsilon"),
        ({"effort": "huge"}, "effort"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, object], said: str) -> None:
    given = {"network": linear()[0], "images": grey(2), "labels": torch.tensor([0, 1])} | arguments
    with pytest.raises(DosimeterError, match=said):
        dm.attack(**given)  # type: ignore[arg-type]


def test_a_cohort_of_arrays_is_swept() -> None:
    network, _ = linear()
    images = np.rint(grey(6).numpy() * 255).astype(np.float32) / 255
    labels = network(torch.from_numpy(images)).argmax(dim=1)
    assert len(set(labels.tolist())) == 2
    mine = dm.classifier(network, size_px=SIDE, classes=("clear", "opacity"), name="linear")
    cohort = dm.cohort_of((images * 255).round().astype(np.uint8), labels, mine.classes, patients=list("aabbcc"))
    rows = dm.sweep(mine, cohort, epsilons=[0.01, 0.2], compute=dm.Compute(engine="torch", workers=1))
    table = dm.accuracy_table(rows)
    assert set(table["model"]) == {"linear"}
    assert table.loc[table["epsilon"] == 0, "accuracy"].item() == 1
    assert rows.frame["patient_id"].nunique() == 3
    with pytest.raises(DosimeterError, match="patients must be as many as the images, got 2 for 6"):
        dm.cohort_of(images, labels, mine.classes, patients=["a", "b"])
    with pytest.raises(DosimeterError, match="images must be uint8, or floating-point"):
        dm.cohort_of(images.astype(np.int64), labels, mine.classes)
    with pytest.raises(DosimeterError, match="size_px"):
        dm.classifier(network, size_px=0, classes=("a", "b"))
    with pytest.raises(DosimeterError, match=r"network must be a torch\.nn\.Module or a function, got str"):
        dm.classifier("vgg16", size_px=8, classes=("a", "b"))  # type: ignore[arg-type]


def test_findings_have_their_thresholds() -> None:
    mine = findings()
    assert mine.findings is not None
    assert mine.findings.thresholds == (0.1, 0.5, 0.9)


def test_one_of_several_findings_is_attacked() -> None:
    one = findings().deciding("b")
    images = grey(4)
    found = dm.attack(one, images, one(images).argmax(dim=1), "pgd", [0.5], effort="quick")
    assert found.success.tolist() == [[False] * 4, [True] * 4]


@pytest.mark.parametrize("wrapped", [False, True])
def test_images_need_not_be_square(wrapped: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3 * 8 * 12, 2, bias=False)
    network: nn.Module = nn.Sequential(nn.Flatten(), layer)
    images = 0.2 + 0.6 * torch.rand(6, 1, 8, 12, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    logits = network(images).detach()
    per_pixel = (layer.weight[1] - layer.weight[0]).detach().reshape(3, -1).sum(dim=0).abs().sum()
    needed = (logits[:, 1] - logits[:, 0]).abs() / per_pixel  # tied planes, as above
    subject = dm.classifier(network, size_px=(8, 12), classes=("a", "b")) if wrapped else network
    dose = float(needed.median() * 1.1)
    found = dm.attack(subject, images, logits.argmax(dim=1), "pgd", [dose], effort="quick")
    assert found.images.shape == (2, 6, 3, 8, 12)
    assert torch.equal(found.success[1], needed < dose)
    assert 0 < found.success[1].sum() < 6
