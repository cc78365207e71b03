"""A diagnosis as text, JSON, SARIF and GitHub's annotations."""

import inspect
import json
import math
import re

import pytest
import torch
from torch import nn

from batchnorm.doctor import Diagnosis, Finding, Skip, diagnose
from batchnorm.doctor.renderers import render_terminal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x):
        return self.body(x)


@pytest.fixture
def diagnosis() -> Diagnosis:
    return diagnose(Net(), select=["BN001"], config={})


LINE = inspect.getsourcelines(Net)[1]


def made(**facts) -> Diagnosis:
    defaults = {
        "code": "BN001",
        "name": "redundant-bias",
        "severity": "warning",
        "path": "a.b",
        "message": "100 % wrong",
        "remedy": "Do, then: see",
    }
    return Diagnosis([Finding(**{**defaults, **facts})], [Skip("BN002", "norm-on-output", "why")])


class TestTerminal:
    def test_shows_path_code_severity_and_remedy(self, diagnosis) -> None:
        first, row, *rest = str(diagnosis).splitlines()
        assert first == "batchnorm doctor: 1 warning; 1 rule looked"
        assert row.startswith("body.0  BN001*  warning  a bias of 4 values that batch norm takes")
        assert rest == ["* can be fixed: --fix, or fix=True"]

    def test_long_texts_are_wrapped_under_themselves(self) -> None:
        lines = render_terminal(made(message="word " * 40), width=60).splitlines()
        wrapped = [line for line in lines if "word" in line]
        assert len(wrapped) > 2
        assert max(map(len, wrapped)) <= 60
        assert len({line.index("word") for line in wrapped}) == 1

    def test_colors_only_when_asked(self) -> None:
        assert "\033[33mwarning\033[0m" in render_terminal(made(), color=True)
        assert "\033" not in str(made())

    def test_reasons_are_gathered(self) -> None:
        skips = [Skip(f"BN00{i}", "x", "needs loader") for i in (1, 2)]
        assert "did not look: BN001, BN002: needs loader" in str(Diagnosis([], skips))

    def test_counts_have_plurals(self) -> None:
        kinds = ["error", "warning", "warning", "info", "info"]
        findings = [Finding("BN001", "x", kind, "", "", "") for kind in kinds]
        assert "1 error, 2 warnings, 2 info; 0 rules" in str(Diagnosis(findings))

    def test_the_model_itself_has_a_name(self) -> None:
        assert "(model)  BN001" in str(made(path=""))


class TestJson:
    def test_has_everything(self, diagnosis) -> None:
        found = json.loads(diagnosis.to_json())
        (finding,) = found["findings"]
        assert finding["measured"] == {"parameters": 4, "norms": ["body.1"]}
        assert (finding["file"], finding["line"]) == (__file__, LINE)
        assert (found["exit_code"], found["rules"], found["format"]) == (1, 1, 1)

    def test_keeps_numbers_that_json_does_not_know(self) -> None:
        measured = {"worst": math.inf, "all": torch.tensor([1.0, math.nan]), "kind": torch.float16}
        text = made(measured=measured).to_json()
        assert json.loads(text)["findings"][0]["measured"] == {
            "worst": "inf",
            "all": [1.0, "nan"],
            "kind": "torch.float16",
        }

    def test_says_what_was_fixed_with_proof(self) -> None:
        diagnosis = diagnose(Net(), torch.randn(4, 3, 8, 8), select=["BN001"], fix=True, config={})
        (fixed,) = json.loads(diagnosis.to_json())["fixed"]
        assert fixed["path"] == "body.0"
        assert fixed["proofs"][0]["what"] == "outputs, eval"


class TestSarif:
    def test_is_what_the_standard_asks(self, diagnosis) -> None:
        log = json.loads(diagnosis.to_sarif())
        (run,) = log["runs"]
        (rule,) = run["tool"]["driver"]["rules"]
        (result,) = run["results"]
        assert log["version"] == "2.1.0"
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert rule["defaultConfiguration"]["level"] == result["level"] == "warning"
        assert "Why it hurts" in rule["help"]["text"]
        location = result["locations"][0]
        assert location["logicalLocations"][0]["fullyQualifiedName"] == "body.0"
        assert location["physicalLocation"]["region"]["startLine"] == LINE
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.endswith("test_renderers.py")
        assert run["invocations"][0]["executionSuccessful"] is True

    def test_a_fault_keeps_its_fingerprint_when_its_number_changes(self) -> None:
        prints = {
            json.loads(made(message=text).to_sarif())["runs"][0]["results"][0][
                "partialFingerprints"
            ]["batchnormFinding/v1"]
            for text in ("a bias of 4", "a bias of 8")
        }
        assert len(prints) == 1

    def test_info_is_a_note(self) -> None:
        result = json.loads(made(severity="info").to_sarif())["runs"][0]["results"][0]
        assert result["level"] == "note"

    def test_rules_that_failed_are_no_success(self) -> None:
        failed = Diagnosis([], [Skip("BN001", "x", "it failed", failed=True)])
        (invocation,) = json.loads(failed.to_sarif())["runs"][0]["invocations"]
        assert invocation["executionSuccessful"] is False


class TestGithub:
    def test_points_to_the_class_that_holds_the_layer(self, diagnosis, monkeypatch) -> None:
        monkeypatch.chdir(re.sub(r"/test_renderers.py$", "", __file__))
        assert diagnosis.to_github().startswith(
            f"::warning file=test_renderers.py,line={LINE},title=BN001 redundant-bias::body.0: a"
        )

    def test_escapes_what_github_would_misread(self) -> None:
        text = made(name="a,b:c", message="100 %\nwrong").to_github()
        assert text == ("::warning title=BN001 a%2Cb%3Ac::a.b: 100 %25%0Awrong. Do, then: see.")

    @pytest.mark.parametrize(("severity", "level"), [("error", "error"), ("info", "notice")])
    def test_levels_are_githubs(self, severity, level) -> None:
        assert made(severity=severity).to_github().startswith(f"::{level} ")
