"""The epsilon sweep, dosimeter against its peers and the floor: `python benchmarks/sweep.py`.

One process, one network, the same images, epsilons, attack and threads; repeats interleaved. The attack is FGSM on
cross-entropy with free planes and known labels, which all parties have. Every predicted class is compared with the
floor's; dosimeter's with a floor that takes as many gradients at once, as a sign may turn on the batch's rounding.

Who gets what: dosimeter is given a cohort and reads, resizes, checks and tabulates; the floor and the peers are given
tensors in memory. The peers take some of the images only, other ones in each repeat, as one image costs them as much
as another. They and the floor choose their batch in a trial; dosimeter finds its own.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import dosimeter_sweep
import floor
import numpy as np
import torch
from answers import Agreement, Answers, agreement
from as_markdown import ranged, table
from dosimeter_sweep import Choice
from peers import PEERS, AsLoaded, Sweep, in_batches
from subjects import MODELS, Subject, load_subject
from timing import Timed, interleave, ratios, spread, timed

import dosimeter as dm
from dosimeter.attacks.base import Problem
from dosimeter.engines.choose import WORTH_CHOOSING_S
from dosimeter.parallel import torch_threads
from dosimeter.sweeps.plan import SHARD_SIZE

EPSILONS = tuple(round(float(epsilon), 6) for epsilon in np.geomspace(0.0005, 0.09, 12))
FLOOR_IMAGES = 4
"""What the floor tries its batches on."""
ENGINES = ("torch", "auto", "ncnn")
FLOOR, AUTO, TORCH = "floor", "dosimeter auto", "dosimeter torch"


class Party(NamedTuple):
    """One line of the table.

    Attributes:
        run: answers the images at some places of the subject.
        places: which these are, by the number of the repeat.
        how: what is particular to it.
    """

    run: Callable[[slice], Answers]
    places: Callable[[int], slice]
    how: str


def main() -> None:
    options = _parse()
    warnings.filterwarnings("ignore")  # the peers' dependencies
    torch.set_num_threads(options.threads)
    numbers: dict[str, Any] = {"threads": options.threads, "versions": _versions(), "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NUMBA_CACHE_DIR"] = folder  # so that the first choice of an engine compiles
        for model in options.model:
            _progress(f"{model}: training a head")
            subject = load_subject(model, n_images=options.images)
            with mock.patch.dict(os.environ, DOSIMETER_CACHE=folder):  # and converts
                numbers["models"][model] = _measure(model, subject, options)
    print(_page(numbers, options))
    if options.json:
        options.json.write_text(json.dumps(numbers))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--images", type=int, default=16, help="for dosimeter and the floor; 4 make a cell")
    parser.add_argument("--peer-images", type=int, default=2, help="for each peer in each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    options.peer_images = min(options.peer_images, options.images)
    return options


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name, (package, _) in PEERS.items():
        try:
            versions[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


# --- measuring ----------------------------------------------------------------------------------------------


def _measure(model: str, subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of one network."""
    parties: dict[str, Party] = {}
    missing: dict[str, str] = {}
    choices: dict[str, Choice] = {}
    _progress(f"{model}: the floor's batches")
    parties[FLOOR] = _floor(subject)
    for engine in ENGINES:
        _progress(f"{model}: engine {engine}")
        choice = dosimeter_sweep.choose(engine, subject.classifier, subject.cohort)
        if isinstance(choice, str):
            missing[f"dosimeter {engine}"] = choice
        else:
            choices[engine] = choice
            parties[f"dosimeter {engine}"] = _dosimeter(subject, choice)
    for name, party in _peers(subject, options.peer_images):
        _progress(f"{model}: {name}")
        if isinstance(party, str):
            missing[name] = party
        else:
            parties[name] = party
    calls = {name: partial(_call, party) for name, party in parties.items()}
    runs = interleave(calls, repeats=options.repeats, note=lambda line: _progress(f"{model}: {line}"))
    expected = dict.fromkeys(parties, runs[FLOOR][0].result)
    expected |= {f"dosimeter {engine}": _expected(subject, choice) for engine, choice in choices.items()}
    lines = {name: _numbers(parties[name], runs[name], runs[FLOOR], runs[AUTO], expected[name]) for name in parties}
    return {
        "cohort": subject.cohort.name,
        "weights": subject.classifier.card["weights"]["name"],
        "n_images": len(subject.images),
        "zero_gradients": _zero_gradients(subject),
        "parties": lines,
        "missing": missing,
        "choices": {engine: _choice(choice) for engine, choice in choices.items()},
    }


