"""The search stays in its ball, keeps the best point, and treats rows apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safesight.adversary import Budget, pgd
from safesight.errors import InputError


def start(rows: int = 2) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, 3, 6, 5), generator=rng) / 255


def darkness(pixels: Tensor) -> Tensor:
    return pixels.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("epsilon", [1, 4, 8, 16, 255])
def test_every_pixel_stays_within_the_ball_in_whole_steps(epsilon: float) -> None:
    found = pgd(start(), darkness, Budget(epsilon, 7)).best
    assert ((found - start()).abs() <= epsilon / 255 + 1e-6).all()
    assert ((found >= 0) & (found <= 1)).all()
    torch.testing.assert_close(found * 255, (found * 255).round(), atol=1e-3, rtol=0)


def test_it_finds_the_corner_of_the_ball() -> None:
    found = pgd(start(), darkness, Budget(8, 50)).best
    torch.testing.assert_close(found, (start() - 8 / 255).clamp(min=0), atol=1.1 / 255, rtol=0)


def test_the_best_point_is_kept_not_the_last() -> None:
    seen: list[Tensor] = []

    def rising(pixels: Tensor) -> Tensor:
        seen.append(pixels.detach())
        return pixels.mean(dim=(1, 2, 3)) * 0 + len(seen)

    found = pgd(start(), rising, Budget(8, 5))
    torch.testing.assert_close(found.best, seen[0], atol=0.51 / 255, rtol=0)
    assert found.losses[:, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_no_number_is_passed_over() -> None:
    seen: list[float] = []

    def broken_once(pixels: Tensor) -> Tensor:
        seen.append(0.0)
        return darkness(pixels) * (float("nan") if len(seen) == 1 else 1)

    found = pgd(start(), broken_once, Budget(8, 5))
    torch.testing.assert_close(darkness(found.best), found.losses[-1], atol=1 / 255, rtol=0)


def test_the_last_step_counts() -> None:
    found = pgd(start(), darkness, Budget(8, 1))
    assert (found.losses[1] < found.losses[0]).all()
    torch.testing.assert_close(darkness(found.best), found.losses[1], atol=1 / 255, rtol=0)


def test_a_batch_equals_its_rows() -> None:
    def own(pixels: Tensor) -> Tensor:
        return (pixels * torch.linspace(-1, 1, 5)).sum(dim=(1, 2, 3))

    both = pgd(start(), own, Budget(4, 40)).best
    alone = torch.cat([pgd(row[None], own, Budget(4, 40)).best for row in start()])
    torch.testing.assert_close(both, alone, atol=1.1 / 255, rtol=0)


def test_the_same_seed_gives_the_same_picture() -> None:
    first, second = (pgd(start(), darkness, Budget(8, 3), seed=4).best for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("epsilon", "steps", "said"),
    [(0, 5, "epsilon of 0"), (float("nan"), 5, "epsilon"), (300, 5, "255"), (8, 0, "0 steps")],
)
def test_a_budget_that_leaves_nothing_to_search_is_refused(epsilon, steps, said) -> None:
    with pytest.raises(InputError, match=said):
        Budget(epsilon, steps)
