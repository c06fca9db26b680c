"""What is done to rewards before a critic learns them."""

from dataclasses import replace

from torch import Tensor, nn

from ornstein.data import spread
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import MinMax
from ornstein.errors import InputError, choose

RAW, RETURNS, MINUS_ONE = "raw", "returns", "minus_one"
HOW = (RAW, RETURNS, MINUS_ONE)
LARGEST = 1e15  # reward whose square, times a horizon, fits single precision


def episode_returns(data: Episodes) -> Tensor:
    """The sum (M,) of each episode's rewards, in double precision."""
    total = data.rew.double().cumsum(0)[data.ends]
    return total.diff(prepend=total.new_zeros(1))


class RewardScale(nn.Module):
    """Rewards as critics see them: `raw` as they are, `returns` stretched so that the best and the worst episode are
    1000 apart (IQL's for locomotion), `minus_one` less one at each step (IQL's for AntMaze).

    The range of returns is learned once, like other scales: critics go on in the units that they were trained in.
    """

    def __init__(self, how: str) -> None:
        """Raises `InputError` for another name."""
        super().__init__()
        self.how, self.range = choose("way to scale rewards", how, HOW), MinMax(1)

    def learn(self, data: Episodes) -> Episodes:
        """The same episodes with other rewards. Raises `InputError` for `returns` where the range was learned from
        episodes that all have the same return, and for rewards whose squares overflow."""
        if self.how == RETURNS:
            returns = episode_returns(data)
            self.range.learn(returns[:, None], "returns")
            if spread.constant(*self.range.ends).any():
                raise InputError(
                    f"rewards cannot be scaled by 'returns': all {len(returns)} episodes return "
                    f"{float(returns[0]):.6g}; expected some that differ; choose 'raw'"
                )
        scaled: Episodes = self(data)
        rew = scaled.rew
        if not (largest := float(rew.abs().max())) < LARGEST:
            raise InputError(
                f"a reward, scaled by '{self.how}', is {largest:g}: expected less than {LARGEST:g}, or its square "
                "overflows; repair the rewards, or give them in larger units"
            )
        return scaled

    def forward(self, data: Episodes) -> Episodes:
        """The same episodes with other rewards, in the range of returns that was learned before. Raises `InputError`
        where none was."""
        if self.how == RETURNS and not self.range.learned:
            raise InputError("rewards are scaled by 'returns', of which no range was learned: expected a trained one")
        return replace(data, rew=self.scaled(data.rew))

    def scaled(self, rew: Tensor) -> Tensor:
        """Rewards as critics see them, in the range of returns that was learned before."""
        if self.how == RETURNS:
            return rew * (500 / self.range.scale)  # half the range is 500
        return rew - 1 if self.how == MINUS_ONE else rew
