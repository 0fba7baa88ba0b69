"""Names of code outside the package: as a path, and by the entry points of an installed package."""

import sys

import pytest
from outside_package import write_package

from microg_da.adaptation import ADAPTATIONS
from microg_da.data import DATA, SCHEMES
from microg_da.data.options import parse_source
from microg_da.data.sources import open_source
from microg_da.errors import InputError
from microg_da.models import MODELS, create_detector
from microg_da.registry import Entry, Registry, is_path, short_name
from microg_da.validation import VALIDATORS, validators_for


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The package of somebody else, importable, with its entry points."""
    monkeypatch.syspath_prepend(write_package(tmp_path / "site", installed=True))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "outside_lab"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "yes"),
    [
        ("a:B", True),
        ("a.b:C.d", True),
        ("a", False),
        ("a:", False),
        (":b", False),
        ("a:b:c", False),
        ("a b:c", False),
        ("a:/b", False),
        ("a.:b", False),
        ("", False),
    ],
)
def test_what_is_a_path(name, yes):
    assert is_path(name) is yes


def test_short_names_can_be_file_names():
    assert short_name("my.lab:Method") == "Method"
    assert short_name("dann") == "dann"


def test_a_path_loads_what_it_names(outside):
    assert ADAPTATIONS.load("outside_lab.methods:MeanDifference").__name__ == "MeanDifference"
    assert create_detector("outside_lab.networks:small", 3, width=5).feature_dim == 5
    assert create_detector("outside_lab.networks:Small", 3).head.stride == 8


def test_entry_points_are_names(outside):
    assert "small" in MODELS
    assert MODELS.entry("small").target == "outside_lab.networks:small"
    assert "outside-lab 1.2" in MODELS.entry("small").summary
    assert list(ADAPTATIONS)[-1] == "mean_difference"
    assert ADAPTATIONS.names("mean_d*") == ["mean_difference"]
    assert "noise" in DATA
    assert "thirds" in SCHEMES
    assert "spread" in VALIDATORS
    assert create_detector("small", 3).feature_dim == 4


def test_an_entry_point_cannot_take_a_name_of_the_package(outside):
    assert ADAPTATIONS.entry("dann").target == "microg_da.adaptation.dann:DANN"
    assert list(ADAPTATIONS).count("dann") == 1
    assert len(ADAPTATIONS) == len(set(ADAPTATIONS))


def test_without_the_package_its_names_are_unknown(tmp_path):
    with pytest.raises(InputError, match=r"unknown model 'small'.*r2plus1d_tiny"):
        MODELS.entry("small")
    assert len(Registry("thing", {"a": Entry("b:c", "")})) == 1


@pytest.mark.parametrize(
    ("registry", "name", "said"),
    [
        (ADAPTATIONS, "nowhere.methods:A", r"no module nowhere\b.*PYTHONPATH"),
        (ADAPTATIONS, "outside_lab.nothing:A", r"no module outside_lab\.nothing\b"),
        (
            ADAPTATIONS,
            "outside_lab.methods:MeanDiference",
            r"has no MeanDiference.*outside_lab\.methods:MeanDifference",
        ),
        (ADAPTATIONS, "outside_lab.methods:not_a_method", r"expected a class.*found 3"),
        (ADAPTATIONS, "collections:OrderedDict", r"expected a class derived from DomainAdaptation"),
        (ADAPTATIONS, "outside_lab.broken:A", r"cannot be imported: RuntimeError: out of order"),
        (ADAPTATIONS, "outside_lab.needy:A", r"needs a_package_that_nobody_has"),
        (MODELS, "outside_lab.networks:not_annotated", r"-> Backbone"),
        (MODELS, "os:system", r"-> Backbone"),
        (DATA, "outside_lab.data:not_annotated", r"DatasetFiles or ClipSource"),
        (DATA, "os:system", r"DatasetFiles or ClipSource"),
        (SCHEMES, "os:getcwd", r"annotations"),
        (VALIDATORS, "outside_lab.scores:two", r"one Observed"),
        (VALIDATORS, "math:pi", r"one Observed"),
    ],
)
def test_what_is_missing_or_wrong_is_named(outside, registry, name, said):
    with pytest.raises(InputError, match=said) as error:
        registry.load(name, "some.key")
    assert str(error.value).startswith("some.key: ")
    assert name in str(error.value)


def test_a_builder_that_returns_something_else_is_refused(outside):
    with pytest.raises(InputError, match="expected a Backbone"):
        create_detector("outside_lab.networks:wrong")


def test_a_source_may_name_a_function(outside):
    source = parse_source("outside_lab.data:open_clips:/a/path?num_clips=3")
    assert (source.kind, source.path, source.options) == ("outside_lab.data:open_clips", "/a/path", {"num_clips": "3"})
    assert str(source) == "outside_lab.data:open_clips:/a/path?num_clips=3"
    for text in ("outside_lab.data:open_clips:", "outside_lab.data:open_clips"):
        with pytest.raises(InputError):
            parse_source(text)


def request(**changes):
    return {
        "split": "test", "taxonomy": "microg50", "num_frames": 2, "sampling_rate": 1, "image_size": 48, "labelled": True,
        "train": False, **changes,
    }  # fmt: skip


def test_a_function_opens_clips(outside):
    clips = open_source(f"outside_lab.data:open_clips:{outside}?num_clips=3", **request())
    assert len(clips) == 3
    assert clips[0].labels.shape[1] == 50


def test_a_function_reads_tables_and_another_divides_them(outside):
    text = f"outside_lab.data:read_tables:{outside}?scheme=outside_lab.data:thirds"
    assert [len(open_source(text, **request(split=split))) for split in ("train", "val", "test")] == [5, 5, 5]
    assert len(open_source(f"noise:{outside}?scheme=thirds", **request())) == 5
    clips = open_source(text, **request())
    assert clips[0].frames.shape == (3, 2, 54, 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outside_lab.data:open_clips:{}?num_clip=3", "num_clip"),
        ("outside_lab.data:two_arguments:{}", "two_arguments.*request"),
        ("outside_lab.data:read_tables:{}/nowhere", "not found"),
        ("outside_lab.data:read_tables:{}?num_clips=3", "unknown option 'num_clips'"),
        ("outside_lab.data:read_tables:{}?scheme=outside_lab.data:no_division", "expected a Division"),
        ("outside_lab.data:read_tables:{}?scheme=outside_lab.data:no_scheme", "no_scheme"),
    ],
)
def test_a_function_that_cannot_be_called_so_is_refused(outside, text, said):
    with pytest.raises(InputError, match=said):
        open_source(text.format(outside), **request())


def test_a_validator_of_another_package_is_scored_where_it_selects(outside):
    assert validators_for("last") == tuple(VALIDATORS)
    assert validators_for("validator:outside_lab.scores:spread")[-1] == "outside_lab.scores:spread"
    assert validators_for("validator:entropy") == tuple(VALIDATORS)