def _call(party: Party, repeat: int) -> Answers:
    return party.run(party.places(repeat))


def _floor(subject: Subject) -> Party:
    """Return the floor with the batches that are fastest on a few images."""
    network, images, labels = subject.classifier, subject.images, subject.labels
    best = floor.find_batches(network, images[:FLOOR_IMAGES], labels[:FLOOR_IMAGES], EPSILONS)

    def run(places: slice) -> Answers:
        return floor.sweep(network, images[places], labels[places], EPSILONS, best)

    return Party(run, lambda repeat: slice(None), f"batch {best.answers}, of gradients {best.gradients}")


def _expected(subject: Subject, choice: Choice) -> Answers:
    """Return the floor's answers with dosimeter's batch of gradients and its one thread.

    Torch's own gradients depend on both by rounding, which may turn a sign.
    """
    batch = min(choice.plan.batch_size, SHARD_SIZE)
    batches = floor.Batches(gradients=batch, answers=choice.plan.batch_size)
    with torch_threads(1):
        return floor.sweep(subject.classifier, subject.images, subject.labels, EPSILONS, batches)


def _dosimeter(subject: Subject, choice: Choice) -> Party:
    classifier, cohort, _, _ = subject
    attack = dm.FGSM(loss="cross_entropy", channels="free")

    def run(places: slice) -> Answers:
        cases = cohort.subset(range(len(cohort))[places])
        responses = dosimeter_sweep.sweep(choice.plan, classifier, cases, attack, epsilons=EPSILONS)
        return dosimeter_sweep.answers(responses, cases, EPSILONS)

    run(slice(1))  # what happens once, such as the digest of the weights
    return Party(run, lambda repeat: slice(None), f"{choice.plan.name}, batch {choice.plan.batch_size}")


def _peers(subject: Subject, n_images: int) -> Iterator[tuple[str, Party | str]]:
    """Yield each peer as its documentation shows it and tuned, or "not installed"."""
    networks = {"documented": AsLoaded(subject.classifier), "tuned": subject.classifier}
    for style, network in networks.items():
        for name, (_, build) in PEERS.items():
            try:
                sweep = build(network, size_px=subject.classifier.size_px)
            except ImportError:
                yield f"{name} {style}", "not installed"
                continue
            yield f"{name} {style}", _peer(sweep, subject, n_images)


def _peer(sweep: Sweep, subject: Subject, n_images: int) -> Party:
    """Return a peer with the batch that is faster on two epsilons."""
    few = (subject.images[:n_images], subject.labels[:n_images], EPSILONS[:2])
    in_batches(sweep, 1)(few[0][:1], few[1][:1], few[2])
    trials = {size: timed(partial(in_batches(sweep, size), *few)).seconds for size in {1, n_images}}
    best = min(trials, key=lambda size: trials[size])

    def run(places: slice) -> Answers:
        return in_batches(sweep, best)(subject.images[places], subject.labels[places], EPSILONS)

    def places(repeat: int) -> slice:
        n_turns = len(subject.images) // n_images
        first = repeat % n_turns * n_images
        return slice(first, first + n_images)

    return Party(run, places, f"batch {best}")


def _zero_gradients(subject: Subject) -> int:
    """Return how many images have no gradient: dosimeter asks them once, so they would flatter it."""
    attack = dm.FGSM(loss="cross_entropy", channels="free")
    pairs = zip(subject.images.split(1), subject.labels.split(1), strict=True)
    return sum(int(attack.direction(Problem(subject.classifier, *pair)).grad_zero) for pair in pairs)


def _numbers(
    party: Party, runs: list[Timed[Answers]], at_floor: list[Timed[Answers]], auto: list[Timed[Answers]], all_: Answers
) -> dict[str, Any]:
    """Return a party's seconds an image, its ratios in each repeat, and how far its answers agree with `all_`."""
    seconds = _per_image(runs)
    agreements = [_agreement(run.result, all_, party.places(repeat)) for repeat, run in enumerate(runs)]
    errors = [each.logit_error for each in agreements if each.logit_error is not None]
    return {
        "how": party.how,
        "seconds": spread(seconds),
        "to_floor": ratios(seconds, _per_image(at_floor)),
        "to_auto": ratios(seconds, _per_image(auto)),
        "n_answers": sum(each.n for each in agreements),
        "n_differing": sum(each.n_differing for each in agreements),
        "logit_error": max(errors, default=None),
    }


