import pytest

from keras_ae import budgets
from keras_ae.errors import ConfigurationError


def test_each_stage_of_a_ladder_continues_the_previous_one():
    assert budgets.stages(budgets.parse("10, 100,500")) == ((0, 10), (10, 100), (100, 500))


@pytest.mark.parametrize("text", ["", "0", "-1", "10,10", "100,10", "10,x", "1.5", "10,,20"])
def test_budgets_that_are_not_increasing_positive_integers_are_refused(text):
    with pytest.raises(ConfigurationError, match="increasing positive integers") as raised:
        budgets.parse(text)
    assert repr(text) in str(raised.value)
