"""A classifier behind HTTP, asked for scores or labels; see `models.endpoint`."""

import hashlib
import json

from dosimeter.cache import cache_dir
from dosimeter.errors import DosimeterError
from dosimeter.models.endpoint import Client
from dosimeter.models.identity import probes
from dosimeter.models.queried import Queried
from dosimeter.models.source import Brought, Source
from dosimeter.record.model_card import LIMITS, ModelCard


def load(card: ModelCard) -> Brought:
    """Return the endpoint as a network without gradients.

    It is named by the card and by what it answers about fixed images now, so that another model behind the same address
    is another network.

    Raises:
        DosimeterError: the card says no endpoint or no size; or the endpoint fails.
    """
    if card.endpoint is None or card.size_px is None:
        lacking = "[endpoint]" if card.endpoint is None else "size_px, of the images that are sent"
        raise DosimeterError(f"the model card of {card.name} must say {lacking}.")
    sides = card.size_px if isinstance(card.size_px, tuple) else (card.size_px, card.size_px)
    first = Client(card.endpoint, card.classes, None, outputs=card.outputs)
    answers = [[f"{value:.3g}" for value in first.fresh(image)] for image in probes(*sides).numpy()]
    told = [card.model_dump(mode="json", exclude=LIMITS)]
    identity = hashlib.sha256(json.dumps([told, answers], sort_keys=True, default=str).encode()).hexdigest()
    store = cache_dir() / "answers" / f"{identity[:24]}.sqlite"
    client = Client(card.endpoint, card.classes, store, outputs=card.outputs)
    return Brought(
        Queried(client, "decisions" if card.outputs == "labels" else "scores"),
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        identity=f"http {identity}",
        note="It was asked over HTTP, without gradients.",
    )


ENTRY = Source("a classifier behind HTTP (endpoint), asked for scores or labels", load)
