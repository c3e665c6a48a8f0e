import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lapa_ray.actors.learner import BATCHES_A_MESSAGE, Learner, LearnerConfig, LearnerResources
from lapa_ray.core.errors import LapaError
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Batch

NETWORK = QNetworkConfig(channels=(4, 8, 8), hidden=32, frame_stack=2)
NUM_ACTIONS = 3
GAMMA = 0.9


ONE_THREAD = LearnerResources(device="cpu", num_threads=1)
SWITCHES = {
    "dueling": {"network": {"dueling": True}},
    "noisy": {"network": {"noisy": True}},
    "impala": {"network": {"torso": "impala_light", "impala_channels": (4, 4, 4)}},
    "quantile": {"network": {"head": "quantile", "num_quantiles": 4, "num_target_quantiles": 4}},
    "munchausen": {"learner": {"munchausen": True}},
    "value_rescaling": {"learner": {"value_rescaling": True}},
}


def learner(network=NETWORK, source=None, seed=0, resources=ONE_THREAD, obs_shape=(84, 84), **fields) -> Learner:
    config = LearnerConfig(gamma=GAMMA, batch_size=4, **fields)
    return Learner(NUM_ACTIONS, network, config, resources, seed, source, obs_shape)


def batch(size=4, seed=0, **columns) -> Batch:
    generator = np.random.default_rng(seed)
    fields = {
        "windows": generator.integers(0, 256, (size, NETWORK.frame_stack + 1, 84, 84), dtype=np.uint8),
        "actions": generator.integers(0, NUM_ACTIONS, size),
        "rewards": generator.normal(size=size).astype(np.float32),
        "discounts": np.where(np.arange(size) % 2 == 1, 0, GAMMA).astype(np.float32),
        "weights": np.linspace(0.25, 1, size, dtype=np.float32),
        "ids": np.arange(size),
    }
    return Batch(**{**fields, **columns})


def networks_of(one: Learner) -> tuple[QNetwork, QNetwork]:
    """Online and target network of a learner, rebuilt from its state."""
    state, pair = one.get_state(), []
    for name in ("network", "target"):
        network = QNetwork(NUM_ACTIONS, NETWORK)
        network.load_state_dict(state[name])
        pair.append(network)
    return pair[0], pair[1]


def train_apart(one: Learner, updates: int = 3) -> None:
    """Make online and target network differ."""
    for seed in range(updates):
        one.update(batch(seed=seed))


def test_td_errors_are_those_of_double_dqn():
    one = learner()
    state = one.get_state()
    state["target"]["head.bias"] = torch.tensor([-1.0, 0.0, 1.0])
    one.set_state(state)
    online, target = networks_of(one)
    given = batch(seed=9)
    td_errors, metrics = one.update(given)
    with torch.no_grad():
        values = online(torch.tensor(given.obs_tm1)).numpy()
        best = online(torch.tensor(given.obs_t)).numpy().argmax(axis=1)
        next_values = target(torch.tensor(given.obs_t)).numpy()
    assert not np.array_equal(best, next_values.argmax(axis=1)), "here double DQN must differ from DQN"
    rows = np.arange(4)
    targets = given.rewards + given.discounts * next_values[rows, best]
    expected = np.abs(targets - values[rows, given.actions])
    np.testing.assert_allclose(td_errors, expected, rtol=1e-4, atol=1e-5)
    huber = np.where(expected <= 1, expected**2 / 2, expected - 0.5)
    assert metrics["loss"] == pytest.approx(float((given.weights * huber).mean()), rel=1e-4)
    assert metrics["mean_q"] == pytest.approx(float(values.mean()), rel=1e-3, abs=1e-6)
    assert metrics["variance_q"] == pytest.approx(float(values.var()), rel=1e-3, abs=1e-6)
    assert metrics["max_q"] == pytest.approx(float(values.max()), rel=1e-4)
    assert metrics["td_error"] == pytest.approx(float(expected.mean()), rel=1e-4)


def test_the_next_stack_is_n_steps_later():
    given = batch(windows=np.random.default_rng(3).integers(0, 256, (4, NETWORK.frame_stack + 3, 84, 84), np.uint8))
    given = dataclasses.replace(given, n_step=3)
    one = learner()
    online, _ = networks_of(one)
    td_errors, _ = one.update(given)
    with torch.no_grad():
        values = online(torch.tensor(given.windows[:, :2])).numpy()
        next_values = online(torch.tensor(given.windows[:, 3:])).numpy().max(axis=1)
    targets = given.rewards + given.discounts * next_values
    expected = np.abs(targets - values[np.arange(4), given.actions])
    np.testing.assert_allclose(td_errors, expected, rtol=1e-4, atol=1e-5)


