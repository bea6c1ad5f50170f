"""Pictures that travel with facts: PNG in base64, small, and proved to open."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator

MAX_PICTURE = 8_000_000
"""Characters of a picture in base64: a photograph of 1,500 x 1,500 pixels."""

PNG = b"\x89PNG\r\n\x1a\n"


def check_picture(text: str) -> str:
    """Return `text` if it is a PNG in base64 that can be opened, or raise ValueError."""
    from io import BytesIO

    from PIL import Image

    if len(text) > MAX_PICTURE:
        raise ValueError(f"a picture must have at most {MAX_PICTURE} characters")
    try:
        content = base64.b64decode(text, validate=True)
        if not content.startswith(PNG):
            raise ValueError("a picture must be a PNG")
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > MAX_PICTURE:
                raise ValueError("a picture must be small")
            image.load()
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("a picture must be a whole PNG in base64") from error
    return text


Picture = Annotated[str, AfterValidator(check_picture)]
