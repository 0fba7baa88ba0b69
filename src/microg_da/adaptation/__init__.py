"""Adaptation methods: one file and one registry line each.

To add a method to the package, write ``adaptation/my_method.py`` with a class derived from
:class:`microg_da.adaptation.base.DomainAdaptation` or another class of that module, and add its line to the table.
Methods of other packages are named ``package.module:Class`` or by an entry point of the group
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
            "no adaptation: the lower bound of every comparison",
            {"knows": "–"},
        ),
        "adabn": Entry(
            "microg_da.adaptation.adabn:AdaBN",
            "batch-norm statistics re-estimated on unlabelled target clips (Li et al. 2018)",
            {"knows": "–"},
        ),
        "roll_tta": Entry(
            "microg_da.adaptation.roll_tta:RollTTA",
            "ours, at test time: predictions under several camera rolls, averaged by confidence",
            {"knows": "rolls"},
        ),
        "gravity_frame": Entry(
            "microg_da.adaptation.gravity_frame:GravityFrame",
            "at test time: estimates each person's up and turns clips upright (Kaba et al. 2023)",
            {"knows": "rolls"},
        ),
        "learned_canonicalization": Entry(
            "microg_da.adaptation.learned_canonicalization:LearnedCanonicalization",
            "at test time: an equivariant network turns whole clips (Kaba et al. 2023, Mondal et al. 2023)",
            {"knows": "rolls"},
        ),
        "energy_canonicalization": Entry(
            "microg_da.adaptation.energy_canonicalization:EnergyCanonicalization",
            "at test time: the roll of lowest energy, with a gate (Singhal et al. 2025, Schmidt et al. 2026)",
            {"knows": "rolls"},
        ),
        "tent": Entry(
            "microg_da.adaptation.tent:Tent",
            "at test time: entropy minimisation with batch-norm statistics of the batch (Wang et al. 2021)",
            {"knows": "–"},
        ),
        "sar": Entry(
            "microg_da.adaptation.sar:SAR",
            "at test time: sharpness-aware entropy of reliable people, reset on collapse (Niu et al. 2023)",
            {"knows": "–"},
        ),
        "vitta": Entry(
            "microg_da.adaptation.vitta:ViTTA",
            "at test time: alignment of feature statistics, consistent temporal views (Lin et al. 2023)",
            {"knows": "–"},
        ),
        "memo": Entry(
            "microg_da.adaptation.memo:MEMO",
            "at test time: entropy of the mean prediction over rolls and flips (Zhang et al. 2022)",
            {"knows": "rolls"},
        ),
        "eata": Entry(
            "microg_da.adaptation.eata:EATA",
            "at test time: entropy of reliable, non-redundant people, Fisher penalty (Niu et al. 2022)",
            {"knows": "–"},
        ),
        "cotta": Entry(
            "microg_da.adaptation.cotta:CoTTA",
            "at test time: moving-average teacher, stochastic restoration of weights (Wang et al. 2022)",
            {"knows": "–"},
        ),
        "rotta": Entry(
            "microg_da.adaptation.rotta:RoTTA",
            "at test time: a teacher labels a balanced memory, batch norm moves slowly (Yuan et al. 2023)",
            {"knows": "–"},
        ),
        "bem": Entry(
            "microg_da.adaptation.bem:BEM",
            "at test time: entropy of the bound top classes of each person (Wu et al. 2025)",
            {"knows": "rolls"},
        ),
        "temporal_static": Entry(
            "microg_da.adaptation.temporal_static:TemporalStatic",
            "ours, at test time: logits of the clip minus those of a still frame (after Wei et al. 2026)",
            {"knows": "–"},
        ),
        "dann": Entry(
            "microg_da.adaptation.dann:DANN",
            "domain-adversarial RoI features by gradient reversal (Ganin et al. 2016)",
            {"knows": "–"},
        ),
        "cdan": Entry(
            "microg_da.adaptation.cdan:CDAN",
            "dann with a domain classifier conditioned on the predicted probabilities (Long et al. 2018)",
            {"knows": "–"},
        ),
        "sdat": Entry(
            "microg_da.adaptation.sdat:SDAT",
            "cdan with sharpness-aware minimisation of the supervised loss (Rangwani et al. 2022)",
            {"knows": "–"},
        ),
        "sada": Entry(
            "microg_da.adaptation.sada:SADA",
            "as dann, with a domain classifier of each class (after Pujol-Perich et al. 2025, Pei et al. 2018)",
            {"knows": "–"},
        ),
        "mmd": Entry(
            "microg_da.adaptation.mmd:MMD",
            "matching means of RoI features under several Gaussian kernels (Long et al. 2015)",
            {"knows": "–"},
        ),
        "coral": Entry(
            "microg_da.adaptation.coral:CORAL",
            "matching covariances of RoI features (Sun & Saenko 2016)",
            {"knows": "–"},
        ),
        "mcd": Entry(
            "microg_da.adaptation.mcd:MCD",
            "discrepancy of two classifiers on the target, minimised by features (Saito et al. 2018)",
            {"knows": "–"},
        ),
        "dda_mlic": Entry(
            "microg_da.adaptation.dda_mlic:DDAMLIC",
            "matching distributions of probabilities, without a discriminator (Singh et al. 2024)",
            {"knows": "–"},
        ),
        "mcc": Entry(
            "microg_da.adaptation.mcc:MCC",
            "minimal confusion of each class with its absence on the target (Jin et al. 2020)",
            {"knows": "–"},
        ),
        "mean_teacher": Entry(
            "microg_da.adaptation.mean_teacher:MeanTeacher",
            "self-training: the student learns rolled clips from a moving-average teacher",
            {"knows": "rolls, class rates"},
        ),
        "mic": Entry(
            "microg_da.adaptation.mic:MIC",
            "self-training: the student learns masked clips from a moving-average teacher (Hoyer et al. 2023)",
            {"knows": "class rates"},
        ),
        "self_training": Entry(
            "microg_da.adaptation.self_training:SelfTraining",
            "ours: rounds of soft pseudo-labels averaged over camera rolls (after Lee 2013)",
            {"knows": "rolls, class rates"},
        ),
        "gravity_self_training": Entry(
            "microg_da.adaptation.gravity_self_training:GravitySelfTraining",
            "ours: self-training on target clips turned upright, in rounds of angles and labels",
            {"knows": "rolls, class rates"},
        ),
        "gravity_training": Entry(
            "microg_da.adaptation.gravity_training:GravityTraining",
            "ours: any training method on target clips turned upright",
            {"knows": "rolls"},
        ),
        "shot": Entry(
            "microg_da.adaptation.shot:SHOT",
            "source-free: information maximisation and pseudo-labels (Liang et al. 2020)",
            {"knows": "–"},
        ),
        "atcon": Entry(
            "microg_da.adaptation.atcon:ATCoN",
            "source-free: attentive temporal consistency between slices of a clip (Xu et al. 2022)",
            {"knows": "–"},
        ),
        "aad": Entry(
            "microg_da.adaptation.aad:AaD",
            "source-free: attraction of neighbours and dispersion of others in feature space (Yang et al. 2022)",
            {"knows": "–"},
        ),
        "pets": Entry(
            "microg_da.adaptation.pets:PETS",
            "source-free: two teachers, one of which is exchanged with the student (Liu et al. 2023)",
            {"knows": "–"},
        ),
        "dru": Entry(
            "microg_da.adaptation.dru:DRU",
            "source-free: a teacher follows the student while its uncertainty decreases (Khanh et al. 2024)",
            {"knows": "–"},
        ),
        "prototype_calibration": Entry(
            "microg_da.adaptation.prototype_calibration:PrototypeCalibration",
            "ours, source-free: shot with prototypes of classes and groups (terms of Li et al. 2025)",
            {"knows": "–"},
        ),
        "rotation_consistency": Entry(
            "microg_da.adaptation.rotation_consistency:RotationConsistency",
            "ours: consistent predictions and features of target people under two camera rolls",
            {"knows": "rolls"},
        ),
        "rotation_pretext": Entry(
            "microg_da.adaptation.rotation_pretext:RotationPretext",
            "pretext task: prediction of the roll between two views (after Gidaris et al. 2018)",
            {"knows": "rolls"},
        ),
        "instance_mixing": Entry(
            "microg_da.adaptation.instance_mixing:InstanceMixing",
            "source people pasted into target clips, pseudo-labels of a teacher (Lu et al. 2023)",
            {"knows": "class rates"},
        ),
        "source_finetune": Entry(
            "microg_da.adaptation.source_finetune:SourceFinetune",
            "no adaptation: the same training on the source only, a control for augmentation",
            {"knows": "–"},
        ),
        "joint": Entry(
            "microg_da.adaptation.joint:Joint",
            "oracle: trained on labelled source and labelled target clips",
            {"knows": "–"},
        ),
        "target_supervised": Entry(
            "microg_da.adaptation.target_supervised:TargetSupervised",
            "oracle: trained on labelled target clips, the upper bound",
            {"knows": "–"},
        ),
    },
    group="microg_da.adaptations",
    check="microg_da.adaptation.base:check_outside_method",
)


def knowledge(config: Config) -> frozenset[str]:
    """Return the prior knowledge of the domain shift that the methods and the adaptation rolls of a run use.

    The values are those of :data:`microg_da.adaptation.base.Knowledge`. Compare the scores of a run only with those of
    runs that use the same knowledge.

    Raises:
        InputError: if there is no such method.
    """
    settings = config.adaptation
    parts = ((settings.name, settings.args), (settings.test_time, settings.test_time_args))
    known: frozenset[str] = frozenset({"rolls"}) if settings.rotation else frozenset()
    return known.union(*(ADAPTATIONS.load(name).knowledge_with(args) for name, args in parts if name is not None))


def list_adaptations(pattern: str = "*") -> list[str]:
    """Return the names of the adaptation methods of this package and of installed packages with entry points.

    Example:
        >>> from microg_da import list_adaptations
        >>> list_adaptations("gravity_*")
        ['gravity_frame', 'gravity_self_training', 'gravity_training']

    Args:
        pattern: a shell-style pattern.
    """
    return ADAPTATIONS.names(pattern)


def uses_target_labels(config: Config) -> bool:
    """Return whether the run is an oracle: target labels are used in training or in selection of the adapted model.

    This imports the classes of both methods.

    Raises:
        InputError: if there is no such method.
    """
    if config.oracle or config.selection == "oracle":
        return True
    names = (config.adaptation.name, config.adaptation.test_time)
    return any(ADAPTATIONS.load(name).uses_target_labels for name in names if name is not None)


__all__ = ["ADAPTATIONS", "knowledge", "list_adaptations", "uses_target_labels"]
