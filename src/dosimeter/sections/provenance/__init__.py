"""Provenance: images, seeds, splits, classifiers, engines, settings, machine and time."""

from dosimeter.presentation.section import Page, Reading, Section, fill


class Provenance(Section):
    """Provenance."""

    title = "Provenance"
    note = "command, digests, seeds, splits, classifiers, engines, settings, machine, time"
    rank = 120
    folded = True

    def page(self, run: Reading) -> Page:
        """Return the section's own lay-out."""
        stages = run.meta.get("stages", [])
        body = fill(
            __name__,
            meta=run.meta,
            engines=run.meta.get("engines", []),
            several="robust_accuracy" in run.firsts,
            stages=stages,
            total_s=sum(stage["duration_s"] for stage in stages),
        )
        return Page(body)


ENTRY: Section = Provenance()