def test_it_overfits_one_batch():
    one = learner(learning_rate=1e-3, target_update_period_updates=10_000)
    given = batch(discounts=np.zeros(4, dtype=np.float32))
    first, _ = one.update(given)
    for _ in range(150):
        last, _ = one.update(given)
    assert first.mean() > 0.3
    assert last.max() < 0.05


def test_the_target_network_is_copied_every_period():
    one = learner(target_update_period_updates=3)
    for update in range(1, 7):
        one.update(batch(seed=update))
        online, target = networks_of(one)
        same = torch.equal(online.head.weight, target.head.weight)
        assert same == (update % 3 == 0)


def test_gradients_are_scaled_to_the_norm():
    """Plain gradient descent shows what Adam hides: the step is the clipped gradient."""
    one = learner(max_gradient_norm=0.01)
    one._update._optimizer = torch.optim.SGD(one._update.network.parameters(), lr=1.0)
    before = one.weights()
    _, metrics = one.update(batch(rewards=np.full(4, 50, dtype=np.float32)))
    moved = np.sqrt(sum(np.sum((one.weights()[name] - value) ** 2) for name, value in before.items()))
    assert metrics["gradient_norm"] > 0.1
    assert moved == pytest.approx(0.01, rel=1e-2)


def test_a_state_goes_on_alike(tmp_path):
    one, other = learner(seed=1), learner(seed=2)
    train_apart(one)
    save_checkpoint(tmp_path / "one.pth", {"learner": one.get_state(), "limiter": {"inserts": 5}})
    assert other.load(tmp_path / "one.pth") == {"limiter": {"inserts": 5}}
    assert other.num_updates == one.num_updates == 3
    for _ in range(2):
        np.testing.assert_array_equal(one.update(batch(seed=5))[0], other.update(batch(seed=5))[0])


def test_a_checkpoint_of_another_shape_is_named(tmp_path):
    wide = learner(network=QNetworkConfig(channels=(4, 8, 8), hidden=64, frame_stack=2))
    save_checkpoint(tmp_path / "wide.pth", {"learner": wide.get_state()})
    with pytest.raises(LapaError, match=r"wide\.pth: weights of another network shape \(.* \(64, 392\), \(32, 392\)"):
        learner().load(tmp_path / "wide.pth")


class Source:
    """Made batches, `bad` of which has a reward that is no number; remembers what it was asked and told."""

    def __init__(self, bad: int | None = None) -> None:
        self.asked, self.told, self._bad = [], [], bad

    def batches(self, num_updates_done, count):
        for index in range(count):
            self.asked.append(num_updates_done + index)
            given = batch(seed=index, ids=np.arange(4) + 10 * index)
            if self.asked[-1] == self._bad:
                given.rewards[2] = np.nan
            yield given

    def give_td_errors(self, ids, td_errors):
        self.told.append((ids.tolist(), td_errors.shape))


def test_a_loss_that_is_no_number_ends_the_run_by_name():
    with pytest.raises(LapaError, match=r"update 0: the loss is nan; try a lower --learner.learning_rate"):
        learner().update(batch(rewards=np.full(4, np.nan, dtype=np.float32)))


def test_what_a_bad_number_has_touched_is_never_given_out():
    """Neither to the replay, nor to workers, nor to a checkpoint; the last state goes on."""
    source = Source(bad=4)
    one = learner(source=source)
    one.train(3)
    saved = one.get_state()
    with pytest.raises(LapaError, match="update 4: the loss is nan"):
        one.train(3)
    assert [ids[::4] for ids, _ in source.told] == [[0, 10, 20]], "updates 0 to 2; 3 and 4 were to go in one message"
    for give in (one.weights, one.get_state, lambda: one.train(1), lambda: one.update(batch())):
        with pytest.raises(LapaError, match="update 4: the loss is nan"):
            give()
    one.set_state(saved)
    source._bad = None
    assert one.train(2).num_updates == 5
    assert all(np.isfinite(value).all() for value in one.weights().values())


