"""The records behind `comparison.json`, and the schema that is generated from them."""

import json

import pytest
from pydantic import ValidationError

from keras_ae.comparison import records
from keras_ae.comparison.records import Comparison, Estimate
from keras_ae.errors import DataError
from tests.keras_ae.report.reports import RUN, VERDICT, make_comparison


def test_the_schema_file_is_up_to_date():
    assert records.SCHEMA.read_text() == records.schema(), (
        "run: python -m keras_ae.comparison.records"
    )


def test_every_field_is_described():
    found = json.loads(records.schema())
    parts = {"Comparison": found, **found["$defs"]}
    for name, part in parts.items():
        # The docstring of presets describes their fields.
        for field, schema in {} if name == "Preset" else part.get("properties", {}).items():
            ref = schema.get("$ref", "").rpartition("/")[2]
            assert schema.get("description") or parts[ref]["description"], (name, field)


@pytest.mark.parametrize("full", [True, False])
def test_a_comparison_is_written_as_it_was_read(full, tmp_path):
    comparison = make_comparison(full=full)
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    read = records.read(tmp_path / "comparison.json")
    assert json.loads(read.to_json()) == comparison
    assert (read.budgets[0].splits["val"], read.chosen_budget.epochs) == (
        read.budgets[0].splits.val,
        comparison["chosen"]["epochs"],
    )


def test_unknown_facts_of_a_run_are_not_written():
    for part in ({"preset": "medium"}, {"git": None}, {**RUN, "git": None}):
        assert json.loads(records.Run(**part).to_json()) == part
    unserved = {name: value for name, value in VERDICT.items() if name != "served"}
    assert json.loads(records.Verdict(**unserved).to_json()) == unserved


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(ValidationError, match="finite number"):
        Estimate(mean=value, interval=None)


def test_a_missing_mean_that_is_needed_is_an_error():
    with pytest.raises(DataError, match="the mean over zero images is not defined"):
        _ = Estimate(mean=None, interval=None).value


def changed(**parts) -> dict:
    return {**make_comparison(full=False), **parts}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", " is not JSON: EOF while parsing"),
        ("[]", " has version None; expected 1: run the pipeline again"),
        ("{}", " has version None; expected 1"),
        (json.dumps(changed(version=0)), " has version 0; expected 1"),
        (
            json.dumps(changed(tolerance="much")),
            r" is not a valid comparison: tolerance: expected a valid number.*; got 'much'$",
        ),
        (
            json.dumps(changed(tolerance=-1)),
            ": tolerance: expected greater than or equal to 0; got -1$",
        ),
        (
            json.dumps(changed(budgets=[])),
            r": budgets: Tuple should have at least 1 item.*got \[\]",
        ),
        (
            json.dumps(changed(chosen={"epochs": 10, "seed": 0, "reason": "", "test": {}})),
            ": chosen.test.images: expected the field, which is missing$",
        ),
        (json.dumps(changed(colour="red")), ": colour: expected no such field in version 1$"),
    ],
)
def test_an_invalid_file_is_refused_with_the_field_and_what_was_expected(content, reason, tmp_path):
    file = tmp_path / "comparison.json"
    file.write_text(content)
    with pytest.raises(DataError, match=f"^{file}.*{reason}"):
        records.read(file)


def test_a_record_cannot_be_changed():
    comparison = Comparison.model_validate(make_comparison())
    with pytest.raises(ValidationError, match="frozen"):
        comparison.tolerance = 0.2
