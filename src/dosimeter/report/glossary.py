"""The words of a report, each with one meaning: at its end, by `dosimeter list words`, and in docs/glossary.md."""

GLOSSARY = {
    "attack": "A way to change an image a little so that the classifier answers otherwise.",
    "adversarial image": "An image that an attack changed and that the classifier answers wrongly.",
    "alarm": "What a detector answers instead of a class: it takes the image for an attack's and refuses to answer.",
    "ball": (
        "All images that differ from an image by no more than epsilon in any pixel (an L-infinity norm ball). "
        "A search fills its ball when it goes on to the strongest image in it, instead of stopping at the "
        "first success."
    ),
    "base, head": "The part of a network that turns an image into a feature map, trained elsewhere and left as it is; "
    "and the part behind it that answers, which a study trains.",
    "black box, white box": (
        "An attacker who sees answers only (scores or decisions), or also the network's gradients."
    ),
    "case": "One image with its label, under a pseudonym.",
    "cell": (
        "A few cases, one classifier and one preset: the unit of work, and of what a resumed run need not repeat."
    ),
    "check": (
        "One question about an evaluation, with its rule and source: are gradients there, would more effort break more?"
    ),
    "classifier": (
        "What is examined: a network with its resizing, channels and normalisation, under a name that digests "
        "all that answers."
    ),
    "cohort": "A set of images with their labels and, where known, whose images they are.",
    "control": "Random noise of the same size as an attack's: what any change of so much does.",
    "decision": "A class, or yes or no to one finding: what a classifier's scores are turned into.",
    "defence": "What is done to a classifier so that attacks succeed less.",
    "deployed epsilon": "The smallest epsilon whose file, written and read again, is answered otherwise.",
    "engine": "What computes a classifier's answers on this machine. Each is checked against torch, and the fastest is "
    "taken.",
    "epsilon": (
        "The dose: how far a pixel may move, as a fraction of the range from black to white. 1/255, about "
        "0.0039, is one grey level of an 8-bit file."
    ),
    "epsilon50": "The epsilon at which half of the images that were answered correctly have flipped.",
    "evaluation": (
        "One classifier under one family of attacks. Its verdict, PASS, CAUTION or UNRELIABLE, says whether "
        "the numbers can be trusted, not whether the classifier is robust."
    ),
    "examination": (
        "What is measured of a classifier beside the answers to attacked images, so that these can be judged."
    ),
    "fingerprint": (
        "The digest of all that a classifier answers with: weights, settings, code. Two of the same are the same."
    ),
    "flip": "The change of an answer from right to wrong; an image's flip epsilon is the smallest that causes it.",
    "gradient": (
        "How the classifier's loss changes with each pixel. Where it is exactly zero, an attack that follows "
        "it cannot move, which says nothing of robustness."
    ),
    "interval": "Where the truth lies in 95 of 100 studies like this one. A band holds the whole curve at once.",
    "lattice": "The grey levels of a file, on which an attack can be made to keep its images.",
    "logit, margin": (
        "A classifier's score of a class before it becomes a probability; the margin is that of the true "
        "class less the largest of the others."
    ),
    "margin of success": (
        "How far an image must be beyond the border between two answers so that rounding cannot undo the success."
    ),
    "near duplicate": (
        "Two images that are one exam: cropped, compressed, brightened or written upon, they agree in their detail."
    ),
    "phantom": "A computed image. Phantoms show that the software works and say nothing of patients.",
    "physical change": (
        "What an apparatus, a patient or a file does to an image without meaning to fool anybody: a share of the dose, "
        "blur, rotation."
    ),
    "preset": (
        "An attack with its settings and the ways its images are stored: one curve. `paper` repeats the "
        "published study; `sound` is FGSM with a loss that does not vanish."
    ),
    "protocol": (
        "How images were separated into training and test: `paper` by image, `patient` by patient, `official` "
        "as the cohort came."
    ),
    "query": "One question to the classifier about one image.",
    "section": "A part of the report, with its tables, figures and entries of the summary.",
    "seed": "The number that all random choices begin with: the same seed gives the same study.",
    "severity": "How strong a physical change is, in its own unit; one severity changes nothing.",
    "shortcut": (
        "What tells the label in these images and would not elsewhere: size, border, source. A probe asks how well it "
        "tells it."
    ),
    "storage": "How an image is kept: as floats in memory, or as a file that is written and read again.",
    "threat model": "What the attacker may do, to which end, and what the attacker knows.",
    "tied": ("The three colour planes of a grey image move together, so that it stays grey; free, if they may part."),
    "transferability": "How far images made on one classifier fool another.",
    "trial": (
        "A cohort as a protocol and a seed separated it into training and test. In a check: the evidence of "
        "one evaluation."
    ),
    "worst case": (
        "Of each image, the attack that breaks it first; accuracy under it is an upper bound on what is left."
    ),
}
"""What each word means, in one sentence or two."""