def test_a_learner_knows_whether_it_is_valid():
    one = learner(target_update_period_updates=2)
    for seed in range(4):
        one.check_valid()
        one.update(batch(seed=seed))
    one.check_valid()
    one._update.network.head.bias.data[0] += 1
    with pytest.raises(AssertionError, match=r"head\.bias of the target was not copied"):
        one.check_valid()
    one._update.network.head.bias.data[0] = torch.nan
    with pytest.raises(AssertionError, match=r"head\.bias is not finite"):
        one.check_valid()


def test_a_gradient_that_is_no_number_is_named_at_the_report():
    """TD errors are finite here; weights of the batch that are not make the loss and its gradient so."""
    with pytest.raises(LapaError, match=r"updates 0 to 0: the mean loss is inf; try a lower"):
        learner().update(batch(weights=np.full(4, np.inf, dtype=np.float32)))


def test_train_makes_just_the_updates_that_it_was_granted():
    source = Source()
    one = learner(source=source)
    one.train(2)
    report = one.train(3)
    assert source.asked == [0, 1, 2, 3, 4]
    assert [(ids[::4], shape) for ids, shape in source.told] == [([0, 10], (8,)), ([0, 10, 20], (12,))]
    assert report.num_updates == one.num_updates == 5
    assert report.metrics["td_error"] > 0
    assert set(report.seconds) == {"waiting", "staging", "updating", "telling"}


