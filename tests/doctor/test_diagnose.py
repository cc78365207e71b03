"""What runs, what is silenced, what is said of rules that cannot look, and what fix does."""

import pytest
import torch
from torch import nn

import batchnorm as bn
from batchnorm.doctor import Config, Context, Rule, all_rules, diagnose, read_config
from batchnorm.doctor._examine import examine


def biased() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        nn.ReLU(),
    )


def paths(diagnosis) -> list[str]:
    return [finding.path for finding in diagnosis]


class Told(Rule):
    """Says what it is told; the rule of tests."""

    code, name, severity, depth = "BN999", "told", "error", "tree"

    def __init__(self, **facts) -> None:
        self.__dict__.update(facts)

    def check(self, context):
        yield self.finding("0", "something", "Do something", value=float("nan"))


class Failing(Told):
    def check(self, context):
        yield from ()
        raise ZeroDivisionError("of the rule")


class TestSuppression:
    @pytest.mark.parametrize("codes", ["all", {"BN001"}, ["redundant-bias", "BN7"], "BN001"])
    def test_a_module_spares_itself_and_all_below(self, codes) -> None:
        model = biased()
        model[0].batchnorm_ignore = codes

        diagnosis = diagnose(model, select=["BN001"], config={})

        assert paths(diagnosis) == ["1.0"]
        assert diagnosis.suppressed == 1
        assert "silenced by batchnorm_ignore: 1" in str(diagnosis)

    def test_the_model_spares_everything(self) -> None:
        model = biased()
        model.batchnorm_ignore = {"BN001"}
        assert paths(diagnose(model, select=["BN001"], config={})) == []

    def test_another_code_does_not_count(self) -> None:
        model = biased()
        model[0][0].batchnorm_ignore = {"BN002"}
        assert paths(diagnose(model, select=["BN001"], config={})) == ["0.0", "1.0"]


class TestRulesThatCannotLook:
    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ({"depth": "live"}, "needs sample or loader"),
            ({"needs": ("optimizer", "loss_fn")}, "needs optimizer and loss_fn"),
            ({"needs": ("distributed",)}, "needs distributed"),
        ],
    )
    def test_say_what_they_need(self, facts, reason) -> None:
        diagnosis = examine(Context(biased()), [Told(**facts)])

        assert [(skip.code, skip.reason, skip.failed) for skip in diagnosis.skipped] == [
            ("BN999", reason, False)
        ]
        assert diagnosis.exit_code == 0
        assert f"did not look: BN999: {reason}" in str(diagnosis)

    def test_a_model_that_cannot_run_is_said(self) -> None:
        context = Context(biased(), torch.randn(2, 5, 8, 8))

        (skip,) = examine(context, [Told(depth="live")]).skipped

        assert "cannot run in eval mode" in skip.reason
        assert "expected input" in skip.reason

    def test_a_rule_that_fails_stops_no_other_and_is_no_success(self) -> None:
        diagnosis = examine(Context(biased()), [Failing(code="BN998"), Told(severity="info")])

        assert [f.code for f in diagnosis] == ["BN999"]
        assert "ZeroDivisionError('of the rule')" in diagnosis.skipped[0].reason
        assert diagnosis.skipped[0].failed
        assert diagnosis.exit_code == 1


class TestExitCode:
    @pytest.mark.parametrize(("severity", "code"), [("info", 0), ("warning", 1), ("error", 1)])
    def test_info_is_no_fault(self, severity, code) -> None:
        assert examine(Context(biased()), [Told(severity=severity)]).exit_code == code

    def test_nothing_found(self) -> None:
        diagnosis = diagnose(nn.ReLU(), select=["BN001"], config={})
        assert (len(diagnosis), diagnosis.exit_code, diagnosis.codes) == (0, 0, [])


class TestSelection:
    @staticmethod
    def codes(**options) -> list[str]:
        return [rule.code for rule in Config(**options).rules()]

    def test_all_but_the_noisy_ones(self) -> None:
        every = [rule.code for rule in all_rules()]
        assert self.codes() == [code for code in every if not code.startswith("BN4")]
        assert self.codes(select=("ALL",)) == every

    def test_the_closer_entry_wins(self) -> None:
        assert self.codes(select=("BN001",), ignore=("BN0",)) == ["BN001"]
        assert "BN001" not in self.codes(select=("BN0",), ignore=("BN001",))
        assert "BN002" in self.codes(select=("BN0",), ignore=("BN001",))
        assert self.codes(select=("BN001",), ignore=("redundant-bias",)) == []

    def test_names_and_small_letters_will_do(self) -> None:
        assert self.codes(select=("redundant-bias", "bn002")) == ["BN001", "BN002"]

    @pytest.mark.parametrize("entry", ["BN9", "redundant", "E501"])
    def test_what_fits_no_rule_is_refused(self, entry) -> None:
        with pytest.raises(ValueError, match=f"no rule is called '{entry}'"):
            diagnose(biased(), ignore=[entry], config={})


