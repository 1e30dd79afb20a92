from __future__ import annotations

import math
from itertools import pairwise, product
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.schema import Optimizer as OptimizerSettings
from core.schema import Schedule as ScheduleSettings
from core.training import optim
from tests.core.small import (
    clouds,
    column,
    epochs_of,
    linear,
    recipe_of,
    same,
    task_of,
    trained,
    weights_of,
)

OPTIMIZERS = get_args(OptimizerSettings.model_fields["name"].annotation)
SCHEDULES = get_args(ScheduleSettings.model_fields["name"].annotation)
RATE = 0.3


def schedule(name: str, steps: int = 100, warmup: float = 0.0, *others: str) -> optim.Schedule:
    wanted = (f"schedule.name={name}", f"schedule.warmup={warmup}", *others)
    return optim.schedule_of(recipe_of(*wanted), RATE, steps)


def shares(found: optim.Schedule) -> list[float]:
    """Of the base rate, at each step."""
    return [found.at(step) / RATE for step in range(found.steps)]


def course(optimizer: torch.optim.Optimizer, network: nn.Module, steps: int = 6) -> Tensor:
    """The weights after each of some steps down the same slope."""
    inputs, labels = clouds()
    places = []
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        places.append(weights_of(network))
    return torch.stack(places)


def built(network: nn.Module, *assignments: str, rate: float = 0.05) -> torch.optim.Optimizer:
    recipe = recipe_of("optimizer.weight_decay=0", *assignments)
    return optim.build(recipe, rate, [(network.parameters(), 1.0)])


@pytest.mark.parametrize(("optimizer", "name"), list(product(OPTIMIZERS, SCHEDULES)))
def test_every_optimizer_learns_on_every_schedule(optimizer: str, name: str):
    recipe = recipe_of(
        f"optimizer.name={optimizer}", f"schedule.name={name}", "schedule.epochs=3",
        "schedule.min_steps=12",
    )  # fmt: skip
    task = task_of(recipe, linear(), rate=optim.rate_of(recipe, "head"))
    _, events = trained(task)
    losses = [epoch.val["loss"] for epoch in epochs_of(events)]
    before = events[0].val["loss"]
    assert before > losses[0] > losses[1]
    assert losses[2] < losses[0]


@pytest.mark.parametrize(
    ("assignments", "theirs"),
    [
        (["sgd", 0.9, True], {"momentum": 0.9, "nesterov": True}),
        (["sgd", 0.9, False], {"momentum": 0.9}),
        (["sgd", 0.5, True], {"momentum": 0.5, "nesterov": True}),
        (["sgd", 0.0, False], {}),
    ],
)
def test_sgd_is_that_of_torch_with_the_same_numbers(assignments: list, theirs: dict):
    name, momentum, nesterov = assignments
    ours, reference = linear(), linear()
    optimizer = built(
        ours, f"optimizer.name={name}", f"optimizer.momentum={momentum}",
        f"optimizer.nesterov={str(nesterov).lower()}",
    )  # fmt: skip
    expected = course(torch.optim.SGD(reference.parameters(), lr=0.05, **theirs), reference)
    torch.testing.assert_close(course(optimizer, ours), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.9, 0.3])
