"""The study's figures: training, metrics, adversarial images, accuracy against epsilon."""

import functools
from collections.abc import Iterator

from dosimeter.analysis.names import in_order, model_name
from dosimeter.presentation.section import UNCHANGED_FIGURE, Drawing, Panel, Section
from dosimeter.presentation.style import signed
from dosimeter.record.scores import OF_PROBABILITIES
from dosimeter.sections.figures import captions
from dosimeter.sections.figures.curves import accuracy_curves, zero_gradients
from dosimeter.sections.figures.drops import drop_epsilon, single_image_drop
from dosimeter.sections.figures.pictures import adversarial_pictures, triptychs
from dosimeter.sections.figures.training import metric_bars, roc_curves, training_curves


class StudyFigures(Section):
    """Figures of the study."""

    title = "Figures"
    note = "training, ROC, adversarial images, accuracy against epsilon, one image's probabilities"
    rank = 50

    def figures(self, panel: Panel) -> Iterator[Drawing]:
        """Yield those without attack, then those under FGSM."""
        training, clean = panel.tables["training"], panel.tables["clean_metrics"]
        if not training.empty:
            draw = functools.partial(training_curves, training)
            yield Drawing("training", "Training", draw, captions.training(), place=0, attacked=False)
        if not clean.empty:
            scored = clean[clean["ece"].notna()]  # labels alone have no threshold to move
            if len(scored) and (panel.clean["positive"] >= 0).any():
                draw = functools.partial(roc_curves, panel.clean, scored)
                yield Drawing("roc", "ROC without attack", draw, captions.roc(panel.tables), place=0, attacked=False)
            draw = functools.partial(metric_bars, clean)
            said = captions.metrics(panel.tables)
            yield Drawing("metrics", "Metrics without attack", draw, said, place=1, attacked=False)
        for model in in_order(panel.answers["model"].unique()):
            yield from _pictures(panel, model)
        if (panel.tables["fgsm_accuracy"]["epsilon"] > 0).any():
            yield from _attacked(panel)


def _pictures(panel: Panel, model: str) -> Iterator[Drawing]:
    exemplars = [item for item in panel.exemplars if item["model"] == model]
    answers, doses = panel.answers, panel.doses
    own = (answers["model"] == model) & (answers["storage"] == "float")
    answers = answers[["preset", "case_id", "label", "epsilon", *OF_PROBABILITIES]][own]
    curves = panel.tables["fgsm_accuracy"]
    judged = curves[(curves["model"] == model) & (curves["storage"] == "float")]
    rows = [
        row._replace(title=signed(row.title, judged[judged["preset"] == row.title.partition(" ")[0]], words=False))
        for row in triptychs(exemplars, answers, doses[doses["model"] == model])
    ]
    if rows:
        draw = functools.partial(adversarial_pictures, rows, panel.classes)
        title, said = (
            f"Adversarial images, {model_name(model)}",
            captions.pictures(panel.cohort, model, positive=bool((panel.clean["positive"] >= 0).any())),
        )
        yield Drawing("pictures", title, draw, said, model, place=2)


def _attacked(panel: Panel) -> Iterator[Drawing]:
    curves, answers = panel.tables["fgsm_accuracy"], panel.answers
    draw = functools.partial(accuracy_curves, curves)
    yield Drawing("accuracy", "Accuracy against epsilon", draw, captions.accuracy(panel.tables), place=3)
    if (answers["correct"] & (answers["epsilon"] == 0) & (answers["storage"] == "float")).any():
        title = f"One image's probabilities at epsilon {drop_epsilon(answers):.3g}"
        draw = functools.partial(single_image_drop, answers, panel.classes, curves)
        yield Drawing("drop", title, draw, captions.drop(panel.cohort), place=4)
    draw, said = functools.partial(zero_gradients, curves), captions.unchanged(panel.tables)
    yield Drawing("unchanged", "Images left unchanged", draw, said, place=UNCHANGED_FIGURE)


ENTRY: Section = StudyFigures()
