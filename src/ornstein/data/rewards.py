"""What is done to rewards before a critic learns them."""

from dataclasses import replace

from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.errors import InputError, choose

RAW, RETURNS, MINUS_ONE = "raw", "returns", "minus_one"
HOW = (RAW, RETURNS, MINUS_ONE)


def episode_returns(data: Episodes) -> Tensor:
    """The sum (M,) of each episode's rewards, in double precision."""
    total = data.rew.double().cumsum(0)[data.ends]
    return total.diff(prepend=total.new_zeros(1))


def scaled_rewards(data: Episodes, how: str) -> Episodes:
    """The same episodes with other rewards: `raw` as they are, `returns` stretched so that the best and the worst
    episode are 1000 apart (IQL's for locomotion), `minus_one` less one at each step (IQL's for AntMaze).

    Raises `InputError` for another name, or `returns` where all episodes have the same return.
    """
    if choose("way to scale rewards", how, HOW) == RAW:
        return data
    if how == MINUS_ONE:
        return replace(data, rew=data.rew - 1)
    returns = episode_returns(data)
    apart = float(returns.max() - returns.min())
    if not apart > 0:
        raise InputError(
            f"rewards cannot be scaled by 'returns': all {len(returns)} episodes return {float(returns[0]):.6g}; "
            "expected some that differ; choose 'raw'"
        )
    return replace(data, rew=data.rew * (1000 / apart))
