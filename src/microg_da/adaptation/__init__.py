"""Adaptation methods: one file and one registry line each.

To add a method to the package, write ``adaptation/my_method.py`` with a class derived from
:class:`microg_da.adaptation.base.DomainAdaptation` or another class of that module, and add its line to the table. A
method of another package is named as ``package.module:Class`` or by an entry point of the group
``microg_da.adaptations``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microg_da.registry import Entry, Registry

if TYPE_CHECKING:
    from microg_da.config import Config

ADAPTATIONS = Registry(
    "adaptation",
    {
        "source_only": Entry(
            "microg_da.adaptation.source_only:SourceOnly",
            "no adaptation: the lower bound every method is measured from",
            {"knows": "–"},
        ),
        "adabn": Entry(
            "microg_da.adaptation.adabn:AdaBN",
            "batch-norm statistics re-estimated on unlabelled target clips (Li et al. 2018)",
            {"knows": "–"},
        ),
        "roll_tta": Entry(
            "microg_da.adaptation.roll_tta:RollTTA",
            "ours, at test time: every clip is seen under several rolls, averaged by confidence",
            {"knows": "rolls"},
        ),
        "gravity_frame": Entry(
            "microg_da.adaptation.gravity_frame:GravityFrame",
            "at test time: each person's up is estimated, and clips are turned upright (Kaba et al. 2023)",
            {"knows": "rolls"},
        ),
        "learned_canonicalization": Entry(
            "microg_da.adaptation.learned_canonicalization:LearnedCanonicalization",
            "at test time: a small equivariant network turns whole clips (Kaba et al. 2023, Mondal et al. 2023)",
            {"knows": "rolls"},
        ),
        "energy_canonicalization": Entry(
            "microg_da.adaptation.energy_canonicalization:EnergyCanonicalization",
            "at test time: the roll of least energy, behind a gate (Singhal et al. 2025, Schmidt et al. 2026)",
            {"knows": "rolls"},
        ),
        "tent": Entry(
            "microg_da.adaptation.tent:Tent",
            "at test time: batch norm on the batch's statistics, made surer by entropy (Wang et al. 2021)",
            {"knows": "–"},
        ),
        "sar": Entry(
            "microg_da.adaptation.sar:SAR",
            "at test time: entropy of reliable people, at a flat minimum, reset on collapse (Niu et al. 2023)",
            {"knows": "–"},
        ),
        "vitta": Entry(
            "microg_da.adaptation.vitta:ViTTA",
            "at test time: feature statistics drawn to the source's, temporal views agree (Lin et al. 2023)",
            {"knows": "–"},
        ),
        "memo": Entry(
            "microg_da.adaptation.memo:MEMO",
            "at test time: answers averaged over rolls and mirror images become sure (Zhang et al. 2022)",
            {"knows": "rolls"},
        ),
        "eata": Entry(
            "microg_da.adaptation.eata:EATA",
            "at test time: entropy of people who are sure and new, near the tested weights (Niu et al. 2022)",
            {"knows": "–"},
        ),
        "cotta": Entry(
            "microg_da.adaptation.cotta:CoTTA",
            "at test time: a moving-average teacher labels, weights keep being restored (Wang et al. 2022)",
            {"knows": "–"},
        ),
        "rotta": Entry(
            "microg_da.adaptation.rotta:RoTTA",
            "at test time: a teacher labels a balanced memory, batch norm moves slowly (Yuan et al. 2023)",
            {"knows": "–"},
        ),
        "bem": Entry(
            "microg_da.adaptation.bem:BEM",
            "at test time: the classes a person probably has become surer together (Wu et al. 2025)",
            {"knows": "rolls"},
        ),
        "temporal_static": Entry(
            "microg_da.adaptation.temporal_static:TemporalStatic",
            "ours, at test time: what a clip says less what its still picture says (after Wei et al. 2026)",
            {"knows": "–"},
        ),
        "dann": Entry(
            "microg_da.adaptation.dann:DANN",
            "domain-adversarial RoI features by gradient reversal (Ganin et al. 2016)",
            {"knows": "–"},
        ),
        "cdan": Entry(
            "microg_da.adaptation.cdan:CDAN",
            "as dann, the domain classifier knowing the predicted probability of every class (Long et al. 2018)",
            {"knows": "–"},
        ),
        "sdat": Entry(
            "microg_da.adaptation.sdat:SDAT",
            "as cdan, at a flat minimum of the labels' loss (Rangwani et al. 2022)",
            {"knows": "–"},
        ),
        "sada": Entry(
            "microg_da.adaptation.sada:SADA",
            "as dann, with a domain classifier of each class (after Pujol-Perich et al. 2025, Pei et al. 2018)",
            {"knows": "–"},
        ),
        "mmd": Entry(
            "microg_da.adaptation.mmd:MMD",
            "RoI features with the same means in the space of several Gaussian kernels (Long et al. 2015)",
            {"knows": "–"},
        ),
        "coral": Entry(
            "microg_da.adaptation.coral:CORAL",
            "RoI features with the same covariance in both domains (Sun & Saenko 2016)",
            {"knows": "–"},
        ),
        "mcd": Entry(
            "microg_da.adaptation.mcd:MCD",
            "two classifiers disagree about target people, features undo that (Saito et al. 2018)",
            {"knows": "–"},
        ),
        "dda_mlic": Entry(
            "microg_da.adaptation.dda_mlic:DDAMLIC",
            "the classifier as its own critic: probabilities distributed alike in both domains (Singh et al. 2024)",
            {"knows": "–"},
        ),
        "mcc": Entry(
            "microg_da.adaptation.mcc:MCC",
            "target predictions in which no class is confused with its absence (Jin et al. 2020)",
            {"knows": "–"},
        ),
        "mean_teacher": Entry(
            "microg_da.adaptation.mean_teacher:MeanTeacher",
            "self-training: a moving-average teacher labels people as they are, the student sees them rolled",
            {"knows": "rolls, class rates"},
        ),
        "mic": Entry(
            "microg_da.adaptation.mic:MIC",
            "self-training: a moving-average teacher labels people, the student sees patches (Hoyer et al. 2023)",
            {"knows": "class rates"},
        ),
        "self_training": Entry(
            "microg_da.adaptation.self_training:SelfTraining",
            "ours: soft labels averaged over camera rolls, made in rounds (after Lee 2013)",
            {"knows": "rolls, class rates"},
        ),
        "gravity_self_training": Entry(
            "microg_da.adaptation.gravity_self_training:GravitySelfTraining",
            "ours: self-training on target clips that are turned upright, angles and labels made in rounds",
            {"knows": "rolls, class rates"},
        ),
        "gravity_training": Entry(
            "microg_da.adaptation.gravity_training:GravityTraining",
            "ours: any training method, on target clips that are turned upright",
            {"knows": "rolls"},
        ),
        "shot": Entry(
            "microg_da.adaptation.shot:SHOT",
            "without source clips: sure predictions at unchanged class rates, and pseudo-labels (Liang et al. 2020)",
            {"knows": "–"},
        ),
        "atcon": Entry(
            "microg_da.adaptation.atcon:ATCoN",
            "without source clips: temporal slices of a person agree, the surer count for more (Xu et al. 2022)",
            {"knows": "–"},
        ),
        "aad": Entry(
            "microg_da.adaptation.aad:AaD",
            "without source clips: neighbours in feature space agree, others disperse (Yang et al. 2022)",
            {"knows": "–"},
        ),
        "pets": Entry(
            "microg_da.adaptation.pets:PETS",
            "without source clips: two teachers, one of which changes places with the student (Liu et al. 2023)",
            {"knows": "–"},
        ),
        "dru": Entry(
            "microg_da.adaptation.dru:DRU",
            "without source clips: a teacher follows a student that gets surer, else it goes back (Khanh et al. 2024)",
            {"knows": "–"},
        ),
        "prototype_calibration": Entry(
            "microg_da.adaptation.prototype_calibration:PrototypeCalibration",
            "ours, without source clips: shot, and prototypes of classes and groups (terms of Li et al. 2025)",
            {"knows": "–"},
        ),
        "rotation_consistency": Entry(
            "microg_da.adaptation.rotation_consistency:RotationConsistency",
            "ours: predictions and features of target people agree between two camera rolls",
            {"knows": "rolls"},
        ),
        "rotation_pretext": Entry(
            "microg_da.adaptation.rotation_pretext:RotationPretext",
            "a head predicts the turn between two views of people of both domains (after Gidaris et al. 2018)",
            {"knows": "rolls"},
        ),
        "instance_mixing": Entry(
            "microg_da.adaptation.instance_mixing:InstanceMixing",
            "source people pasted into target clips, whose people a moving-average teacher labels (Lu et al. 2023)",
            {"knows": "class rates"},
        ),
        "source_finetune": Entry(
            "microg_da.adaptation.source_finetune:SourceFinetune",
            "no adaptation: the same training on source alone, to tell augmentation from adaptation",
            {"knows": "–"},
        ),
        "joint": Entry(
            "microg_da.adaptation.joint:Joint",
            "oracle: trained on labelled source and labelled target together",
            {"knows": "–"},
        ),
        "target_supervised": Entry(
            "microg_da.adaptation.target_supervised:TargetSupervised",
            "oracle: trained on labelled target, the upper bound",
            {"knows": "–"},
        ),
    },
    group="microg_da.adaptations",
    check="microg_da.adaptation.base:check_outside_method",
)


def knowledge(config: Config) -> frozenset[str]:
    """Knowledge of a run about the shift between the domains, from its methods and the rolls of its adaptation stage.

    The words are those of :data:`microg_da.adaptation.base.Knowledge`. Figures of a run that knows
    something are to be compared with those of runs that know the same.

    Raises:
        InputError: if there is no such method.
    """
    settings = config.adaptation
    parts = ((settings.name, settings.args), (settings.test_time, settings.test_time_args))
    known: frozenset[str] = frozenset({"rolls"}) if settings.rotation else frozenset()
    return known.union(*(ADAPTATIONS.load(name).knowledge_with(args) for name, args in parts if name is not None))


def list_adaptations(pattern: str = "*") -> list[str]:
    """The names of the adaptation methods of this package and of installed packages with entry points.

    Example:
        >>> from microg_da import list_adaptations
        >>> list_adaptations("gravity_*")
        ['gravity_frame', 'gravity_self_training', 'gravity_training']

    Args:
        pattern: shell-style.
    """
    return ADAPTATIONS.names(pattern)


def uses_target_labels(config: Config) -> bool:
    """Whether target labels take part in training or in choosing the adapted model: the run is an oracle.

    The classes of both methods are asked, which imports them.

    Raises:
        InputError: if there is no such method.
    """
    if config.oracle or config.selection == "oracle":
        return True
    names = (config.adaptation.name, config.adaptation.test_time)
    return any(ADAPTATIONS.load(name).uses_target_labels for name in names if name is not None)


__all__ = ["ADAPTATIONS", "knowledge", "list_adaptations", "uses_target_labels"]
