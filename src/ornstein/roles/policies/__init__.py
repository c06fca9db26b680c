"""Policies: what to do now?"""

from ornstein.roles.policies.awr import AWR
from ornstein.roles.policies.bc import BC
from ornstein.roles.policies.bfn import BFN
from ornstein.roles.policies.cpql import CPQL
from ornstein.roles.policies.cql import CQL
from ornstein.roles.policies.decision_transformer import DecisionTransformer
from ornstein.roles.policies.diffusion_bc import DiffusionBC
from ornstein.roles.policies.diffusion_policy import DiffusionPolicy
from ornstein.roles.policies.diffusion_ql import DiffusionQL
from ornstein.roles.policies.dipo import DIPO
from ornstein.roles.policies.dppo import DPPO
from ornstein.roles.policies.dsrl import DSRL
from ornstein.roles.policies.dtql import DTQL
from ornstein.roles.policies.fpo import FPO
from ornstein.roles.policies.fql import FQL
from ornstein.roles.policies.idql import IDQL
from ornstein.roles.policies.ifql import IFQL
from ornstein.roles.policies.iql import IQL
from ornstein.roles.policies.qc import QC
from ornstein.roles.policies.qgpo import QGPO
from ornstein.roles.policies.qsm import QSM
from ornstein.roles.policies.qvpo import QVPO
from ornstein.roles.policies.rebrac import ReBRAC
from ornstein.roles.policies.sfbc import SfBC
from ornstein.roles.policies.srpo import SRPO
from ornstein.roles.policies.td3_bc import TD3BC
from ornstein.roles.policies.weighted_bc import WeightedBC

__all__ = [
    "AWR",
    "BC",
    "BFN",
    "CPQL",
    "CQL",
    "DIPO",
    "DPPO",
    "DSRL",
    "DTQL",
    "FPO",
    "FQL",
    "IDQL",
    "IFQL",
    "IQL",
    "QC",
    "QGPO",
    "QSM",
    "QVPO",
    "SRPO",
    "TD3BC",
    "DecisionTransformer",
    "DiffusionBC",
    "DiffusionPolicy",
    "DiffusionQL",
    "ReBRAC",
    "SfBC",
    "WeightedBC",
]