def _per_image(runs: list[Timed[Answers]]) -> list[float]:
    return [run.seconds / len(run.result.predicted) for run in runs]


def _agreement(found: Answers, expected: Answers, places: slice) -> Agreement:
    logits = None if expected.logits is None else expected.logits[places]
    return agreement(found, Answers(expected.predicted[places], logits))


def _choice(choice: Choice) -> dict[str, Any]:
    plan = choice.plan
    return {
        "engine": plan.name,
        "batch_size": plan.batch_size,
        "error": plan.error,
        "image_s": dict(plan.image_s),
        "refused": dict(plan.refused),
        "seconds": choice.seconds,
        "again_s": choice.again_s,
    }


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- printing -----------------------------------------------------------------------------------------------


def _page(numbers: Mapping[str, Any], options: argparse.Namespace) -> str:
    peers = ", ".join(f"{name} {version or 'not installed'}" for name, version in numbers["versions"].items())
    head = (
        f"{len(EPSILONS)} epsilons from {EPSILONS[0]:g} to {EPSILONS[-1]:g}; {numbers['threads']} torch threads for "
        f"all (dosimeter: as many workers); {options.repeats} interleaved repeats; {peers}. Dosimeter and the floor "
        f"sweep all images, each peer {options.peer_images} in each repeat. Seconds are per image: median (range); "
        "ratios are of the medians (range within repeats). Documented: as the peer's documentation shows. Tuned: "
        "weights frozen, channels_last."
    )
    sections = [_section(model, each) for model, each in numbers["models"].items()]
    return "\n\n".join([head, *sections])


def _section(model: str, numbers: Mapping[str, Any]) -> str:
    header = ["party", "how", "s / image", "times the floor", "times dosimeter auto", "labels unlike the floor's"]
    rows = [_row(name, each) for name, each in numbers["parties"].items()]
    rows += [[name, why, *["-"] * 5] for name, why in numbers["missing"].items()]
    images = (
        f"{numbers['n_images']} images of {numbers['cohort']}, weights: {numbers['weights']}; "
        f"{numbers['zero_gradients']} images without a gradient, which would flatter dosimeter."
    )
    facts = [
        f"### {model}",
        images,
        table([*header, "largest logit difference"], rows, text_columns=2),
        *(_about_choice(engine, each, numbers) for engine, each in numbers["choices"].items() if engine != "torch"),
    ]
    return "\n\n".join(facts)


def _row(name: str, numbers: Mapping[str, Any]) -> list[str]:
    error = numbers["logit_error"]
    return [
        name,
        numbers["how"],
        ranged(numbers["seconds"], 3),
        ranged(numbers["to_floor"]),
        ranged(numbers["to_auto"]),
        f"{numbers['n_differing']} of {numbers['n_answers']}",
        "not given" if error is None else f"{error:.1e}",
    ]


def _about_choice(engine: str, choice: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    parties, n_images = numbers["parties"], numbers["n_images"]
    sweep_s, floor_s = (n_images * parties[name]["seconds"].median for name in (f"dosimeter {engine}", FLOOR))
    seen = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in choice["image_s"].items())
    refused = "".join(f" Refused: {name}: {why}" for name, why in choice["refused"].items())
    return (
        f"Engine {engine}: {choice['engine']}, batch {choice['batch_size']}, chosen as for a study of the paper's size "
        f"(auto stays with torch where that ends within {WORTH_CHOOSING_S:g} s). Seconds an image it saw in its check: "
        f"{seen}; largest logit difference {choice['error']:.1e}. Choosing took {choice['seconds']:.1f} s the first "
        f"time, with conversion and compilation, {choice['again_s']:.1f} s again, once for a classifier. These "
        f"{n_images} images took {sweep_s:.1f} s without the choice and {sweep_s + choice['again_s']:.1f} s with it, "
        f"{sweep_s / floor_s:.2f} and {(sweep_s + choice['again_s']) / floor_s:.2f} times the floor.{refused}"
    )


if __name__ == "__main__":
    main()