def test_rmsprop_is_that_of_torch_with_the_same_momentum(momentum: float):
    ours, reference = linear(), linear()
    optimizer = built(ours, "optimizer.name=rmsprop", f"optimizer.momentum={momentum}", rate=1e-3)
    # timm forgets faster than torch's default, 0.99.
    theirs = torch.optim.RMSprop(reference.parameters(), lr=1e-3, alpha=0.9, momentum=momentum)
    torch.testing.assert_close(
        course(optimizer, ours), course(theirs, reference), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_and_adamw_are_those_of_torch(name: str):
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    ours, reference = linear(), linear()
    ours.bias.requires_grad_(False)
    reference.bias.requires_grad_(False)
    optimizer = built(ours, f"optimizer.name={name}", "optimizer.weight_decay=0.3")
    theirs = kind([reference.weight], lr=0.05, weight_decay=0.3)
    torch.testing.assert_close(
        course(optimizer, ours), course(theirs, reference), rtol=0, atol=1e-6
    )


def test_momentum_and_looking_ahead_each_change_the_course():
    kinds = [(0.0, "false"), (0.5, "false"), (0.9, "false"), (0.5, "true"), (0.9, "true")]
    ends = []
    for momentum, nesterov in kinds:
        network = linear()
        optimizer = built(
            network, "optimizer.name=sgd", f"optimizer.momentum={momentum}",
            f"optimizer.nesterov={nesterov}",
        )  # fmt: skip
        ends.append(course(optimizer, network)[-1])
    assert min((a - b).abs().max() for i, a in enumerate(ends) for b in ends[:i]) > 1e-3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_slope_matrices_shrink_and_norms_and_biases_stay(name: str):
    network = nn.Sequential(linear(), nn.BatchNorm1d(3))
    recipe = recipe_of(f"optimizer.name={name}", "optimizer.weight_decay=0.5")
    optimizer = optim.build(recipe, 0.01, [(network.parameters(), 1.0)])
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key, parameter in network.named_parameters():
        if parameter.ndim > 1:
            # Adaptive steps may carry the smallest ones beyond zero.
            assert parameter.detach().abs().sum() < before[key].abs().sum()
        else:
            assert parameter.equal(before[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_earlier_layers_take_smaller_steps(name: str):
    layers = [linear(width=3) for _ in range(3)]
    before = weights_of(layers[0])
    recipe = recipe_of(
        f"optimizer.name={name}", "optimizer.weight_decay=0", "schedule.warmup=0",
        "schedule.name=constant",
    )  # fmt: skip
    optimizer = optim.build(
        recipe, 0.1, [(layer.parameters(), 0.5 ** (2 - i)) for i, layer in enumerate(layers)]
    )
    optim.schedule_of(recipe, 0.1, 10).apply(optimizer, 0)
    for layer in layers:
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    steps = [(weights_of(layer) - before).abs().mean() for layer in layers]
    torch.testing.assert_close(torch.stack(steps[:2]) / steps[2], torch.tensor([0.25, 0.5]))


def test_what_does_not_learn_is_in_no_optimizer():
    network = nn.Sequential(linear(), linear(width=3))
    network[0].requires_grad_(False)
    optimizer = built(network)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in network[1].parameters()}


def test_the_rate_rises_in_the_warm_up():
    found = shares(schedule("constant", 100, 0.2))
    rising = found[:20]
    assert all(later > earlier for earlier, later in pairwise(rising))
    assert 0 < rising[0] < 0.1
    assert rising[-1] < 1
    assert found[20:] == [1.0] * 80


def test_a_cosine_ends_near_zero_and_is_half_at_half_time():
    found = shares(schedule("cosine", 100))
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert 0 < found[-1] < 0.001
    assert found == sorted(found, reverse=True)


@given(drops=st.integers(1, 100), steps=st.integers(1, 400), factor=st.floats(0.1, 0.9))
def test_steps_fall_exactly_as_often_as_asked_each_time_by_the_factor(
    drops: int, steps: int, factor: float
):
    settings = (f"schedule.factor={factor}", f"schedule.drops={drops}")
    found = shares(schedule("step", drops + steps, 0.0, *settings))
    levels = [round(math.log(share, factor)) for share in found]
    assert levels[0] == 0
    assert levels[-1] == drops
    assert {later - earlier for earlier, later in pairwise(levels)} <= {0, 1}
    assert found == pytest.approx([factor**level for level in levels])


def test_between_falls_lie_equally_many_steps():
    found = shares(schedule("step", 90, 0.0, "schedule.factor=0.5", "schedule.drops=2"))
    assert found == [1.0] * 30 + [0.5] * 30 + [0.25] * 30


@pytest.mark.parametrize("factor", [0.5, 0.01])
def test_an_exponential_falls_evenly_to_the_factor(factor: float):
    found = shares(schedule("exponential", 200, 0.0, f"schedule.factor={factor}"))
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(factor, rel=0.03)
    falls = [later / earlier for earlier, later in pairwise(found)]
    assert falls == pytest.approx([falls[0]] * len(falls))


def test_one_cycle_rises_from_a_25th_and_ends_near_zero():
    found = shares(schedule("one_cycle", 1000, 0.3))
    assert found[0] == pytest.approx(1 / 25, rel=0.01)
    assert found[300] == max(found) == 1.0
    assert found[:301] == sorted(found[:301])
    assert found[300:] == sorted(found[300:], reverse=True)
    assert 0 < found[-1] < 0.001


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_in_one_cycle_the_momentum_moves_against_the_rate(name: str):
    optimizer = built(linear(), f"optimizer.name={name}")
    found = schedule("one_cycle", 50, 0.3)
    rates, momenta = [], []
    for step in range(50):
        rates.append(found.apply(optimizer, step))
        (momentum,) = {
            group["betas"][0] if "betas" in group else group["momentum"]
            for group in optimizer.param_groups
        }
        momenta.append(momentum)
    slowest = min(momenta)
    assert slowest == pytest.approx(0.9 - optim.MOMENTUM_SWING)
    assert momenta[rates.index(max(rates))] == min(momenta)
    assert max(momenta) == pytest.approx(0.9 + optim.MOMENTUM_SWING, abs=0.001)
    order = sorted(range(50), key=rates.__getitem__)
    assert [momenta[k] for k in order] == sorted(momenta, reverse=True)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"one_cycle"}))
