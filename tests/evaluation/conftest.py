import pytest

from tests.evaluation import reports


@pytest.fixture
def report():
    return reports.plain_report()


@pytest.fixture
def history():
    return reports.updates()


@pytest.fixture
def samples():
    return reports.evil_samples()
