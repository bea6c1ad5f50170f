from response_factory import make_responses

from dosimeter.analysis.tables import build_tables
from dosimeter.report import summarise
from dosimeter.responses import Responses


def test_a_network_whose_every_image_failed_makes_the_run_incomplete() -> None:
    run = make_responses(cohorts={"xray-268": "xray"}, epsilons=(0.0, 0.009), n_cases=8)
    failed = run.frame.assign(status=run.frame["status"].where(run.frame["model"] != "vgg16", "error"))
    run = Responses(failed, run.meta)
    summary = summarise(run, build_tables(run))
    assert summary["status"] == "incomplete"
    assert summary["n_failed"] >= 8
