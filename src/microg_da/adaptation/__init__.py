"""Adaptation methods: one file each, and one line here.

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
        ),
        "adabn": Entry(
            "microg_da.adaptation.adabn:AdaBN",
            "batch-norm statistics re-estimated on unlabelled target clips (Li et al. 2018)",
        ),
        "roll_tta": Entry(
            "microg_da.adaptation.roll_tta:RollTTA",
            "at test time: every clip is seen under several rolls, and predictions are averaged by confidence",
        ),
        "gravity_frame": Entry(
            "microg_da.adaptation.gravity_frame:GravityFrame",
            "at test time: each person's up is estimated, and clips are turned upright (Kaba et al. 2023)",
        ),
        "tent": Entry(
            "microg_da.adaptation.tent:Tent",
            "at test time: batch norm on the batch's statistics, made surer by entropy (Wang et al. 2021)",
        ),
        "sar": Entry(
            "microg_da.adaptation.sar:SAR",
            "at test time: entropy of reliable people, at a flat minimum, begun anew on collapse (Niu et al. 2023)",
        ),
        "vitta": Entry(
            "microg_da.adaptation.vitta:ViTTA",
            "at test time: feature statistics drawn to the source's, temporal views agree (Lin et al. 2023)",
        ),
        "dann": Entry(
            "microg_da.adaptation.dann:DANN",
            "domain-adversarial RoI features by gradient reversal (Ganin et al. 2016)",
        ),
        "cdan": Entry(
            "microg_da.adaptation.cdan:CDAN",
            "as dann, the domain classifier knowing the predicted probability of every class (Long et al. 2018)",
        ),
        "mmd": Entry(
            "microg_da.adaptation.mmd:MMD",
            "RoI features with the same means in the space of several Gaussian kernels (Long et al. 2015)",
        ),
        "coral": Entry(
            "microg_da.adaptation.coral:CORAL",
            "RoI features with the same covariance in both domains (Sun & Saenko 2016)",
        ),
        "mcd": Entry(
            "microg_da.adaptation.mcd:MCD",
            "the classifier as its own critic: probabilities distributed alike in both domains (Singh et al. 2024)",
        ),
        "mcc": Entry(
            "microg_da.adaptation.mcc:MCC",
            "target predictions in which no class is confused with its absence (Jin et al. 2020)",
        ),
        "mean_teacher": Entry(
            "microg_da.adaptation.mean_teacher:MeanTeacher",
            "self-training: a moving-average teacher labels people as they are, the student sees them rolled",
        ),
        "self_training": Entry(
            "microg_da.adaptation.self_training:SelfTraining",
            "soft labels averaged over camera rolls, made anew in rounds (Lee 2013)",
        ),
        "gravity_self_training": Entry(
            "microg_da.adaptation.gravity_self_training:GravitySelfTraining",
            "self-training on target clips that are turned upright, angles and labels made in rounds",
        ),
        "shot": Entry(
            "microg_da.adaptation.shot:SHOT",
            "without source clips: sure predictions at unchanged class rates, and pseudo-labels (Liang et al. 2020)",
        ),
        "atcon": Entry(
            "microg_da.adaptation.atcon:ATCoN",
            "without source clips: temporal slices of a person agree, the surer count for more (Xu et al. 2022)",
        ),
        "prototype_calibration": Entry(
            "microg_da.adaptation.prototype_calibration:PrototypeCalibration",
            "without source clips: people told differently by group and by action meet prototypes (Li et al. 2025)",
        ),
        "rotation_consistency": Entry(
            "microg_da.adaptation.rotation_consistency:RotationConsistency",
            "predictions and features of target people agree between two camera rolls",
        ),
        "rotation_pretext": Entry(
            "microg_da.adaptation.rotation_pretext:RotationPretext",
            "a head predicts the quarter turn of clips of both domains (Gidaris et al. 2018)",
        ),
        "instance_mixing": Entry(
            "microg_da.adaptation.instance_mixing:InstanceMixing",
            "target people pasted into source clips, labelled by a moving-average teacher (Lu et al. 2022)",
        ),
        "source_finetune": Entry(
            "microg_da.adaptation.source_finetune:SourceFinetune",
            "no adaptation: the same training on source alone, to tell augmentation from adaptation",
        ),
        "joint": Entry(
            "microg_da.adaptation.joint:Joint",
            "oracle: trained on labelled source and labelled target together",
        ),
        "target_supervised": Entry(
            "microg_da.adaptation.target_supervised:TargetSupervised",
            "oracle: trained on labelled target, the upper bound",
        ),
    },
    group="microg_da.adaptations",
    check="microg_da.adaptation.base:check_outside_method",
)


def list_adaptations(pattern: str = "*") -> list[str]:
    """The names of the adaptation methods of this package and of installed packages with entry points.

    Example:
        >>> from microg_da import list_adaptations
        >>> list_adaptations("gravity_*")
        ['gravity_frame', 'gravity_self_training']

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


__all__ = ["ADAPTATIONS", "list_adaptations", "uses_target_labels"]