class TestSettings:
    def test_are_found_above_this_folder(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text('[tool.batchnorm.doctor]\nselect = ["BN002"]\n')
        monkeypatch.chdir(tmp_path / "deep" / "er")

        assert read_config() == Config(select=("BN002",))
        assert paths(diagnose(biased())) == []
        assert paths(diagnose(biased(), select=["BN001"])) == ["0.0", "1.0"]
        assert paths(diagnose(biased(), select=["BN001"], ignore=["BN001"])) == []

    def test_a_pyproject_without_the_table_is_fine(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        monkeypatch.chdir(tmp_path)
        assert read_config() == Config()

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"selekt": []}, "unknown setting 'selekt'. Use one of select, ignore, batches"),
            ({"batches": 0}, "batches=0. Use a positive whole number"),
            ({"batches": True}, "batches=True"),
            ({"select": [1]}, "select=.1."),
        ],
    )
    def test_what_is_wrong_in_them_is_said(self, settings, said) -> None:
        with pytest.raises(ValueError, match=said):
            read_config(settings)

    def test_commas_separate(self) -> None:
        assert read_config({"ignore": "BN1, BN2"}).ignore == ("BN1", "BN2")


class TestFix:
    def test_everything_curable_is_cured_and_undone(self) -> None:
        model, x = biased(), torch.randn(4, 3, 8, 8)
        for norm in (model[0][1], model[1][1]):
            norm.running_mean.normal_()
        expected = model.eval()(x)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        held = [list(group["params"]) for group in optimizer.param_groups]

        diagnosis = diagnose(model, x, optimizer=optimizer, select=["BN001"], fix=True, config={})

        assert paths(diagnosis) == []
        assert [fixed.finding.path for fixed in diagnosis.fixed] == ["0.0", "1.0"]
        assert [len(group["params"]) for group in optimizer.param_groups] == [6]
        bound = 100 * torch.finfo(x.dtype).eps * expected.abs().max()
        assert (model(x) - expected).abs().max() <= bound
        assert all(proof.max_rel < 1e-4 for f in diagnosis.fixed for proof in f.report.proofs)
        assert len(diagnosis.fixed[0].report.proofs) == 4

        diagnosis.undo()
        assert all(model.state_dict()[name].equal(tensor) for name, tensor in before.items())
        assert [list(g["params"]) for g in optimizer.param_groups] == held

    def test_a_proof_that_fails_takes_the_fix_back(self) -> None:
        class Particular(nn.Sequential):
            def forward(self, x):
                assert self[0].bias is not None
                return super().forward(x)

        model = Particular(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        bias = model[0].bias

        diagnosis = diagnose(model, torch.randn(4, 3, 8, 8), select=["BN001"], fix=True, config={})

        assert model[0].bias is bias
        assert not diagnosis.fixed
        assert [skip.failed for skip in diagnosis.skipped] == [True]

    def test_what_is_silenced_stays(self) -> None:
        model = biased()
        model[0].batchnorm_ignore = "all"

        diagnosis = diagnose(model, select=["BN001"], fix=True, config={})

        assert [fixed.finding.path for fixed in diagnosis.fixed] == ["1.0"]
        assert model[0][0].bias is not None

    def test_a_fix_that_cannot_be_done_is_said_and_the_rest_goes_on(self) -> None:
        class Stubborn(Told):
            fixable = True

            def fix(self, context, finding):
                raise RuntimeError("glued")

        from batchnorm.doctor._fix import cure

        fixed, failures = cure(lambda: Context(biased()), [Stubborn(), *Config(("BN001",)).rules()])

        assert [f.finding.path for f in fixed] == ["0.0", "1.0"]
        assert [skip.reason for skip in failures] == ["0 could not be fixed: glued"]

    def test_nothing_is_touched_without_it(self) -> None:
        model = biased()
        diagnose(model, torch.randn(4, 3, 8, 8), select=["BN001"], config={})
        assert model[0][0].bias is not None


def test_findings_are_found_behind_a_compiled_model() -> None:
    assert paths(diagnose(torch.compile(biased()), select=["BN001"], config={})) == ["0.0", "1.0"]


def test_data_parallel_is_taken_off_and_told() -> None:
    wrapped = nn.DataParallel(biased())

    assert paths(diagnose(wrapped, select=["BN001"], config={})) == ["0.0", "1.0"]
    assert Context(wrapped).distributed.wrapper == "DataParallel"


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: biased().to("meta"), "tensors on the meta device"),
        (lambda: torch.jit.script(biased()), "a ScriptModule"),
    ],
)
def test_a_model_that_cannot_be_looked_into_is_refused(make, got) -> None:
    with pytest.raises(ValueError, match=f"Got {got}"):
        diagnose(make(), config={})


def test_an_exported_program_has_no_modes_and_that_is_said() -> None:
    x = torch.randn(4, 3, 8, 8)
    program = torch.export.export(biased().eval(), (x,)).module()

    (skip,) = examine(Context(program, x), [Told(depth="live")]).skipped

    assert "cannot run in eval mode: NotImplementedError" in skip.reason


def test_every_rule_runs_on_a_model_without_batch_norm() -> None:
    batches = [(torch.randn(4, 3), torch.zeros(4, 2))] * 3
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    diagnosis = bn.diagnose(
        *(model, batches[0][0]),
        loader=batches,
        optimizer=optimizer,
        loss_fn=nn.MSELoss(),
        distributed=2,
        select=["ALL"],
        config={},
    )

    assert list(diagnosis) == []
    assert diagnosis.skipped == []
