"""The page of a data audit by itself: one HTML file with everything in it, no script, nothing loaded from anywhere."""

from datetime import UTC, datetime

import dosimeter
from dosimeter.presentation.section import fill, read_file
from dosimeter.record.data_audit import DataAudit
from dosimeter.sections.data_audit import ENTRY
from dosimeter.sections.data_audit.page import body


def data_page(audit: DataAudit) -> str:
    """Return an audit as a page."""
    return str(
        fill(
            __package__,
            "data_page.html",
            title=f"Data audit: {audit.cohort}",
            css=read_file(__package__, "style.css") + ENTRY.css,
            body=body([audit.model_dump()]),
            version=dosimeter.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            phantom=audit.cohort.startswith("phantom-"),
        )
    )
