"""Laws of every rule, checked on its fixtures."""

import inspect
import re

import pytest

from batchnorm.doctor import all_rules, diagnose
from tests.doctor.cases import FOLDER, RULES, cases
from tests.doctor.pictures import assert_same, picture

SECTIONS = ("Checks", "Why it hurts", "Example", "Instead", "Is the fix safe", "Source")


def look(facts: dict, code: str, **options):
    facts = {name: value for name, value in facts.items() if name != "expect"}
    return diagnose(facts.pop("model"), **facts, select=[code], config={}, **options)


def named(expect: list, rule) -> list[tuple[str, str]]:
    return [(item, rule.severity) if isinstance(item, str) else tuple(item) for item in expect]


@pytest.mark.parametrize("case", cases("bad"), ids=str)
def test_a_bad_model_gets_exactly_the_findings_it_deserves(case) -> None:
    facts = case.build()

    diagnosis = look(facts, case.code)

    assert not diagnosis.skipped
    assert [(f.path, f.severity) for f in diagnosis] == named(facts["expect"], case.rule)
    assert all(finding.code == case.code for finding in diagnosis)


@pytest.mark.parametrize("case", cases("good"), ids=str)
def test_a_good_model_gets_none(case) -> None:
    diagnosis = look(case.build(), case.code)

    assert not [skip for skip in diagnosis.skipped if skip.failed]
    assert not list(diagnosis)


@pytest.mark.parametrize("case", [*cases("bad"), *cases("good")], ids=str)
def test_looking_changes_nothing(case) -> None:
    facts = case.build()
    model, optimizer = facts["model"], facts.get("optimizer")
    before = picture(model, optimizer)

    look(facts, case.code)

    assert_same(picture(model, optimizer), before)


@pytest.mark.parametrize("case", [c for c in cases("bad") if c.rule.fixable], ids=str)
def test_a_fix_cures_and_can_be_undone(case) -> None:
    facts = case.build()
    before = {name: tensor.clone() for name, tensor in facts["model"].state_dict().items()}
    curable = [finding.path for finding in look(facts, case.code) if finding.fixable]

    diagnosis = look(facts, case.code, fix=True)

    assert sorted(fixed.finding.path for fixed in diagnosis.fixed) == sorted(curable)
    assert not [finding for finding in diagnosis if finding.fixable]
    diagnosis.undo()
    after = facts["model"].state_dict()
    assert list(after) == list(before)
    assert all(after[name].equal(tensor) for name, tensor in before.items())


@pytest.mark.parametrize("case", [c for c in cases("bad") if c.rule.fixable], ids=str)
def test_all_fixes_together_are_undone_together(case) -> None:
    facts = case.build()
    model = facts["model"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = [type(module) for module in model.modules()]

    diagnosis = look(facts, "ALL", fix=True)

    assert not [skip for skip in diagnosis.skipped if skip.failed]
    assert not [finding for finding in diagnosis if finding.fixable]
    diagnosis.undo()
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    assert [type(module) for module in model.modules()] == kinds


@pytest.mark.parametrize("rule", all_rules(), ids=lambda rule: rule.code)
class TestEveryRule:
    def test_has_a_page(self, rule) -> None:
        page = inspect.getdoc(type(rule))
        assert [s for s in SECTIONS if not re.search(rf"^{s}: ", page, re.MULTILINE)] == []

    def test_has_both_fixtures(self, rule) -> None:
        for kind in ("bad", "good"):
            assert [case for case in cases(kind) if case.code == rule.code], f"{kind} {rule.code}"

    def test_lives_in_a_file_of_its_name(self, rule) -> None:
        stem = type(rule).__module__.split(".")[-1]
        assert stem == f"{rule.code.lower()}_{rule.name.replace('-', '_')}"

    def test_says_what_it_is(self, rule) -> None:
        assert re.fullmatch(r"BN[0-4]\d\d", rule.code)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
        assert rule.severity in ("error", "warning", "info")
        assert rule.depth in ("tree", "trace", "live")
        assert rule.fixable == ("fix" in vars(type(rule)))


def test_codes_and_names_are_unique() -> None:
    rules = all_rules()
    assert len(rules) == len(RULES) == len({rule.name for rule in rules})


def test_no_fixture_is_left_over() -> None:
    assert {folder.name for folder in FOLDER.iterdir()} - {"__pycache__"} <= set(RULES)
