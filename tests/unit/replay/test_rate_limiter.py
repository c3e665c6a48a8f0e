import math

import pytest

from lapa_ray.replay.rate_limiter import RateLimiter


def test_no_sample_before_the_buffer_is_filled():
    limiter = RateLimiter(samples_per_insert=8, min_size=10, error_buffer=64)
    limiter.count_inserts(9)
    assert limiter.allowed_samples(size=9) == 0
    limiter.count_inserts(1)
    assert limiter.allowed_samples(size=10) == 0  # the filling earns none
    limiter.count_inserts(4)
    assert limiter.allowed_samples(size=14) == 32


def test_inserts_wait_for_samples_once_the_error_buffer_is_full():
    limiter = RateLimiter(samples_per_insert=8, min_size=10, error_buffer=64)
    assert limiter.allowed_inserts(size=0) == math.inf
    limiter.count_inserts(10)
    assert limiter.allowed_inserts(size=10) == 8
    limiter.count_inserts(8)
    assert limiter.allowed_inserts(size=18) == 0
    limiter.count_samples(32)
    assert limiter.allowed_inserts(size=18) == 4
    limiter.check_valid()


@pytest.mark.parametrize("samples_per_insert", [0.25, 1, 8, 12.5])
@pytest.mark.parametrize("sampler_is_quick", [True, False])
def test_the_number_of_samples_does_not_depend_on_who_is_quicker(samples_per_insert, sampler_is_quick):
    limiter = RateLimiter(samples_per_insert, min_size=50, error_buffer=samples_per_insert * 40 + 32)
    while limiter.num_inserts < 1000:
        room = limiter.allowed_inserts(limiter.num_inserts)
        limiter.count_inserts(int(min(20, room, 1000 - limiter.num_inserts)))
        batches = limiter.allowed_samples(limiter.num_inserts) // 32
        limiter.count_samples(32 * (batches if sampler_is_quick else min(batches, 1 if room < 20 else 0)))
        limiter.check_valid()
    limiter.count_samples(32 * (limiter.allowed_samples(1000) // 32))
    assert limiter.num_samples == int(samples_per_insert * 950) // 32 * 32


def test_a_state_goes_on_where_it_was():
    limiter, other = (RateLimiter(8, min_size=10, error_buffer=64) for _ in range(2))
    limiter.count_inserts(30)
    limiter.count_samples(96)
    other.set_state(limiter.get_state())
    assert other.allowed_samples(30) == limiter.allowed_samples(30) == 64


def test_a_lost_buffer_fills_again_without_earning():
    """30 inserts earned 160 samples, of which 64 are still to be taken when the buffer is lost."""
    limiter = RateLimiter(8, min_size=10, error_buffer=64)
    limiter.count_inserts(30)
    limiter.count_samples(96)
    limiter.refill(size=0)
    assert (limiter.allowed_samples(size=0), limiter.allowed_inserts(size=0)) == (0, math.inf)
    assert limiter.num_extra_inserts(size=0) == 10
    limiter.count_inserts(7)
    limiter.end_refill(size=5)  # two of them could not be kept
    assert limiter.num_extra_inserts(size=5) == 12
    limiter.count_inserts(6)
    limiter.end_refill(size=11)
    assert limiter.num_extra_inserts(size=11) == 13
    assert limiter.allowed_samples(size=11) == 64
    limiter.count_inserts(1)
    assert limiter.allowed_samples(size=12) == 72
    limiter.check_valid()


@pytest.mark.parametrize("size", [0, 4, 6, 10])
def test_a_buffer_lost_while_it_filled_for_the_first_time_is_filled_once_more(size):
    limiter = RateLimiter(8, min_size=10, error_buffer=64)
    limiter.count_inserts(6)
    limiter.refill(size)
    limiter.check_valid()
    missing = 10 - size
    assert limiter.num_extra_inserts(size) == max(0, missing - 4)
    limiter.count_inserts(missing)
    limiter.end_refill(10)
    limiter.check_valid()
    assert limiter.allowed_samples(10) == 0
    assert limiter.num_inserts - limiter.num_extra_inserts(10) == min(6 + missing, 10)


def test_samples_for_updates_that_were_lost_are_earned_again():
    limiter = RateLimiter(8, min_size=10, error_buffer=64)
    limiter.count_inserts(18)
    limiter.count_samples(64)
    assert limiter.allowed_samples(size=18) == 0
    limiter.set_samples(32)
    assert limiter.allowed_samples(size=18) == 32
    assert limiter.allowed_inserts(size=18) == 4


@pytest.mark.parametrize(("samples_per_insert", "min_size", "error_buffer"), [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_settings_without_sense_are_refused(samples_per_insert, min_size, error_buffer):
    with pytest.raises(ValueError, match="must be above 0"):
        RateLimiter(samples_per_insert, min_size, error_buffer)
