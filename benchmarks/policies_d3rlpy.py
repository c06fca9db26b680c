"""Train one row of benchmarks/policies.py by d3rlpy 2.8, in an environment of its own; only that script calls this.

    python benchmarks/policies_d3rlpy.py ROW DATA.hdf5 POLICY.pt SEED UPDATES

Writes the greedy policy as TorchScript and prints the settings as one line of JSON. What ours and theirs can both be
told is told alike: rows a batch, widths, rates, the actor's cosine, normalised observations and actions, rewards.
"""

import json
import sys

import d3rlpy
import h5py
import torch
from d3rlpy.algos import BCConfig, IQLConfig, TD3PlusBCConfig
from d3rlpy.optimizers import AdamFactory
from d3rlpy.optimizers.lr_schedulers import CosineAnnealingLRFactory
from d3rlpy.preprocessing import MinMaxActionScaler, ReturnBasedRewardScaler, StandardObservationScaler


def main() -> None:
    row, data, policy, seed, updates = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    with h5py.File(data) as file:
        names = ("observations", "actions", "rewards", "terminals", "timeouts")
        columns = {name: file[name][()] for name in names}
    columns["terminals"], columns["timeouts"] = (
        columns["terminals"].astype("float32"),
        columns["timeouts"].astype("float32"),
    )
    dataset = d3rlpy.dataset.MDPDataset(**columns)
    shared = {
        "batch_size": 256,
        "observation_scaler": StandardObservationScaler(),
        "action_scaler": MinMaxActionScaler(),
    }
    if row == "bc":
        config = BCConfig(learning_rate=3e-4, policy_type="stochastic", **shared)
    elif row == "td3_bc":
        config = TD3PlusBCConfig(actor_learning_rate=3e-4, critic_learning_rate=3e-4, **shared)
    else:
        cosine = AdamFactory(lr_scheduler_factory=CosineAnnealingLRFactory(T_max=updates))
        config = IQLConfig(
            actor_optim_factory=cosine, reward_scaler=ReturnBasedRewardScaler(multiplier=1000.0), **shared
        )
    algorithm = config.create(device="cpu")
    algorithm.fit(
        dataset,
        n_steps=updates,
        n_steps_per_epoch=updates,
        show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    algorithm.save_policy(policy)
    versions = {"d3rlpy": d3rlpy.__version__, "torch": torch.__version__}
    print(json.dumps({"versions": versions, "config": json.loads(config.serialize()) | {"updates": updates}}))


main()
