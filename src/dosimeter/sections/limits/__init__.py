"""Limits: what does not follow from the run."""

from dosimeter.analysis.visibility import reader_statement
from dosimeter.presentation.section import Page, Reading, Section, fill
from dosimeter.sections.limits.sentences import attackers, limits, simulations, untested


class Limits(Section):
    """Limits."""

    title = "Limits"
    note = "what does not follow from the run"
    rank = 130

    def page(self, run: Reading) -> Page:
        """Return the section's own lay-out."""
        first, firsts, several = run.first, run.firsts, run.patients_repeat
        models = list(first.frame["model"].unique())
        body = fill(
            __name__,
            number=run.numbers,
            readers=reader_statement(run.meta),
            subject=run.subject,
            attackers=attackers(first.frame),
            limits=[
                untested(first.frame),
                *limits(first, firsts["clean_metrics"], models, several=several),
                *simulations(firsts, several=several, readers=bool(first.meta.get("readers"))),
            ],
        )
        return Page(body)


ENTRY: Section = Limits()
