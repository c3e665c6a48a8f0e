import shutil

import numpy as np
import pytest
import torch

from lapa_ray.actors.learner import Learner, LearnerConfig, LearnerResources
from lapa_ray.core.errors import LapaError
from lapa_ray.models.checkpoint import save_checkpoint
from lapa_ray.models.q_network import QNetwork, QNetworkConfig
from lapa_ray.replay.chunk import Batch

NETWORK = QNetworkConfig(channels=(4, 8, 8), hidden=32, frame_stack=2)
NUM_ACTIONS = 3
GAMMA = 0.9


def learner(network=NETWORK, source=None, seed=0, **fields) -> Learner:
    config = LearnerConfig(gamma=GAMMA, batch_size=4, **fields)
    return Learner(NUM_ACTIONS, network, config, LearnerResources(device="cpu", num_threads=1), seed, source)


def batch(size=4, seed=0, **columns) -> Batch:
    generator = np.random.default_rng(seed)
    fields = {
        "windows": generator.integers(0, 256, (size, NETWORK.frame_stack + 1, 84, 84), dtype=np.uint8),
        "actions": generator.integers(0, NUM_ACTIONS, size),
        "rewards": generator.normal(size=size).astype(np.float32),
        "terminated": np.arange(size) % 2 == 1,
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
    targets = given.rewards + GAMMA * ~given.terminated * next_values[rows, best]
    expected = np.abs(targets - values[rows, given.actions])
    np.testing.assert_allclose(td_errors, expected, rtol=1e-4, atol=1e-5)
    huber = np.where(expected <= 1, expected**2 / 2, expected - 0.5)
    assert metrics["loss"] == pytest.approx(float((given.weights * huber).mean()), rel=1e-4)
    assert metrics["mean_q"] == pytest.approx(float(values.mean()), rel=1e-3, abs=1e-6)
    assert metrics["variance_q"] == pytest.approx(float(values.var()), rel=1e-3, abs=1e-6)
    assert metrics["max_q"] == pytest.approx(float(values.max()), rel=1e-4)
    assert metrics["td_error"] == pytest.approx(float(expected.mean()), rel=1e-4)


def test_it_overfits_one_batch():
    one = learner(learning_rate=1e-3, target_update_period_updates=10_000)
    given = batch(terminated=np.ones(4, dtype=bool))
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
    one._optimizer = torch.optim.SGD(one._network.parameters(), lr=1.0)
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


def test_a_loss_that_is_no_number_ends_the_run_by_name():
    with pytest.raises(LapaError, match=r"update 0: the loss is nan; try a lower --learner.learning_rate"):
        learner().update(batch(rewards=np.full(4, np.nan, dtype=np.float32)))


def test_train_makes_just_the_updates_that_it_was_granted():
    class Source:
        def __init__(self) -> None:
            self.asked, self.told = [], []

        def batches(self, num_updates_done, count):
            for index in range(count):
                self.asked.append(num_updates_done + index)
                yield batch(seed=index, ids=np.arange(4) + 10 * index)

        def give_td_errors(self, ids, td_errors):
            self.told.append((ids.tolist(), td_errors.shape))

    source = Source()
    one = learner(source=source)
    one.train(2)
    report = one.train(3)
    assert source.asked == [0, 1, 2, 3, 4]
    assert source.told[-1] == ([20, 21, 22, 23], (4,))
    assert report.num_updates == one.num_updates == 5
    assert report.metrics["td_error"] > 0


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    resources = LearnerResources(device="cpu", num_threads=1, compile=True)
    with pytest.raises(LapaError, match=r"--resources\.compile: torch\.compile needs a C\+\+ compiler"):
        Learner(NUM_ACTIONS, NETWORK, LearnerConfig(), resources, 0, None)


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own modules
def test_a_compiled_learner_learns_the_same():
    plain = learner()
    compiled = Learner(
        NUM_ACTIONS,
        NETWORK,
        LearnerConfig(gamma=GAMMA, batch_size=4),
        LearnerResources(device="cpu", num_threads=1, compile=True),
        0,
        None,
    )
    for seed in range(2):
        expected, told = plain.update(batch(seed=seed))
        td_errors, metrics = compiled.update(batch(seed=seed))
        np.testing.assert_allclose(td_errors, expected, rtol=1e-3, atol=1e-4)
        assert metrics == pytest.approx(told, rel=1e-3, abs=1e-4)
