"""Critics by temporal difference: the lesser is believed, and the best of several next actions."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.data.views import Transition
from ornstein.errors import InputError
from ornstein.roles.values.td import Reduce, TDCritics, softmax_mean


class Told(nn.Module):
    """Critics that say what they are told for each action, which stands in its one entry."""

    def __init__(self, *tables: list[float]):
        super().__init__()
        self.tables = torch.tensor(tables)  # (members, actions)

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.tables[:, act[:, 0].long()]


def critics(*tables: list[float], reduce: Reduce = "min") -> TDCritics:
    made = TDCritics(1, 1, 0.9, (4,), reduce=reduce)
    made.q_target, made.q = Told(*tables), Told([0.0] * 3, [0.0] * 3)  # type: ignore[assignment]
    return made


def batch(rew: list[float], done: list[float]) -> Transition:
    n = len(rew)
    return Transition(torch.zeros(n, 1), torch.zeros(n, 1), torch.tensor(rew), torch.zeros(n, 1), torch.tensor(done))


def test_max_backup_takes_each_critics_best_then_the_lesser() -> None:
    """Of actions 0, 1, 2 the first critic likes 2 best (6), the second 0 (5): 5 is believed, of the same action 4."""
    made = critics([1.0, 2.0, 6.0], [5.0, 0.0, 4.0])
    ahead = torch.tensor([[0.0], [1.0], [2.0], [1.0], [1.0], [1.0]])  # three for each of two observations
    loss = made.loss(batch([1.0, 2.0], [0.0, 0.0]), ahead)
    assert loss.item() == pytest.approx(2 * ((1 + 0.9 * 5.0) ** 2 + (2 + 0.9 * 0.0) ** 2) / 2)


def test_the_mean_of_all_critics_may_be_believed() -> None:
    """Of actions 0, 1, 2 they say (1, 2, 6) and (5, 0, 4), and the best of each counts: (6 + 5) / 2."""
    made = critics([1.0, 2.0, 6.0], [5.0, 0.0, 4.0], reduce="mean")
    loss = made.loss(batch([1.0], [0.0]), torch.tensor([[0.0], [1.0], [2.0]]))
    assert loss.item() == pytest.approx(2 * (1 + 0.9 * 5.5) ** 2)
    assert made.value(torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [2.0]])).tolist() == [3.0, 1.0, 5.0]
    with pytest.raises(InputError, match="unknown way to reduce critics 'max': expected one of mean, min"):
        TDCritics(1, 1, 0.9, (4,), reduce="max")  # type: ignore[arg-type]


def test_there_may_be_more_than_two() -> None:
    made = TDCritics(3, 2, 0.9, (8,), members=5, activation="gelu")
    obs, act = torch.randn(4, 3), torch.randn(4, 2)
    assert made.q(obs, act).shape == (5, 4)
    torch.testing.assert_close(made.value(obs, act), made.q_target(obs, act).amin(0))


def test_an_end_has_no_future() -> None:
    loss = critics([9.0] * 3, [9.0] * 3).loss(batch([1.0, 2.0], [1.0, 1.0]), torch.zeros(2, 1))
    assert loss.item() == pytest.approx(2 * (1 + 4) / 2)


def test_value_is_the_lesser_target_critic() -> None:
    made = critics([1.0, 2.0, 6.0], [5.0, 0.0, 4.0])
    assert made.value(torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [2.0]])).tolist() == [1.0, 0.0, 4.0]


def test_target_copies_move_nearer_and_the_target_is_held() -> None:
    made = TDCritics(1, 1, 0.9, (8,))
    for weight in made.q.parameters():
        weight.data += 1.0
    gap = (made.q.weights[0] - made.q_target.weights[0]).clone()
    made.update_target(0.25)
    torch.testing.assert_close(made.q.weights[0] - made.q_target.weights[0], 0.75 * gap)
    made.loss(batch([1.0], [0.0]), torch.zeros(1, 1)).backward()
    assert all(weight.grad is None for weight in made.q_target.parameters())


def test_between_the_mean_and_the_best() -> None:
    q = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(softmax_mean(q, 0.0), torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(softmax_mean(q, 100.0), torch.tensor([6.0, 0.0]))
    e = torch.tensor([1.0, 2.0, 6.0]).exp()
    torch.testing.assert_close(softmax_mean(q, 1.0)[0], (e * q[0]).sum() / e.sum())