def test_td_errors_go_in_messages_of_several_batches():
    source = Source()
    learner(source=source).train(2 * BATCHES_A_MESSAGE + 1)
    assert [len(ids) // 4 for ids, _ in source.told] == [BATCHES_A_MESSAGE, BATCHES_A_MESSAGE, 1]


def test_metrics_of_a_report_are_means_over_its_updates():
    """Those that single updates tell, of a learner that sees the same batches."""
    alone = learner()
    told = [alone.update(batch(seed=index, ids=np.arange(4)))[1] for index in range(3)]
    report = learner(source=Source()).train(3)
    for name, value in report.metrics.items():
        assert value == pytest.approx(np.mean([metrics[name] for metrics in told]), rel=1e-5), name


def test_the_default_update_is_the_first_version_s_to_the_last_bit():
    """Its arithmetic, written out as it was: targets of γ and terminated, two evaluations of the online network."""
    one = learner()
    train_apart(one)
    online, target = networks_of(one)
    given = batch(seed=9)
    windows, actions, rewards = (torch.tensor(column) for column in (given.windows, given.actions, given.rewards))
    terminated, weights = torch.tensor(given.discounts == 0), torch.tensor(given.weights)
    with torch.no_grad():
        best = online(windows[:, 1:]).argmax(dim=1, keepdim=True)
        next_values = target(windows[:, 1:]).gather(1, best).squeeze(1)
        targets = rewards + GAMMA * next_values * (~terminated).to(rewards.dtype)
    chosen = online(windows[:, :-1]).gather(1, actions[:, None]).squeeze(1)
    loss = (weights * F.huber_loss(chosen, targets, reduction="none")).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(online.parameters(), 1.0)
    optimizer = torch.optim.Adam(online.parameters(), lr=2.5e-4, fused=True)
    optimizer.load_state_dict(one.get_state()["optimizer"])
    optimizer.step()
    td_errors, metrics = one.update(given)
    np.testing.assert_array_equal(td_errors, (targets - chosen).detach().abs().numpy())
    assert metrics["loss"] == loss.item()
    assert metrics["gradient_norm"] == norm.item()
    for name, value in online.state_dict().items():
        np.testing.assert_array_equal(one.weights()[name], value.numpy())


def test_bfloat16_is_float32_within_its_precision():
    """8 bits of mantissa: each product is within 1/256; weights stay float32 and follow the same path."""
    exact, rounded = learner(), learner(resources=LearnerResources(device="cpu", num_threads=1, precision="bfloat16"))
    for seed in range(5):
        expected, told = exact.update(batch(seed=seed))
        td_errors, metrics = rounded.update(batch(seed=seed))
        np.testing.assert_allclose(td_errors, expected, atol=0.02)
        assert metrics == pytest.approx(told, rel=0.05, abs=0.02)
    assert td_errors.dtype == np.float32
    moved, to = exact.weights(), rounded.weights()
    start = learner().weights()
    step = np.concatenate([(moved[name] - start[name]).ravel() for name in moved])
    other = np.concatenate([(to[name] - start[name]).ravel() for name in moved])
    assert to["features.0.weight"].dtype == np.float32
    assert not np.array_equal(step, other), "bfloat16 was not used"
    assert np.corrcoef(step, other)[0, 1] > 0.9


def test_channels_last_is_the_same_but_for_rounding():
    plain, turned = learner(), learner(resources=ONE_THREAD.model_copy(update={"channels_last": True}))
    for seed in range(3):
        expected, told = plain.update(batch(seed=seed))
        td_errors, metrics = turned.update(batch(seed=seed))
        np.testing.assert_allclose(td_errors, expected, rtol=1e-4, atol=1e-5)
        assert metrics == pytest.approx(told, rel=1e-3, abs=1e-5)
    kernel = turned._update.network.features[2].weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    assert all(value.flags.c_contiguous for value in turned.weights().values())


def test_bfloat16_gradients_are_not_lost_in_a_cast_that_knew_none():
    """The first evaluation is without gradients: its casts of the weights must not serve the second."""
    one = learner(resources=LearnerResources(device="cpu", num_threads=1, precision="bfloat16"))
    _, metrics = one.update(batch())
    assert metrics["gradient_norm"] > 0.01
    assert all(parameter.grad is not None for parameter in one._update.network.parameters())


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_switch_goes_on_alike_from_its_state(switches, tmp_path):
    """Also what is drawn: the state holds torch's generator."""
    network = NETWORK.model_copy(update=switches.get("network", {}))
    make = partial(learner, network=network, **switches.get("learner", {}))
    one, other = make(), make(seed=1)
    one.update(batch(seed=1))
    save_checkpoint(tmp_path / "one.pth", {"learner": one.get_state()})
    expected = [one.update(batch(seed=seed))[0] for seed in (2, 3)]
    other.load(tmp_path / "one.pth")
    for seed, td_errors in zip((2, 3), expected, strict=True):
        np.testing.assert_array_equal(other.update(batch(seed=seed))[0], td_errors)


def test_colour_is_learnt_from():
    one = learner(obs_shape=(40, 40, 3))
    windows = np.random.default_rng(0).integers(0, 256, (4, 3, 40, 40, 3), dtype=np.uint8)
    _, metrics = one.update(batch(windows=windows))
    assert metrics["gradient_norm"] > 0


def test_a_cuda_graph_without_cuda_is_refused():
    resources = LearnerResources(device="cpu", num_threads=1, cuda_graph=True)
    with pytest.raises(LapaError, match=r"--resources\.cuda_graph: needs CUDA, and the learner runs on cpu; leave it"):
        learner(resources=resources)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_learner_on_cuda_learns_the_same_recorded_or_not():
    """Five updates, of which the recording makes the fourth and fifth."""
    told = []
    for cuda_graph in (False, True):
        source = Source()
        one = learner(resources=LearnerResources(device="cuda", cuda_graph=cuda_graph), source=source)
        report = one.train(5)
        assert [ids[0] for ids, _ in source.told] == [0, 10, 20, 30, 40]
        told.append((report.metrics, one.weights()))
    assert told[0][0] == pytest.approx(told[1][0], rel=1e-3)
    for name, value in told[0][1].items():
        np.testing.assert_allclose(told[1][1][name], value, rtol=1e-2, atol=1e-4)


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LapaError, match=r"--resources\.compile: torch\.compile needs a C\+\+ compiler"):
        learner(resources=LearnerResources(device="cpu", num_threads=1, compile=True))


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own modules
def test_a_compiled_learner_learns_the_same():
    plain = learner()
    compiled = learner(resources=LearnerResources(device="cpu", num_threads=1, compile=True))
    for seed in range(2):
        expected, told = plain.update(batch(seed=seed))
        td_errors, metrics = compiled.update(batch(seed=seed))
        np.testing.assert_allclose(td_errors, expected, rtol=1e-3, atol=1e-4)
        assert metrics == pytest.approx(told, rel=1e-3, abs=1e-4)


class BrokenOffSource:
    """Gives one batch, then is gone, once; later all that it is asked for."""

    def __init__(self) -> None:
        self.is_gone = True

    def batches(self, num_updates_done, count):
        for number in range(count):
            if number and self.is_gone:
                self.is_gone = False
                raise ConnectionError
            yield batch(seed=number, rewards=np.full(4, 1000 if self.is_gone else 0, dtype=np.float32))

    def give_td_errors(self, ids, td_errors):
        pass


def test_what_a_call_measured_that_was_broken_off_is_not_told_by_the_next():
    one = learner(source=BrokenOffSource())
    with pytest.raises(ConnectionError):
        one.train(2)
    report = one.train(1)
    assert report.num_updates == 2
    assert report.metrics["td_error"] < 10
