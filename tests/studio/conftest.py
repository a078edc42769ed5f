"""A small fit to bundled runs, and studios that hold it; nothing of the studio is imported before a test asks."""

import pytest

LAWS = ("weight_norm", "effective_time", "tissue", "one_power")


@pytest.fixture(scope="session")
def fits():
    from lehr.cli.demo import BUNDLED
    from lehr.examples import load_examples
    from lehr.studio.work import fit_laws

    runs = tuple(load_examples().only(BUNDLED.train))
    return fit_laws(lambda name: None, LAWS, runs, 20)


@pytest.fixture(scope="session")
def fit_path(fits, tmp_path_factory):
    from lehr.fit.files import save_fits

    path = tmp_path_factory.mktemp("studio") / "FIT.json"
    save_fits(path, fits)
    return path


@pytest.fixture(scope="session")
def sweep_path(tmp_path_factory):
    """A fitted sweep of peak LRs, whose law needs a batch."""
    from tests.peaklr.made import BATCHES, made_sweep

    from lehr.peaklr.sweep_fit import fit_sweep, save_sweep_fit

    path = tmp_path_factory.mktemp("studio") / "SWEEP.json"
    save_sweep_fit(path, fit_sweep(made_sweep(batches=(6.5e4, *BATCHES, 2.1e6), count=6), "surface_surge", 8))
    return path


def holding(fits):
    """A client of a studio with the fits."""
    from tests.studio.asking import asker_of

    from lehr.cli.studio import encoders, sources_of
    from lehr.studio.state import Studio

    held = Studio(sources_of(None, ()), encoders())
    held.fits["given"] = fits
    return asker_of(held)


@pytest.fixture(scope="session")
def studio(fits):
    """One for questions that change nothing."""
    client, asker = holding(fits)
    with client:
        yield asker


@pytest.fixture
def fresh(fits):
    """One of its own for a test."""
    client, asker = holding(fits)
    with client:
        yield asker