def test_elsewhere_the_momentum_stays_as_the_recipe_has_it(name: str):
    optimizer = built(linear(), "optimizer.name=sgd", "optimizer.momentum=0.7")
    for step in range(20):
        schedule(name, 20).apply(optimizer, step)
        assert {group["momentum"] for group in optimizer.param_groups} == {0.7}
    optimizer = built(linear(), "optimizer.name=adamw")
    before = optimizer.param_groups[0]["betas"]
    schedule(name, 20).apply(optimizer, 3)
    assert {group["betas"] for group in optimizer.param_groups} == {before}


def test_one_cycle_gives_no_momentum_to_who_wants_none():
    optimizer = built(
        linear(), "optimizer.name=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"
    )
    schedule("one_cycle").apply(optimizer, 7)
    assert {group["momentum"] for group in optimizer.param_groups} == {0}


def test_constant_is_constant():
    assert set(shares(schedule("constant"))) == {1.0}


def test_each_plateau_multiplies_the_rate_by_the_factor():
    found = schedule("plateau", 10, 0.0, "schedule.factor=0.2", "schedule.patience=3")
    assert found.patience == 3
    assert [found.at(5, plateaus) for plateaus in range(4)] == pytest.approx(
        [RATE, RATE * 0.2, RATE * 0.04, RATE * 0.008]
    )


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"plateau"}))
def test_other_schedules_have_no_plateaus(name: str):
    found = schedule(name)
    assert found.patience == 0
    assert found.at(3, 2) == found.at(3)


@pytest.mark.parametrize(("optimizer", "name"), list(product(OPTIMIZERS, SCHEDULES)))
def test_rate_and_momentum_depend_on_the_step_alone(optimizer: str, name: str):
    found = schedule(name, 9, 0.3)
    one = built(linear(), f"optimizer.name={optimizer}")
    for step in range(6):
        found.apply(one, step, plateaus=1)
    other = built(linear(), f"optimizer.name={optimizer}")
    schedule(name, 9, 0.3).apply(other, 8)
    found.apply(other, 5, plateaus=1)
    assert same(one.state_dict(), other.state_dict())


@given(
    name=st.sampled_from(SCHEDULES), steps=st.integers(1, 60), warmup=st.floats(0, 1),
    drops=st.integers(1, 9),
)  # fmt: skip
def test_no_rate_is_zero_or_above_the_base_rate(name: str, steps: int, warmup: float, drops: int):
    found = schedule(name, steps, warmup, f"schedule.drops={drops}")
    assert all(0 < share <= 1 + 1e-12 for share in shares(found))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_a_training_of_one_step_has_a_rate(name: str, warmup: float):
    (share,) = shares(schedule(name, 1, warmup))
    assert share == 1.0 if warmup == 0 else 0.04 <= share < 1


def test_few_images_get_more_epochs_until_there_are_enough_steps():
    recipe = recipe_of("schedule.epochs=10", "schedule.min_steps=100")
    assert [optim.epochs_of(recipe, steps) for steps in (1, 7, 10, 50)] == [100, 15, 10, 10]
    assert optim.epochs_of(recipe_of("schedule.epochs=10"), 1) == 10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_follow_the_batch_in_proportion_for_sgd_and_by_its_root_for_others(name: str):
    assert optim.scaled(0.1, name, 1) == pytest.approx(0.1)
    assert optim.scaled(0.1, name, 4) == pytest.approx(0.4 if name == "sgd" else 0.2)
    assert optim.scaled(0.1, name, 0.25) == pytest.approx(0.025 if name == "sgd" else 0.05)


