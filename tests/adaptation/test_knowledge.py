"""What methods know of the shift, as their classes say it and as `list` shows it."""

import pytest

from microg_da.adaptation import ADAPTATIONS, knowledge
from microg_da.config import load_config


@pytest.mark.parametrize("name", list(ADAPTATIONS))
def test_the_list_says_what_the_class_says(name):
    known = ADAPTATIONS.load(name).knowledge
    expected = ", ".join(word.replace("_", " ") for word in ("rolls", "class_rates") if word in known) or "–"
    assert ADAPTATIONS.entry(name).facts == {"knows": expected}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["adaptation=dann"], set()),
        (["adaptation=dann", "adaptation.rotation=180"], {"rolls"}),
        (["adaptation=cdan", "adaptation.test_time=roll_tta"], {"rolls"}),
        (["adaptation=self_training"], {"rolls", "class_rates"}),
        (["adaptation=instance_mixing", "adaptation.test_time=roll_tta"], {"rolls", "class_rates"}),
    ],
)
def test_a_run_knows_what_its_methods_and_its_rolls_know(words, expected):
    assert knowledge(load_config("ava2microg", words)) == expected
