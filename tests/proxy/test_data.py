"""What a training reads, whatever its kind."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.proxy.config import Data
from lehr.proxy.data import open_data


def test_synthetic_data():
    source = open_data(Data(), 16)
    assert source.vocab_size == 512 and source.sequences is None
    assert source.train(5, 3).shape == (3, 17)
    np.testing.assert_array_equal(source.train(5, 3)[1:], source.train(6, 2))
    np.testing.assert_array_equal(source.validation(3)[:2], source.validation(2))
    assert (source.train(0, 2) != source.validation(2)).any()


def test_the_floor_is_the_languages_entropy():
    source = open_data(Data(), 48)
    surprisal = source.language.surprisal(source.validation(1000)).mean()
    assert source.entropy == pytest.approx(surprisal, abs=0.05)
    assert 0 < source.entropy_error < 0.001


def test_the_fingerprint_is_of_the_language():
    prints = [open_data(data, 16).fingerprint for data in (Data(), Data(seed=1), Data(vocab_size=64), Data())]
    assert len(set(prints)) == 3 and prints[0] == prints[-1]
    assert all(len(text) == 16 for text in prints)


def test_other_vocabularies():
    assert open_data(Data(vocab_size=64), 16).train(0, 100).max() < 64
    with pytest.raises(
        InputError, match=r"^data\.vocab_size must be 32 to 65536 for the synthetic language, got 8"
    ):
        open_data(Data(vocab_size=8), 16)


@pytest.mark.parametrize("kind", ["text", "tokens"])
def test_a_missing_path_is_refused(kind, tmp_path):
    with pytest.raises(InputError) as caught:
        open_data(Data(kind=kind, paths=(f"{tmp_path}/none",), vocab_size=257), 16)
    assert str(caught.value) == f"data.paths: {tmp_path}/none does not exist: give files or folders."
