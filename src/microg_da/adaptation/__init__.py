"""Adaptation methods: one file each, and one line here.

To add a method, write ``adaptation/my_method.py`` with a class derived from
:class:`microg_da.adaptation.base.Adaptation`, and add its line to the table.
"""

from microg_da.registry import Entry, Registry

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
        "dann": Entry(
            "microg_da.adaptation.dann:DANN",
            "domain-adversarial RoI features by gradient reversal (Ganin et al. 2016)",
        ),
    },
)

__all__ = ["ADAPTATIONS"]
