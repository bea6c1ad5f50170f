"""The columns of the response table: one row per (case, classifier, attack, epsilon), or severity of a physical
change in the place of epsilon."""

import pyarrow as pa

SCHEMA_VERSION = 6
"""Raised whenever the columns change."""

METADATA_KEY = b"dosimeter"
"""Under it a merged table carries its facts."""

SCHEMA = pa.schema(
    [
        # provenance
        ("run_id", pa.string()),
        ("cell_id", pa.string()),  # the unit of resume
        # the case
        ("cohort", pa.string()),
        ("modality", pa.string()),
        ("protocol", pa.string()),  # how train and test were separated
        ("case_id", pa.string()),
        ("patient_id", pa.string()),  # pseudonym, null if unknown
        ("split", pa.string()),
        (
            "decision",
            pa.string(),
        ),  # the finding, or what of several findings; "" (in older tables null): the class
        ("label", pa.int16()),  # an index into the classes
        ("positive", pa.int16()),  # the class that is declared to be so; null: none, or of two classes the second
        # what was attacked
        ("model", pa.string()),  # backbone, e.g. vgg16
        ("classifier", pa.string()),  # backbone and fingerprint of its weights
        ("defence", pa.string()),
        # how
        ("preset", pa.string()),
        ("attack", pa.string()),
        ("loss", pa.string()),
        ("channels", pa.string()),
        ("effort", pa.string()),  # quick, standard, thorough; null for the presets of the paper's study
        ("target", pa.int16()),  # the class that the attack is after; null: any but the true one
        ("made_on", pa.string()),  # the model whose adversarial images these are; null: the one that answers
        ("maker", pa.string()),  # the classifier of that model
        ("norm", pa.string()),
        ("storage", pa.string()),  # float, png8, dicom12...
        ("seed", pa.int64()),
        ("epsilon", pa.float64()),  # nominal dose, [0, 1] of the image range; null: a physical change
        ("severity", pa.float64()),  # of a physical change, in its unit; null: an attack
        ("unit", pa.string()),  # of the severity; null: an attack
        ("on_grid", pa.bool_()),  # False: asked only to refine a flip epsilon
        # the realised dose
        ("linf", pa.float64()),
        ("l2", pa.float64()),
        ("clipped_fraction", pa.float64()),  # share of values that left [0, 1] before clipping
        # how far it may be seen (visibility.measure); null off the grid
        ("rms", pa.float64()),
        ("psnr", pa.float64()),  # null: infinite
        ("ssim", pa.float64()),  # this and the next two at the epsilons of the setting `visibility` alone
        ("ms_ssim", pa.float64()),
        ("haarpsi", pa.float64()),
        ("noise_ratio", pa.float64()),  # RMS over the noise of the image itself
        ("jnd_p50", pa.float64()),  # of |difference|, in JND on a 1-350 cd/m2 GSDF display, default window
        ("jnd_p95", pa.float64()),
        ("jnd_max", pa.float64()),
        ("jnd_srgb_p95", pa.float64()),  # the same on an sRGB screen
        ("unchanged", pa.bool_()),  # identical to the image evaluated at epsilon 0
        ("grad_zero", pa.bool_()),  # the gradient was exactly zero everywhere
        ("found", pa.bool_()),  # the attack says that it succeeded within this epsilon; null: it makes no claim
        ("n_gradients", pa.int32()),  # that the attack took for this case, for all epsilons together
        ("n_queries", pa.int32()),  # answers that it asked for beside them
        # the response
        ("logits", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float64())),
        ("predicted", pa.int16()),
        ("correct", pa.bool_()),  # the predicted class is the label, and the image is not rejected
        ("alarm", pa.float64()),  # how far a detector's is above the largest logit; null: nothing rejects
        ("abstained", pa.bool_()),  # the classifier refuses to answer: its alarm is above 0
        ("certified", pa.float64()),  # epsilon within which the answer provably stays; null: nothing is proven
        # how it went
        ("status", pa.string()),  # ok, error
        ("error", pa.string()),
        ("duration_s", pa.float64()),  # the cell's wall time, shared equally by its rows
    ]
)

VISIBILITY = (
    *("rms", "psnr", "ssim", "ms_ssim", "haarpsi"),
    *("noise_ratio", "jnd_p50", "jnd_p95", "jnd_max", "jnd_srgb_p95"),
)
"""Columns of how far a perturbation may be seen."""

ADDED = (
    *("effort", "target", "made_on", "found", "n_gradients", "n_queries", *VISIBILITY),
    *("decision", "positive", "maker", "alarm", "abstained", "certified", "severity", "unit"),
)
"""Columns that tables of an older schema version lack; read from such a table they are null."""

_PHYSICAL = ("severity", "unit")
SCHEMA_5 = pa.schema([field for field in SCHEMA if field.name not in _PHYSICAL])
_DEFENDED = ("alarm", "abstained", "certified")
SCHEMA_4 = pa.schema([field for field in SCHEMA_5 if field.name not in _DEFENDED])
_LATE = ("decision", "positive", "maker")
_WIDENED = ("label", "target", "predicted")
SCHEMA_3 = pa.schema(
    [
        pa.field(field.name, pa.int8() if field.name in _WIDENED else field.type)
        for field in SCHEMA_4
        if field.name not in _LATE
    ]
)
OLDER = (SCHEMA_3, SCHEMA_4, SCHEMA_5)
"""Those of earlier versions. Parts of them are as good as new ones, where a study made no other rows since."""
