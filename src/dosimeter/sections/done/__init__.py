"""What was done: images, protocols, networks, attacks, and what speaks against them at first sight."""

import pandas as pd

from dosimeter.analysis.names import STUDY_PRESETS, attack_title, family, place, series_name, storage_kind
from dosimeter.analysis.paper import is_subject
from dosimeter.analysis.taxonomy import BLACK_BOXES, knowledge, ran
from dosimeter.analysis.wording import joined
from dosimeter.presentation.names import attack_words
from dosimeter.presentation.section import Page, Reading, Section, fill

PROTOCOLS = {
    "paper": "random 80:20 split of images, stratified by class: images of one patient may lie on both sides",
    "patient": "about 80:20 by patient, stratified by class: no patient lies on both sides",
    "source": "one source is tested and the others are trained on: no patient lies on both sides",
    "official": "the split that came with the images",
    "whole": "no image is set aside for training: the networks were trained elsewhere, on images that are known, and "
    "left out, only where a model card names them",
}
_OF_GROUPS = {
    "patient": "about 80:20 by group, stratified by class: near duplicates, and images of the same patient where that "
    "is known, lie on one side",
}
LOSSES = {
    "keras_bce": "cross-entropy of probabilities clipped to [1e-7, 1 - 1e-7] (the paper's framework)",
    "margin": "logit of the best other class less that of the true class; its gradient does not vanish",
    "cross_entropy": "cross-entropy from logits",
    "dlr": "the margin over how far the largest logit is above the third",
    "none": "none",
}
CHANNELS = {
    "free": "each colour channel moves on its own",
    "tied": "the three channels of a grey image move together",
}


class Done(Section):
    """What was done."""

    title = "What was done"
    note = "cohorts, protocols, networks and attack presets of the run"
    rank = 10
    folded = True

    def page(self, run: Reading) -> Page:
        """Return the section's own lay-out."""
        cohorts = list(dict.fromkeys(card["cohort"] for card in run.first.meta["cohorts"]))
        body = fill(
            __name__,
            meta=run.meta,
            one=len({card["model"] for card in run.meta["classifiers"]}) == 1,
            trained=any(card["history"] for card in run.meta["classifiers"]),
            number=run.numbers,
            cohorts=run.first.meta["cohorts"],
            native=bool(run.meta.get("config", {}).get("native")),
            seeds=run.seeds,
            presets=presets(run.responses.frame),
            protocols=PROTOCOLS | _OF_GROUPS if run.unit == "group" else PROTOCOLS,
            subject=run.subject,
            foreign=joined([cohort for cohort in cohorts if not is_subject(cohort)]),
            fgsm=has_fgsm(run.first.frame),
            beyond=beyond_fgsm(run.first.frame),
        )
        return Page(body)


def presets(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Return what each preset of the run does, one entry for each storage."""
    columns = ["preset", "attack", "loss", "channels", "effort", "storage"]
    rows = frame.loc[frame["status"] == "ok", columns].drop_duplicates().to_dict("records")
    return [
        {
            "name": series_name(row["preset"], row["storage"]),
            "attack": attack_words(row["attack"], row["effort"]),
            "loss": LOSSES.get(row["loss"], row["loss"]),
            "channels": CHANNELS.get(row["channels"], row["channels"]),
            "storage": storage_kind(row["storage"]).what,
        }
        for row in sorted(rows, key=lambda row: (place(row["preset"]), row["storage"]))
    ]


def has_fgsm(frame: pd.DataFrame) -> bool:
    """Whether the run has FGSM, as published or as it should be."""
    return bool(frame["preset"].isin(STUDY_PRESETS).any())


def beyond_fgsm(frame: pd.DataFrame) -> str:
    """Return which attacks were run beside FGSM and which of them are black boxes, noise or another model's images."""
    every = ran(frame)
    beside = sorted(
        {(preset, attack) for preset, attack, source in every if not source and preset not in STUDY_PRESETS},
        key=lambda pair: place(pair[0]),
    )
    noise = [attack_title(preset) for preset, attack in beside if family(attack) == "control"]
    others = [(attack_title(preset), attack) for preset, attack in beside if family(attack) != "control"]
    said = []
    if others:
        before = "FGSM is one step. Beside it ran" if has_fgsm(frame) else "What ran is"
        said.append(f"{before} {joined([title for title, _ in others])}.")
    blind = [title for title, attack in others if knowledge(attack) in BLACK_BOXES]
    if blind:
        said.append(f"{joined(blind)} {'need' if len(blind) > 1 else 'needs'} no gradient.")
    if noise:
        said.append(f"For comparison there is random noise: {joined(noise)}.")
    if any(source for *_, source in every):
        said.append("Images made on one network were also shown to another.")
    return " ".join(said)


ENTRY: Section = Done()