def test_a_rate_that_is_named_is_taken_and_others_are_looked_up():
    assert optim.rate_of(recipe_of("optimizer.learning_rate=0.123"), "tune") == 0.123
    for name, (kind, wanted) in product(OPTIMIZERS, product(optim.RATES["sgd"], ("auto", "find"))):
        recipe = recipe_of(f"optimizer.name={name}", f"optimizer.learning_rate={wanted}")
        assert optim.rate_of(recipe, kind) == optim.RATES[name][kind]


@pytest.mark.parametrize(
    ("technique", "norm", "kind"),
    [
        ("last_stages", nn.BatchNorm2d(3), "tune"), ("finetune", nn.BatchNorm2d(3), "tune"),
        ("finetune", nn.LayerNorm(3), "tune_layer_norm"),
        ("gradual", nn.LayerNorm(3), "tune_layer_norm"),
        ("from_scratch", nn.BatchNorm2d(3), "scratch"),
        ("from_scratch", nn.LayerNorm(3), "scratch"),
    ],
)  # fmt: skip
def test_rates_are_looked_up_by_what_is_trained(technique: str, norm: nn.Module, kind: str):
    recipe = recipe_of(f"technique.name={technique}")
    assert optim.kind_of_rate(recipe, nn.Sequential(nn.Flatten(), norm)) == kind


def test_the_layers_decay_of_auto_is_one_from_scratch():
    assert optim.layer_decay_of(recipe_of("technique.name=from_scratch")) == 1.0
    assert optim.layer_decay_of(recipe_of("technique.name=finetune")) == optim.LAYER_DECAY
    assert optim.layer_decay_of(recipe_of("technique.layer_decay=0.5")) == 0.5


def test_l1_counts_the_sizes_of_matrices_that_learn_now():
    network = nn.Sequential(linear(), linear(width=3))
    optimizer = built(network)
    sizes = [float(layer.weight.detach().abs().sum()) for layer in network]
    assert float(optim.absolute_sum(optimizer).detach()) == pytest.approx(sum(sizes))
    network[0].requires_grad_(False)
    assert float(optim.absolute_sum(optimizer).detach()) == pytest.approx(sizes[1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_l1_brings_a_useless_input_near_zero_and_leaves_a_useful_one(name: str):
    inputs, labels = clouds(60)
    inputs[:, -1] = torch.randn(60, generator=torch.Generator().manual_seed(0))
    ends = {}
    for l1 in (0.0, 0.05):
        network = linear()
        recipe = recipe_of(
            f"optimizer.name={name}", f"optimizer.l1={l1}", "optimizer.weight_decay=0",
            "schedule.epochs=25",
        )  # fmt: skip
        rate = 0.05 if name in ("adam", "adamw") else 0.02
        trained(task_of(recipe, network, (inputs, labels), rate=rate))
        ends[l1] = network.weight.detach().abs()
    assert ends[0.05].sum() < 0.7 * ends[0.0].sum()
    assert ends[0.05][:, -1].max() < 0.03
    assert ends[0.0][:, -1].max() > 0.1
    assert ends[0.05].diagonal().min() > 0.1


def stride(clip: float) -> float:
    """How far one step goes whose batch is very wrong."""
    inputs, labels = clouds()
    network = linear()
    recipe = recipe_of(
        f"optimizer.clip={clip}", "optimizer.name=sgd", "optimizer.momentum=0",
        "optimizer.nesterov=false", "optimizer.weight_decay=0", "schedule.epochs=1",
        "schedule.warmup=0",
    )  # fmt: skip
    before = weights_of(network)
    trained(task_of(recipe, network, (1000 * inputs, labels), batch=48, rate=0.1))
    return float((weights_of(network) - before).norm())


def test_a_clipped_step_is_no_longer_than_rate_times_clip():
    assert stride(0.5) == pytest.approx(0.05, rel=1e-3)
    assert stride(2.0) == pytest.approx(0.2, rel=1e-3)
    assert stride(0.0) > 10


def test_the_steps_that_are_told_have_the_rates_of_the_schedule():
    recipe = recipe_of("schedule.name=one_cycle", "schedule.epochs=2")
    task = task_of(recipe, linear())
    _, events = trained(task)
    assert column(events, "rates") == [task.schedule.at(step) for step in range(8)]


def test_one_process_can_train_in_several_number_formats():
    device = torch.device("cpu")
    kinds = [optim.accelerator(device, kind).mixed_precision for kind in ("bf16", "fp32", "bf16")]
    assert kinds == ["bf16", "no", "bf16"]
